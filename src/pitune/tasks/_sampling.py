"""Few-shot sampling: so many examples of every class, as a pure function of task, shots and seed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from pitune._files import sha256_bytes
from pitune.errors import InputError
from pitune.tasks._task import Example, Split, Task
from pitune.tasks._task_hash import data_hash

_MOST_VALIDATION = 4


@dataclass(frozen=True)
class FewShot:
    """The examples to learn from and those to stop by."""

    train: tuple[Example, ...]
    validation: tuple[Example, ...]


def few_shot(task: Task, shots: int | None, seed: int) -> FewShot:
    """Return `shots` examples per class to train on and up to min(shots, 4) per class to validate on.

    They come from the task's train and validation parts; None means all of both. The result does
    not depend on the order of the task's examples, nor on the platform: examples are ranked by a
    hash of (data, shots, seed, example). A task that is not balanced gives what it has of a rare answer;
    one with open answers as well counts as a single class. Raises `InputError` if `shots` is not positive, a class
    has no examples, or fewer than `shots` to train on.
    """
    if shots is not None and shots < 1:
        raise InputError(f"shots is {shots}, expected 1 or more (or none at all for every example)")
    salt = f"{task.data_hash or data_hash(task.splits)} {shots} {seed}"
    validation = None if shots is None else min(shots, _MOST_VALIDATION)
    return FewShot(
        train=_draw(task, "train", shots, shots or 1, salt),
        validation=_draw(task, "validation", validation, 1, salt),
    )


def _draw(task: Task, split: Split, most: int | None, fewest: int, salt: str) -> tuple[Example, ...]:
    classes = _classes(task, split)
    fewest = fewest if task.balanced else 0
    for target, found in classes.items():
        if len(found) < fewest:
            raise InputError(
                f"task {task.name!r}: class {target!r} has {len(found)} {split} example(s), expected at least "
                f"{fewest}; ask for fewer shots or add examples"
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
        one_class = task.answers is None and not task.balanced
        classes["" if one_class else example.target].append(example)
    return classes
