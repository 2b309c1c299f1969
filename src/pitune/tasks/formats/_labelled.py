"""From labelled examples of the reader's own to a task with fixed parts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from pitune._files import sha256_bytes
from pitune.errors import InputError
from pitune.tasks._image import image_hash
from pitune.tasks._task import Example, Split, Task
from pitune.tasks._task_hash import data_hash

_FEWEST = 3  # one example for every part
_SEED = "pitune parts 1"


def labelled_task(path: Path, name: str, examples: Iterable[Example]) -> Task:
    """Return a task with every class in every part; where an example goes depends on its content alone.

    Exact copies are dropped, so that parts share nothing. Raises `InputError` if there are fewer
    than two classes, a class has fewer than three distinct examples, or copies differ in class.
    """
    classes = _distinct(path, examples)
    if len(classes) < 2:
        raise InputError(f"{path}: found {len(classes)} class(es), expected two or more to choose from")
    splits: dict[Split, list[Example]] = {"train": [], "validation": [], "test": []}
    for target, found in sorted(classes.items()):
        if len(found) < _FEWEST:
            raise InputError(
                f"{path}: class {target!r} has {len(found)} distinct example(s), expected at least {_FEWEST} "
                "(one each for train, validation and test)"
            )
        ordered = [found[key] for key in sorted(found)]
        test, validation = max(1, len(ordered) // 4), max(1, len(ordered) * 3 // 20)
        splits["test"] += ordered[:test]
        splits["validation"] += ordered[test : test + validation]
        splits["train"] += ordered[test + validation :]
    return Task(
        name=name,
        splits={split: tuple(found) for split, found in splits.items()},
        answers=tuple(sorted(classes)),
        provenance=str(path),
        data_hash=data_hash(splits),
    )


def _distinct(path: Path, examples: Iterable[Example]) -> dict[str, dict[str, Example]]:
    """Return the examples by class and content."""
    classes: dict[str, dict[str, Example]] = defaultdict(dict)
    first: dict[str, Example] = {}
    for example in examples:
        image = "" if example.image is None else image_hash(example)
        key = sha256_bytes(f"{_SEED}\n{image}\n{example.text or ''}".encode())
        same = first.setdefault(key, example)
        if same.target != example.target:
            raise InputError(
                f"{path}: {same.id} and {example.id} hold the same input, but one is labelled {same.target!r} "
                f"and the other {example.target!r}; correct or remove one"
            )
        classes[example.target].setdefault(key, example)
    return classes
