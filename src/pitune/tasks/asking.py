"""New inputs as examples of a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.tasks.formats.reading import IMAGE_SUFFIXES
from pitune.tasks.images import open_image
from pitune.tasks.task import SPLITS, Example, Task

Input = str | Path | bytes | tuple[Any, str | None] | Example


def as_example(task: Task, number: int, given: Input) -> Example:
    """Return an input as an example whose target is a stand-in that nothing reads.

    A text that ends as the name of an image does is the path of one. Raise `InputError` if an image cannot be read,
    or the input is of another kind than the task's own examples.
    """
    if isinstance(given, Example):
        return given
    image, text = given if isinstance(given, tuple) else _parts(given)
    stand_in = (task.answers or ("",))[0]
    example = Example(str(number), stand_in, text=text, image=Path(image) if isinstance(image, str) else image)
    if example.image is not None:
        open_image(example)
    own = next((one for split in SPLITS for one in task.splits.get(split, ())), None)
    if own is not None and (own.image is None) != (example.image is None):
        expected = "texts" if own.image is None else "images"
        raise InputError(
            f"input {number + 1} ({text if image is None else image!r}): task {task.name!r} reads {expected}"
        )
    return example


def _parts(given: str | Path | bytes) -> tuple[str | Path | bytes | None, str | None]:
    if isinstance(given, str) and Path(given).suffix.lower() not in IMAGE_SUFFIXES:
        return None, given
    return given, None
