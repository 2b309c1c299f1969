"""How long a run will take, from a short trial of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import KINDS, attached, make_settings
from pitune.tasks import Draw
from pitune.training.evaluate import evaluate_tensors
from pitune.training.fit import start_learner
from pitune.training.loop import OneTask, smoothed_losses
from pitune.training.settings import TrainingSettings

_LOOKED_AT = 64  # validation examples that are answered to see how long it takes


@dataclass(frozen=True)
class Expected:
    """How long a run will take at most, in seconds, and what that follows from; a run that stops early takes less."""

    seconds: float
    steps: int
    a_step: float

    @property
    def line(self) -> str:
        """All of it in one line."""
        minutes = self.seconds / 60
        said = f"{minutes:.0f} minutes" if minutes >= 2 else f"{self.seconds:.0f} seconds"
        return f"a fit of {self.steps} steps takes about {said} here, by a trial of {self.a_step:.2g} s a step"


def expected_time(
    backbone: Backbone, draw: Draw, *, method: str = "lora", settings: TrainingSettings | None = None, **config: Any
) -> Expected:
    """Return how long `fit_expert` of these arguments will take at most, roughly, by trying a step and an evaluation.

    Inputs are read once, which is what a first batch takes longer than a second; then there are steps, each of as many
    passes as are accumulated, and evaluations of all validation examples. Nothing is kept of the trial.
    """
    settings, kind = settings or TrainingSettings(), KINDS.get(method)
    own = make_settings(kind, backbone, **config)
    some = list(draw.train[: settings.batch_size])
    with attached(backbone, kind, own) as place:
        learner = start_learner(place, kind, own, None)
        for parameter, _ in learner.parameters():
            parameter.requires_grad_(True)
        feed = OneTask(draw, settings.batch_size)

        def step() -> None:
            batch = feed.batch(place, 0)
            losses = smoothed_losses(place, learner.tensors(), batch, settings.label_smoothing)
            losses.mean().backward()  # type: ignore[no-untyped-call]

        first, a_pass = _seconds(step), _seconds(step)
        seen = draw.validation[:_LOOKED_AT]
        look = _seconds(lambda: evaluate_tensors(place, learner.tensors(), draw.task, seen)) if seen else 0.0
    reading = max(0.0, first - a_pass) / max(1, len(some)) * len(draw.labels)
    looks = look / max(1, len(seen)) * len(draw.validation) * (settings.evaluations + 1)
    a_step = a_pass * settings.accumulation
    return Expected(reading + a_step * settings.steps + looks, settings.steps, a_step)


def _seconds(do: Callable[[], object]) -> float:
    start = perf_counter()
    do()
    return perf_counter() - start
