"""How much of a task is learned from: fewer examples, or classes that count for more than others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from math import isfinite
from typing import Literal

from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks.task import Example, Split, Task

Weights = Mapping[str, float] | Literal["balanced"]
_SHOWN = 10


def limited(task: Task, most: int) -> Task:
    """Return the task with at most `most` examples of every part, evenly from its classes, whatever their order."""
    splits: dict[Split, Sequence[Example]] = {}
    for split, examples in task.splits.items():
        ranked = sorted((place, example.id, i) for i, (place, example) in enumerate(_places(examples)))[:most]
        kept = {i for _, _, i in ranked}
        splits[split] = tuple(example for i, (_, example) in enumerate(_places(examples)) if i in kept)
    return _narrowed(task, splits, f"limit {most}")


def capped(task: Task, most: int) -> Task:
    """Return the task with at most `most` training examples of every class, chosen by their ids alone.

    What has several labels counts for the one to learn from. Raise `InputError` if its answers are open, or it is 0.
    """
    if most < 1:
        raise InputError(f"the cap is {most}; expected 1 or more")
    if task.answers is None:
        raise InputError(f"task {task.name!r}: has open answers, and a cap is of a class; take a limit")
    train = tuple(example for place, example in _places(task.splits.get("train", ())) if place < most)
    return _narrowed(task, {**task.splits, "train": train}, f"cap {most}")


def weighted(task: Task, weights: Weights) -> Task:
    """Return the task with weights of classes in training's loss; those that are not named have 1.

    Raise `InputError` if a weight is not positive, or of a class that the task does not have.
    """
    if task.answers is None:
        raise InputError(f"task {task.name!r}: has open answers, and weights are of classes; leave them out")
    if isinstance(weights, str):
        if weights != "balanced":
            raise InputError(f"weights are {weights!r}; expected `balanced`, or a positive number for each class")
        return replace(task, weights=weights)
    for name, weight in weights.items():
        if name not in task.answers:
            some = ", ".join(islice(task.answers, _SHOWN))
            raise InputError(f"task {task.name!r}: has no class {name!r} to weight; expected one of: {some}")
        if not (isfinite(weight) and weight > 0):
            raise InputError(f"the weight of {name!r} is {weight}; expected a positive number")
    return replace(task, weights=dict(weights))


def loss_weights(task: Task, examples: Sequence[Example], seen: Sequence[Example]) -> dict[str, float]:
    """Return the weight of each example's loss by its id, of mean 1 over `examples`.

    It is its class's weight, and the mean over its labels where it has several. `balanced` is one over the number of
    the class's examples among those `seen` in training.
    """
    if isinstance(task.weights, str):
        times = Counter(answer for example in seen for answer in example.right)
        of_class: Mapping[str, float] = {answer: 1 / number for answer, number in times.items()}
        usual = 1 / max(1, min(times.values(), default=1))
    else:
        of_class, usual = task.weights, 1.0
    found = {
        example.id: sum(of_class.get(one, usual) for one in example.right) / len(example.right) for example in examples
    }
    mean = sum(found.values()) / max(1, len(found))
    return {name: weight / mean for name, weight in found.items()}


def _places(examples: Iterable[Example]) -> list[tuple[int, Example]]:
    """Return each example with its place among those of its class, in the order of a hash of their ids."""
    listed = list(examples)
    places: dict[int, int] = {}
    taken = Counter[str]()
    for i in sorted(range(len(listed)), key=lambda i: sha256_bytes(listed[i].id.encode(errors="replace"))):
        places[i] = taken[listed[i].target]
        taken[listed[i].target] += 1
    return [(places[i], example) for i, example in enumerate(listed)]


def _narrowed(task: Task, splits: Mapping[Split, Sequence[Example]], how: str) -> Task:
    if splits == task.splits:
        return task
    return replace(task, splits=splits, data_hash=task.data_hash and sha256_bytes(f"{task.data_hash} {how}".encode()))
