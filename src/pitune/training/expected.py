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
from pitune.training.settings import TrainingSettings, folds_of, target_training

_LOOKED_AT = 64  # validation examples that are answered to see how long it takes


@dataclass(frozen=True)
class Expected:
    """How long a fit will take at most, in seconds, and what that follows from; runs that stop early take less.

    `runs` are how often it trains: once, and once for each fold of the labels that judges it.
    """

    seconds: float
    runs: int
    steps: int
    a_step: float

    @property
    def line(self) -> str:
        """All of it in one line."""
        minutes = self.seconds / 60
        said = f"{minutes:.0f} minutes" if minutes >= 2 else f"{self.seconds:.0f} seconds"
        runs = f"{self.runs} runs of {self.steps} steps" if self.runs > 1 else f"{self.steps} steps"
        return f"a fit takes about {said} here: {runs}, by a trial of {self.a_step:.2g} s per step"


def expected_time(
    backbone: Backbone,
    draw: Draw,
    *,
    method: str = "lora",
    folds: int | None = None,
    settings: TrainingSettings | None = None,
    **config: Any,
) -> Expected:
    """Return how long `fit_by_folds` of these arguments will take at most, roughly, by trying a step and an evaluation.

    Inputs are read once, which is what a first batch takes longer than a second; then there are runs of steps, each of
    as many passes as are accumulated, and evaluations: of all labels by the folds, or of those to stop by at every
    look. Nothing is kept of the trial.
    """
    folds = (folds_of(len(draw.labels)) if folds is None else folds) if draw.validation else 0
    kind = KINDS.get(method)
    learned = draw.labels if folds else draw.train
    settings = settings or target_training(len(learned), kind, stopped=not folds)
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
    seen_in_all = len(draw.labels) if folds else len(draw.validation) * (settings.evaluations + 1)
    runs, a_step = 1 + folds, a_pass * settings.accumulation
    seconds = reading + runs * settings.steps * a_step + look / max(1, len(seen)) * seen_in_all
    return Expected(seconds, runs, settings.steps, a_step)


def _seconds(do: Callable[[], object]) -> float:
    start = perf_counter()
    do()
    return perf_counter() - start
