"""What a run may see of a task: so many labels of every class, as a pure function of task, shots and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks.hashing import data_hash
from pitune.tasks.task import Example, Split, Task

_MOST_VALIDATION = 4


@dataclass(frozen=True)
class Draw:
    """The examples of a task to learn from and those to stop and choose by, and how they were drawn.

    `shots` is None where they are all there are; `short` names the classes that had fewer than that to train on.
    """

    task: Task
    train: tuple[Example, ...]
    validation: tuple[Example, ...] = ()
    shots: int | None = None
    seed: int = 0
    short: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[Example, ...]:
        """Every example: nothing else of the task may be seen."""
        return (*self.train, *self.validation)

    @property
    def name(self) -> str:
        """What an expert that learned from it is called, but for its kind: `digits-{kind}-4-0`."""
        return f"{self.task.stem}-{{kind}}-{'all' if self.shots is None else self.shots}-{self.seed}"

    def expert_name(self, kind: str) -> str:
        """Return the name of an expert of a kind that learned from it."""
        return self.name.format(kind=kind)

    @property
    def hash(self) -> str:
        """The SHA-256 of what it holds: the task's data and the ids of the examples, part by part."""
        parts = [[example.id for example in part] for part in (self.train, self.validation)]
        return sha256_bytes(f"{self.task.data_hash} {parts}".encode())

    @property
    def whole(self) -> Draw:
        """The same draw with every label to learn from and none to stop by."""
        return replace(self, train=self.labels, validation=())

    def folds(self, n: int) -> tuple[Draw, ...]:
        """Return n draws of the same labels, each of which keeps other ones to stop by; none is kept twice.

        Of every class as many are kept each time as `validation` holds of it, in the order of `validation` and then
        `train`, so that the first is this draw, and with as many to train on as to stop by two folds are the two halves
        exchanged. Where a class has not so many, its labels are dealt out evenly. Raise `InputError` if n is not
        positive, or more than the labels of any class, or there is nothing to exchange.
        """
        if n == 1:
            return (self,)
        if not self.validation:
            raise InputError(f"task {self.task.name!r}: has no validation labels; folds need some to exchange")
        of_class: dict[str, list[Example]] = defaultdict(list)
        for example in (*self.validation, *self.train):
            of_class[_class_of(self.task, example)].append(example)
        most = max(map(len, of_class.values()))
        if not 1 <= n <= most:
            raise InputError(f"found {n} folds; expected 1 to {most}, as many as a class has labels")
        return tuple(self._fold(i, n, of_class) for i in range(n))

    def _fold(self, i: int, n: int, of_class: Mapping[str, Sequence[Example]]) -> Draw:
        held: set[str] = set()
        for name, found in of_class.items():
            size = sum(_class_of(self.task, example) == name for example in self.validation)
            enough = n * size <= len(found)
            start, end = (place * size if enough else place * len(found) // n for place in (i, i + 1))
            held |= {example.id for example in found[start:end]}
        ordered = (*self.train, *self.validation)
        return replace(
            self,
            train=tuple(example for example in ordered if example.id not in held),
            validation=tuple(example for example in ordered if example.id in held),
        )


def few_shot(task: Task, shots: int | None = None, seed: int = 0, *, at_most: bool = False) -> Draw:
    """Return `shots` examples per class to train on and up to min(shots, 4) per class to validate on.

    They come from the task's train and validation parts; None means all of both. The result does
    not depend on the order of the task's examples, nor on the platform: examples are ranked by a
    hash of (data, shots, seed, example). A task that is not balanced gives what it has of a rare answer;
    one with open answers as well counts as a single class. With `at_most` a class that has fewer
    gives what there is, and `Draw.short` names it. Raises `InputError` if `shots` is not positive, a class
    has no examples, or fewer than `shots` to train on.
    """
    if shots is not None and shots < 1:
        raise InputError(f"shots is {shots}, expected 1 or more (or none at all for every example)")
    salt = f"{task.data_hash or data_hash(task.splits)} {shots} {seed}"
    few = shots or 1
    validation = None if shots is None else min(shots, _MOST_VALIDATION)
    return Draw(
        task=task,
        train=_ranked(task, "train", shots, 1 if at_most else shots or 1, salt),
        validation=_ranked(task, "validation", validation, 0 if at_most else 1, salt),
        shots=shots,
        seed=seed,
        short=tuple(name for name, found in _classes(task, "train").items() if task.balanced and len(found) < few),
    )


def spread(examples: Sequence[Example], most: int) -> list[Example]:
    """Return at most `most` examples, evenly spread over the sequence sorted by id."""
    ordered = sorted(examples, key=lambda example: example.id)
    step = max(1.0, len(ordered) / most)
    return [ordered[int(i * step)] for i in range(min(most, len(ordered)))]


def _ranked(task: Task, split: Split, most: int | None, fewest: int, salt: str) -> tuple[Example, ...]:
    classes = _classes(task, split)
    fewest = fewest if task.balanced else 0
    for target, found in classes.items():
        if len(found) < fewest:
            raise InputError(
                f"task {task.name!r}: class {target!r} has {len(found)} {split} example(s), expected at least "
                f"{fewest}; ask for fewer shots, take what there is (at most), or add examples"
            )

    def rank(example: Example) -> tuple[str, str]:
        return sha256_bytes(f"{salt} {split} {example.id}".encode()), f"{example.target} {example.text}"

    kept = [example for found in classes.values() for example in sorted(found, key=rank)[:most]]
    return tuple(sorted(kept, key=rank))


def _classes(task: Task, split: Split) -> dict[str, list[Example]]:
    """Return the part's examples by answer, with an empty list for an answer that has none."""
    classes: dict[str, list[Example]] = defaultdict(list)
    for answer in task.answers or ():
        classes[answer] = []
    for example in task.examples(split):
        classes[_class_of(task, example)].append(example)
    return classes


def _class_of(task: Task, example: Example) -> str:
    """Return the class that an example counts for: its answer, or one for all where answers are open."""
    return "" if task.answers is None and not task.balanced else example.target
