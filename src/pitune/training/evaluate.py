"""Score a task with an expert in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from pitune.backbones import Backbone, Batch, Matched, brief, has_open_answers, listed_answers, target_losses
from pitune.errors import InputError
from pitune.experts import Attached, Expert, Tensors, attached, check_tensors, merged
from pitune.tasks import Example, Task
from pitune.tasks.metrics import METRICS, compute_metric, compute_text_metric
from pitune.training.batching import by_length
from pitune.training.memory import in_halves

CHUNK = 64
_OCTAVES = tuple(step / 4 for step in range(-8, 13))  # of temperature, from a quarter to eight
_PRIOR = 1.0  # nats that an octave below 1 costs, squared: a half-normal prior of 0.7 octaves


@dataclass(frozen=True)
class Evaluation:
    """How well some examples were answered; `scores` (N, C), `target` (N,) and `losses` (N,) follow `ids`.

    Where answers differ by example, C is the most that any has, and the rest of a row is −inf. `written` holds
    the answers in words, where the metric reads them.
    """

    metric: str
    value: float
    ids: tuple[str, ...]
    scores: Tensor
    target: Tensor
    losses: Tensor
    relevant: Tensor | None = None
    written: tuple[str, ...] = ()

    @property
    def loss(self) -> float:
        """Return the mean loss."""
        return float(self.losses.mean())

    @property
    def calibrated(self) -> Tensor:
        """Return `calibrated_losses` (N,); where one answer alone is scored, the plain ones."""
        if self.scores.shape[1] < 2:
            return self.losses
        return calibrated_losses(self.scores, self.target, self.relevant)


def calibrated_losses(scores: Tensor, target: Tensor, relevant: Tensor | None = None) -> Tensor:
    """Return losses (N,) of scores (N, C) at the one temperature that suits these examples best (Guo et al., 2017).

    Few-shot training makes answers right and far too sure of themselves: the plain loss then rises while more
    and more is right, and would stop a run, or choose among experts, against what the metric says. The order
    of an example's answers does not depend on a temperature. Warmer is free; colder has a half-normal prior on
    its logarithm, so that a handful of examples that happen to be right cannot make themselves certain.
    """
    by_octave = {octave: target_losses((scores / 2.0**octave).log_softmax(-1), target, relevant) for octave in _OCTAVES}
    best = min(by_octave, key=lambda octave: float(by_octave[octave].sum()) + _PRIOR * min(octave, 0.0) ** 2)
    return by_octave[best]


def check_backbone(expert: Expert, backbone: Backbone) -> None:
    """Raise `InputError` unless the expert was trained on this backbone."""
    if expert.card.backbone != backbone.fingerprint:
        found, expected = brief(expert.card.backbone), brief(backbone.fingerprint)
        raise InputError(
            f"expert {expert.name!r} belongs to another backbone ({expert.card.base_model}, fingerprint {found}); "
            f"expected {backbone.name}, fingerprint {expected}"
        )


@dataclass(frozen=True)
class Calls:
    """What evaluation asks of a backbone, with or without an expert in place."""

    prepare: Callable[[Sequence[Example], Task], Batch]
    score: Callable[[Batch], Tensor]
    write: Callable[[Batch], list[str]]


@dataclass(frozen=True)
class _Row:
    example: Example
    scores: Tensor
    target: Tensor
    relevant: Tensor | None
    written: str


def evaluate_examples(task: Task, examples: Sequence[Example], calls: Calls) -> Evaluation:
    """Score examples in chunks of like length."""
    return _seen(task, _rows(task, examples, calls))


def evaluate_parts(
    backbone: Backbone, task: Task, parts: Sequence[tuple[Expert | None, Sequence[Example]]]
) -> Evaluation:
    """Score several parts of a task, each with an expert of its own, as if one had answered them all.

    This is how a way of training is judged by labels that it learned from: by folds, each answered by the expert that
    the other labels made.
    """
    rows: list[_Row] = []
    for expert, examples in parts:
        with calls_of(backbone, expert) as calls:
            rows += _rows(task, examples, calls)
    return _seen(task, rows)


def _rows(task: Task, examples: Sequence[Example], calls: Calls, title: str = "") -> list[_Row]:
    found: list[_Row] = []
    bar = tqdm(total=len(examples), unit="", desc=title, leave=False, disable=not title)
    with bar, torch.no_grad():
        for chunk in by_length(examples, CHUNK):
            batch = calls.prepare(chunk, task)
            scores = in_halves(lambda some: calls.score(some).float().cpu(), batch)
            written = _written(task, chunk, batch, scores, calls)
            target = batch.target.cpu()
            relevant = None if batch.relevant is None else batch.relevant.cpu()
            for i, example in enumerate(chunk):
                right = None if relevant is None else relevant[i]
                found.append(_Row(example, scores[i], target[i], right, written[i]))
            bar.update(len(chunk))
    return found


def _seen(task: Task, found: Sequence[_Row]) -> Evaluation:
    widest = max(len(row.scores) for row in found)
    scores = torch.stack([F.pad(row.scores, (0, widest - len(row.scores)), value=float("-inf")) for row in found])
    target = torch.stack([row.target for row in found])
    several = [row.relevant for row in found if row.relevant is not None]
    relevant = torch.stack(several) if several else None
    losses = target_losses(scores, target, relevant)
    lines = tuple(row.written for row in found)
    if METRICS.get(task.metric).reads == "text":
        value = compute_text_metric(task.metric, lines, [row.example.right for row in found])
    else:
        value = compute_metric(task.metric, scores, target, relevant, task.answers or ())
    ids = tuple(row.example.id for row in found)
    return Evaluation(task.metric, value, ids, scores, target, losses, relevant, lines)


def _written(task: Task, examples: Sequence[Example], batch: Batch, scores: Tensor, calls: Calls) -> list[str]:
    """Return each example's answer in words: the best of the listed ones, or what the backbone writes."""
    if METRICS.get(task.metric).reads != "text":
        return [""] * len(batch)
    if has_open_answers(examples, task):
        return calls.write(batch)
    listed = listed_answers(examples, task)
    return [listed[i] for i in scores.argmax(-1).tolist()]


