"""Several tasks as one that a backbone reads: each example brings its own texts and the answers it may choose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pitune.backbones import Batch, has_several_labels
from pitune.errors import InputError
from pitune.experts import Attached, Tensors
from pitune.processes import ALONE, Team
from pitune.tasks import Draw, Example, Task, Wording, loss_weights, open_image
from pitune.training.batching import epoch_batches
from pitune.training.evaluate import evaluate_tensors
from pitune.training.loop import Look, asked, part_of, weighted
from pitune.training.proportions import Mixing, quotas, turn

Scope = Literal["task", "union"]
SCOPES: tuple[Scope, ...] = ("task", "union")
MOST_VALIDATION = 64  # examples of each task that are looked at, so that many tasks cost no more than one large one
_SOME = 32


class _Kind(NamedTuple):
    """What the examples of one batch must have in common; tasks of several labels stay by themselves."""

    image: bool
    text: bool
    listed: bool
    alone: str


class Mixture:
    """What a run over many tasks learns from: batches of examples of several tasks, drawn by a rule.

    With the scope `task` an example's scores are over the answers of its own task, all others −inf; with `union`
    over those of all tasks, where equal names are one label, read as the first task that has it writes it. The
    backbone is given the answers of the tasks in a batch and no others. Examples of unlike inputs (an image, a
    text, both) go to different batches.
    """

    def __init__(self, draws: Sequence[Draw], mixing: Mixing, scope: Scope, size: int, seed: int) -> None:
        """Read the tasks' examples; raise `InputError` naming the task that cannot be part of a mixture."""
        _check(draws)
        self.name = " + ".join(draw.task.name for draw in draws)
        self._draws, self._mixing, self._scope = draws, mixing, scope
        self.size = sum(len(draw.train) for draw in draws)
        self._batch, self._seed = size, seed
        labels = _labels(draws) if scope == "union" else None
        self._examples = [[_merged(draw.task, one, labels) for one in draw.train] for draw in draws]
        self._kinds = [_kind(draw) for draw in draws]
        self._weights = {
            f"{draw.task.name}/{name}": weight
            for draw in draws
            if any(one.task.weights for one in draws)
            for part in (_validation(draw), draw.train)
            for name, weight in loss_weights(draw.task, part, draw.train).items()
        }
        self._quotas = quotas([len(draw.train) for draw in draws], mixing)
        self._tasks: dict[_Kind, Task] = {}
        of_kind: Counter[_Kind] = Counter()
        for kind, draw, quota in zip(self._kinds, draws, self._quotas, strict=True):
            self._tasks[kind] = _merged_task(self.name, kind, draw.task, labels)
            of_kind[kind] += quota
        wordings = _wordings(draws, labels)
        self._tasks = {kind: replace(task, wordings=wordings) for kind, task in self._tasks.items()}
        self._an_epoch = sum(-(-number // size) for number in of_kind.values())
        self._epoch, self._order = -1, list[tuple[Task, list[Example]]]()

    def check(self, place: Attached) -> None:
        """Raise `InputError` naming the task, before anything is trained, if its examples cannot be read.

        Every image is opened, and the backbone is given some examples of each task.
        """
        for draw in self._draws:
            examples = [*draw.train, *_validation(draw)]
            try:
                for example in examples:
                    if example.image is not None:
                        open_image(example)
                place.backbone.prepare(examples[:_SOME], draw.task)
            except InputError as error:
                raise InputError(f"{_refused(draw.task)}: {error}") from error

    def batch(self, place: Attached, index: int, among: Team = ALONE) -> Batch:
        """Return a step's examples, all of one kind of input, with the answers of their own tasks and no others."""
        epoch = index // self._an_epoch
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._ordered(epoch)
        task, examples = self._order[index % self._an_epoch]
        return part_of(place, task, examples, among)

    def look(self, place: Attached, tensors: Tensors) -> Look | None:
        """Return the means over tasks, each by its own metric and over its own answers."""
        parts: dict[str, dict[str, float]] = {}
        losses: list[float] = []
        for draw in self._draws:
            if _validation(draw):
                found = evaluate_tensors(place, tensors, draw.task, _validation(draw))
                ids = [f"{draw.task.name}/{one}" for one in found.ids]
                calibrated = weighted(found.calibrated, self.weights(ids))
                parts[draw.task.name] = {"validation": found.value, "validation_loss": float(calibrated.mean())}
                losses += calibrated.tolist()
        if not parts:
            return None
        value, loss = (
            sum(part[key] for part in parts.values()) / len(parts) for key in ("validation", "validation_loss")
        )
        return Look(value, loss, tuple(losses), parts)

    def weights(self, ids: Sequence[str]) -> Tensor | None:
        """Return the weights (B,) that each example's own task gives its class in the loss; None if no task does."""
        return torch.tensor([self._weights[name] for name in ids]) if self._weights else None

    def described(self) -> dict[str, Any]:
        """Return how each task asks and the ids of its examples, and how they are mixed: the key of a checkpoint."""
        return {
            "tasks": [
                {
                    "task": asked(one.task),
                    "examples": [[example.id for example in part] for part in (one.train, _validation(one))],
                }
                for one in self._draws
            ],
            "mixing": str(self._mixing),
            "scope": self._scope,
            "seed": self._seed,
            **({"weights": self._weights} if self._weights else {}),
        }

    def _ordered(self, epoch: int) -> list[tuple[Task, list[Example]]]:
        """Return an epoch's batches, each with the task to read it as."""
        drawn: dict[_Kind, list[Example]] = {kind: [] for kind in self._tasks}
        for i, (kind, examples) in enumerate(zip(self._kinds, self._examples, strict=True)):
            drawn[kind] += turn(examples, self._quotas[i], self._seed, i, epoch)
        batches = [
            (self._tasks[kind], batch)
            for kind, found in drawn.items()
            for batch in epoch_batches(found, self._batch, self._seed, epoch)
        ]
        order = np.random.default_rng([self._seed, epoch, len(batches)]).permutation(len(batches))
        return [batches[i] for i in order]


def _validation(draw: Draw) -> Sequence[Example]:
    """Return the examples of a task to stop by."""
    return draw.validation[:MOST_VALIDATION]


def _check(draws: Sequence[Draw]) -> None:
    """Raise `InputError` naming the first task without examples, with a wrong target, or with unlike inputs."""
    if not draws:
        raise InputError("a mixture of no tasks; expected one or more")
    seen: set[str] = set()
    for draw in draws:
        task, train = draw.task, draw.train
        if task.name in seen:
            raise InputError(f"{_refused(task)}: it is there twice; name every task once")
        seen.add(task.name)
        if not train:
            raise InputError(f"{_refused(task)}: it has no examples to train on")
        for example in (*train, *_validation(draw)):
            if _listed(task, example) and example.target not in task.candidates(example):
                raise InputError(f"{_refused(task)}: the target {example.target!r} of {example.id!r} is not an answer")
            if _inputs(task, example) != _inputs(task, train[0]):
                raise InputError(
                    f"{_refused(task)}: {example.id!r} and {train[0].id!r} have unlike inputs; expected an image, a "
                    "text, or both in every example, and answers to choose from in all or in none"
                )


def _refused(task: Task) -> str:
    return f"task {task.name!r} cannot be part of a mixture"


def _listed(task: Task, example: Example) -> bool:
    return bool(example.candidates or task.answers)


def _inputs(task: Task, example: Example) -> tuple[bool, bool, bool]:
    return example.image is not None, example.text is not None, _listed(task, example)


def _kind(draw: Draw) -> _Kind:
    alone = draw.task.name if has_several_labels(draw.task) else ""
    return _Kind(*_inputs(draw.task, draw.train[0]), alone)


def _labels(draws: Sequence[Draw]) -> Mapping[str, str]:
    """Return every answer of all tasks with its text, as the first task that has it writes it."""
    labels: dict[str, str] = {}
    for draw in draws:
        for answer in draw.task.answers or ():
            labels.setdefault(answer, draw.task.answer_text(answer))
    return labels


def _wordings(draws: Sequence[Draw], labels: Mapping[str, str] | None) -> dict[str, Wording]:
    """Return by its text how each answer is put into words, as the first task that has it says."""
    found: dict[str, Wording] = {}
    for draw in draws:
        listed = (answer for one in draw.train if _listed(draw.task, one) for answer in draw.task.candidates(one))
        for answer in dict.fromkeys([*(draw.task.answers or ()), *listed]):
            if not labels or labels.get(answer) in (None, draw.task.answer_text(answer)):
                found.setdefault(draw.task.answer_text(answer), draw.task.wording(answer))
    return found


def _merged(task: Task, example: Example, labels: Mapping[str, str] | None) -> Example:
    """Return an example with its texts in full, and the answers it chooses from as its own."""

    def text(answer: str) -> str:
        return (labels or {}).get(answer) or task.answer_text(answer)

    candidates = None
    if _listed(task, example):
        own = [text(answer) for answer in task.candidates(example)]
        candidates = tuple(dict.fromkeys([*(labels or {}).values(), *own]))
    return replace(
        example,
        id=f"{task.name}/{example.id}",
        target=text(example.target),
        text=task.input_text(example),
        candidates=candidates,
        references=tuple(text(answer) for answer in example.references) if has_several_labels(task) else (),
    )


def _merged_task(name: str, kind: _Kind, task: Task, labels: Mapping[str, str] | None) -> Task:
    """Return the task that a batch is read as; its answers are those that the batch's examples list."""
    if not kind.alone:
        return Task(name, {})
    own = [(labels or {}).get(answer) or task.answer_text(answer) for answer in task.answers or ()]
    return Task(name, {}, tuple(dict.fromkeys([*(labels or {}).values(), *own])), metric=task.metric)
