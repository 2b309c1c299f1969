"""How long a run will take, from a short trial of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from pitune.backbones import Backbone
from pitune.experts import KINDS, Attached, attached, make_settings
from pitune.tasks import Draw
from pitune.training.evaluate import evaluate_tensors
from pitune.training.fit import start_learner
from pitune.training.loop import Learner, OneTask, try_step
from pitune.training.settings import PULL, TrainingSettings, folds_of, target_training

_LOOKED_AT = 64  # validation examples that are answered to see how long it takes
_LEAST, _STEPS, _TRIED = 3, 7, 2.0  # steps that are tried after the first: at least, at most, and seconds for more


@dataclass(frozen=True)
class Expected:
    """How long something will take at most, in seconds, and what that follows from; runs that stop early take less.

    `runs` are how often it trains: of a fit once, and once for each fold of the labels that judges it.
    """

    seconds: float
    runs: int
    steps: int
    a_step: float
    what: str = "a fit takes"

    @property
    def line(self) -> str:
        """All of it in one line."""
        minutes = self.seconds / 60
        said = f"{minutes:.0f} minutes" if minutes >= 2 else f"{self.seconds:.0f} seconds"
        runs = f"{self.runs} runs of {self.steps} steps" if self.runs > 1 else f"{self.steps} steps"
        return f"{self.what} about {said} here: {runs}, by a trial of {self.a_step:.2g} s per step"


@dataclass(frozen=True)
class Pace:
    """Seconds that an input takes when it is first read, a step, and an answer."""

    reading: float
    a_step: float
    an_answer: float


def pace_of(place: Attached, learner: Learner, draw: Draw, settings: TrainingSettings) -> Pace:
    """Return the pace of training a learner on a draw, by trying some steps and some answers.

    Inputs are read once, which is what a first step takes longer than the others; of these the median counts, since
    other work on the machine makes some of them slow. Nothing is kept of the trial.
    """
    some, seen = list(draw.train[: settings.batch_size]), draw.validation[:_LOOKED_AT]
    for parameter, _ in learner.parameters():
        parameter.requires_grad_(True)
    feed = OneTask(draw, settings.batch_size)

    def step() -> float:
        return _seconds(lambda: try_step(place, learner, feed, settings))

    first, steps = step(), [step() for _ in range(_LEAST)]
    while len(steps) < _STEPS and sum(steps) < _TRIED:
        steps.append(step())
    a_step = median(steps)
    look = _seconds(lambda: evaluate_tensors(place, learner.tensors(), draw.task, seen)) if seen else 0.0
    reading = max(0.0, first - a_step) / max(1, len(some) * settings.accumulation)
    return Pace(reading, a_step, look / max(1, len(seen)))


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

    All inputs are read once; then there are runs of steps, each of as many passes as are accumulated, and evaluations:
    of all labels by the folds, or of those to stop by at every look.
    """
    folds = (folds_of(len(draw.labels)) if folds is None else folds) if draw.validation else 0
    kind = KINDS.get(method)
    learned = draw.labels if folds else draw.train
    settings = settings or target_training(len(learned), kind, stopped=not folds)
    settings = settings.model_copy(update={"pull": settings.pull or PULL}) if folds else settings
    own = make_settings(kind, backbone, **config)
    with attached(backbone, kind, own) as place:
        pace = pace_of(place, start_learner(place, kind, own, None), draw, settings)
    seen_in_all = len(draw.labels) if folds else len(draw.validation) * (settings.evaluations + 1)
    runs = 1 + folds
    seconds = pace.reading * len(draw.labels) + runs * settings.steps * pace.a_step + pace.an_answer * seen_in_all
    return Expected(seconds, runs, settings.steps, pace.a_step)


def _seconds(do: Callable[[], object]) -> float:
    start = perf_counter()
    do()
    return perf_counter() - start
