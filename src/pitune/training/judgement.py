"""What an evaluation says beyond one number: its interval, its classes, what is taken for what, and calibration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from pitune.errors import InputError
from pitune.tasks import Example, Task
from pitune.tasks.metrics import METRICS, compute_metric, compute_text_metric
from pitune.training.evaluate import Evaluation
from pitune.training.worth import wilson

BINS = 15
_RESAMPLES = 1_000
_WHOLE_RESAMPLES = 200  # where a metric is no mean over examples, and is computed anew for each
_FEWEST = 2


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ClassJudgement(_Model):
    """One class: `n` examples of it, how often it was `answered`, and the shares that were right.

    `recall` is of its examples, None of none; `precision` of its answers. Where an example may have several right
    answers, there is the average precision of its ranking instead.
    """

    name: str
    n: int
    answered: int | None = None
    recall: float | None = None
    precision: float | None = None
    average_precision: float | None = None


class Bin(_Model):
    """Answers whose probability is in (`low`, `high`]: how many, their mean probability and the share that is right."""

    low: float
    high: float
    n: int
    probability: float
    right: float


class Calibration(_Model):
    """How probable answers are said to be against how often they are right (Guo et al., 2017).

    `ece` is the expected calibration error, the mean over answers of |share right − mean probability| of their bin.
    """

    ece: float
    probability: float
    right: float
    bins: tuple[Bin, ...]


class Difference(_Model):
    """By how much one evaluation is above another, with the 95 % bootstrap interval over the same examples."""

    value: float
    low: float | None
    high: float | None

    @property
    def spread(self) -> str:
        """The interval in words, after a space; nothing where there is none."""
        return "" if self.low is None or self.high is None else f" [{self.low:+.3f}, {self.high:+.3f}]"


class Judgement(_Model):
    """A metric's value with its 95 % interval over examples, and what it is made of.

    The interval is Wilson's of a share that is right, a bootstrap's of any other metric; `low` and `high` are None
    where that cannot be computed on some of the resampled examples. `classes` and `confusion` (right answer → given
    answer → how many) are of tasks with listed answers, `calibration` of those where one of several answers is right.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    loss: float | None = None
    classes: tuple[ClassJudgement, ...] = ()
    confusion: dict[str, dict[str, int]] | None = None
    calibration: Calibration | None = None


def judge(task: Task, examples: Sequence[Example], seen: Evaluation) -> Judgement:
    """Return what an evaluation of some examples says in full."""
    share = seen.metric == "accuracy"
    low, high = wilson(seen.value, len(seen.ids)) if share else interval(resampled(task, examples, seen))
    chosen = seen.scores.shape[1] > 1
    single = chosen and seen.relevant is None
    return Judgement(
        metric=seen.metric,
        value=seen.value,
        low=low,
        high=high,
        n=len(seen.ids),
        loss=seen.loss if single and math.isfinite(seen.loss) else None,
        classes=_classes(task.answers, seen) if chosen and task.answers else (),
        confusion=_confusion(task.answers, seen) if single and task.answers else None,
        calibration=calibration(seen.scores, seen.target) if single else None,
    )


def resampled(task: Task, examples: Sequence[Example], seen: Evaluation) -> NDArray[np.float64] | None:
    """Return the metric of examples drawn anew with replacement, 1,000 times or, where it is no mean, 200 times.

    The draws follow from the number of examples, so that those of two evaluations of the same examples are paired. None
    where some draw has no value, as the area under a curve without examples of one class.
    """
    number = len(seen.ids)
    if number < _FEWEST:
        return None
    places = [{one.id: one for one in examples}[name] for name in seen.ids]
    generator = np.random.default_rng(number)
    if METRICS.get(seen.metric).mean:
        each = np.array([_metric(task, places, seen, [i]) for i in range(number)])
        return np.array([each[generator.integers(0, number, number)].mean() for _ in range(_RESAMPLES)])
    try:
        return np.array(
            [
                _metric(task, places, seen, generator.integers(0, number, number).tolist())
                for _ in range(_WHOLE_RESAMPLES)
            ]
        )
    except InputError:
        return None