def evaluate_tensors(attached_: Attached, tensors: Tensors, task: Task, examples: Sequence[Example]) -> Evaluation:
    """Score examples with the given tensors in the attached modules."""
    return evaluate_examples(task, examples, _calls_at(attached_, tensors))


def templates_of(backbone: Backbone, task: Task, expert: Expert | None) -> tuple[str, ...]:
    """Return what answers are matched as, with an expert's vectors in brackets; none where a backbone matches none."""
    if not isinstance(backbone, Matched):
        return ()
    if expert is None:
        return backbone.templates(task)
    with attached(backbone, expert.kind, expert.settings):
        return backbone.templates(task)


def evaluate_expert(
    backbone: Backbone, task: Task, expert: Expert | None, examples: Sequence[Example], *, title: str = ""
) -> Evaluation:
    """Score examples with an expert, or zero-shot with none; `title` names a bar of progress on stderr, if any."""
    with calls_of(backbone, expert) as calls:
        return _seen(task, _rows(task, examples, calls, title))


@contextmanager
def calls_of(backbone: Backbone, expert: Expert | None) -> Iterator[Calls]:
    """Give a backbone's calls with an expert in place, inside its weights where they can express it, or with none.

    Raise `InputError` if the expert belongs to another backbone, or its tensors do not fit.
    """
    if expert is None:
        yield _checked(Calls(backbone.prepare, backbone.scores, backbone.generate), backbone.name)
        return
    who = f"expert {expert.name!r}"
    check_backbone(expert, backbone)
    with attached(backbone, expert.kind, expert.settings) as place:
        check_tensors(place.shapes, expert.tensors, who)
    inside = merged(backbone, expert)
    if inside is not None:
        yield _checked(_calls_at(*inside), who)
        return
    with attached(backbone, expert.kind, expert.settings) as place:
        yield _checked(_calls_at(place, expert.tensors), who)


def _checked(calls: Calls, who: str) -> Calls:
    """Return calls that raise `InputError` where scores are no numbers: an answer by them would be none."""

    def score(batch: Batch) -> Tensor:
        scores = calls.score(batch)
        if scores.isnan().any():
            problem = f"{who} has scores that are no numbers (NaN), so that it answers nothing"
            raise InputError(f"{problem}; its values overflow: train it again, or load the backbone in float32")
        return scores

    return replace(calls, score=score)


def _calls_at(place: Attached, tensors: Tensors) -> Calls:
    return Calls(
        place.prepare,
        lambda batch: place.scores(tensors, batch),
        lambda batch: place.generate(tensors, batch),
    )