def differences(task: Task, examples: Sequence[Example], seen: Mapping[str, Evaluation]) -> dict[str, Difference]:
    """Return by how much evaluations of the same examples differ from the first of them."""
    (first, base), *others = seen.items()
    drawn = {name: resampled(task, examples, one) for name, one in seen.items()}
    found = {}
    for name, one in others:
        pair = drawn[name], drawn[first]
        low, high = interval(None if pair[0] is None or pair[1] is None else pair[0] - pair[1])
        found[name] = Difference(value=one.value - base.value, low=low, high=high)
    return found


def interval(values: NDArray[np.float64] | None) -> tuple[float | None, float | None]:
    """Return the 95 % percentile interval of resampled values, None of none."""
    if values is None or not np.isfinite(values).all():
        return None, None
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def calibration(scores: Tensor, target: Tensor) -> Calibration:
    """Return how probable the best answers of log-scores (N, C) are, in 15 bins of equal width, and how often right."""
    probability, answered = scores.double().softmax(-1).max(-1)
    right = (answered == target).double()
    places = (probability * BINS).ceil().long().clamp(1, BINS) - 1
    bins = []
    for place in range(BINS):
        inside = places == place
        if bool(inside.any()):
            mean, share = float(probability[inside].mean()), float(right[inside].mean())
            limits = {"low": place / BINS, "high": (place + 1) / BINS}
            bins.append(Bin(**limits, n=int(inside.sum()), probability=mean, right=share))
    ece = sum(one.n * abs(one.right - one.probability) for one in bins) / len(target)
    return Calibration(ece=ece, probability=float(probability.mean()), right=float(right.mean()), bins=tuple(bins))


def _metric(task: Task, places: Sequence[Example], seen: Evaluation, rows: Sequence[int]) -> float:
    if METRICS.get(task.metric).reads == "text":
        return compute_text_metric(task.metric, [seen.written[i] for i in rows], [places[i].right for i in rows])
    at = torch.tensor(rows)
    relevant = None if seen.relevant is None else seen.relevant[at]
    return compute_metric(task.metric, seen.scores[at], seen.target[at], relevant, task.answers or ())


def _classes(answers: Sequence[str], seen: Evaluation) -> tuple[ClassJudgement, ...]:
    if seen.relevant is not None:
        return tuple(
            ClassJudgement(
                name=name,
                n=int(seen.relevant[:, i].sum()),
                average_precision=_average_precision(seen.scores[:, i], seen.relevant[:, i]),
            )
            for i, name in enumerate(answers)
        )
    answered = seen.scores.argmax(-1)
    right = (answered == seen.target).double()
    return tuple(
        ClassJudgement(
            name=name,
            n=int((seen.target == i).sum()),
            answered=int((answered == i).sum()),
            recall=_mean(right[seen.target == i]),
            precision=_mean(right[answered == i]),
        )
        for i, name in enumerate(answers)
    )


def _average_precision(scores: Tensor, relevant: Tensor) -> float | None:
    """Return the mean, over the examples of a class, of the precision down to their place in its ranking."""
    ranked = relevant[scores.argsort(descending=True, stable=True)].double()
    precision = ranked.cumsum(0) / torch.arange(1, len(ranked) + 1)
    return _mean(precision[ranked > 0])


def _mean(values: Tensor) -> float | None:
    return float(values.mean()) if len(values) else None


def _confusion(answers: Sequence[str], seen: Evaluation) -> dict[str, dict[str, int]]:
    pairs = Counter(zip(seen.target.tolist(), seen.scores.argmax(-1).tolist(), strict=True))
    found: dict[str, dict[str, int]] = {}
    for (right, answered), number in sorted(pairs.items()):
        found.setdefault(answers[right], {})[answers[answered]] = number
    return found
