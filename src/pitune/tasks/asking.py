"""New inputs as examples of a task, and what of a task must be known to ask them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pitune.errors import InputError
from pitune.tasks.formats.reading import IMAGE_SUFFIXES, read_templates
from pitune.tasks.images import open_image
from pitune.tasks.loading import library_of
from pitune.tasks.task import SPLITS, Example, Task

Input = str | Path | bytes | tuple[Any, str | None] | Example
Reads = frozenset[str]  # of "image" and "text"


def reads_of(task: Task) -> Reads | None:
    """Return what a task's own examples show, None where it has none."""
    own = next((one for split in SPLITS for one in task.splits.get(split, ())), None)
    if own is None:
        return None
    return frozenset(name for name, held in (("image", own.image), ("text", own.text)) if held is not None)


def asked_of(task: Task) -> dict[str, Any]:
    """Return what an expert's card keeps of a task, so that new inputs can be asked without its data.

    Of a named task only what it reads: whoever has its name has the rest.
    """
    if library_of(task.name) is not None:
        return {"reads": sorted(reads_of(task) or ())}
    asked = {"answers": task.answers and list(task.answers), "reads": sorted(reads_of(task) or ())}
    more = {"more_templates": list(task.more_templates)} if task.more_templates else {}
    return {"asked": {**asked, "template": task.template, "answer_template": task.answer_template, **more}}


def asked_task(name: str, kept: object) -> tuple[Task, Reads | None] | None:
    """Return the task that a card keeps, without examples, and what it reads; None where it keeps no sound one."""
    if not isinstance(kept, Mapping):
        return None
    answers, more = kept.get("answers"), kept.get("more_templates", [])
    templates = [kept.get(key) for key in ("template", "answer_template")]
    if not _is_texts(more):
        return None
    whole = answers is None or (_is_texts(answers) and len(set(answers)) == len(answers) > 0)
    try:
        template, answer_template, *more = read_templates(list(map(str, [*templates, *more])))
    except InputError:
        return None
    if not whole:
        return None
    reads = frozenset(kept["reads"]) if _is_texts(kept.get("reads")) else None
    task = Task(name, {}, answers and tuple(answers), template=template, answer_template=answer_template)
    return replace(task, more_templates=tuple(more)), reads or None


def _is_texts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


def as_example(task: Task, number: int, given: Input, reads: Reads | None = None) -> Example:
    """Return an input as an example whose target is a stand-in that nothing reads.

    A text is the path of an image where the task reads images, or where it ends as the name of one does. `reads` says
    what the task reads if it has no examples. Raise `InputError` if an image cannot be read, or the input is of
    another kind than the task's own examples.
    """
    reads = reads_of(task) or reads
    if isinstance(given, Example):
        return given
    image, text = given if isinstance(given, tuple) else _parts(given, reads)
    where = (
        f"input {number + 1} ({text if image is None else image if isinstance(image, str | Path) else 'an image'!r})"
    )
    example = Example(str(number), stand_in(task), text, Path(image) if isinstance(image, str) else image)
    return checked(task, where, example, reads)


def stand_in(task: Task, candidates: Sequence[str] | None = None) -> str:
    """Return an answer for an example whose own nobody knows."""
    return (candidates or task.answers or ("",))[0]


def checked(task: Task, where: str, example: Example, reads: Reads | None) -> Example:
    """Return an input; raise `InputError` if its image cannot be read, or it is not of what the task reads."""
    image = example.image
    if isinstance(image, Path) and not image.is_file():
        found = "a folder" if image.is_dir() else "no such file"
        wanted = f"; task {task.name!r} reads images" if reads is not None and "image" in reads else ""
        raise InputError(f"{where}: cannot be read ({found}){wanted}")
    if reads is not None and (image is None) == ("image" in reads):
        expected = "texts" if image is not None else "images; expected the path of one, or of a folder of them"
        raise InputError(f"{where}: task {task.name!r} reads {expected}")
    if image is not None:
        open_image(example)
    if reads is not None and "text" in reads and example.text is None:
        raise InputError(
            f"{where}: task {task.name!r} reads a text with each image; give it, or one --question for all"
        )
    if example.text is not None and any("\ud800" <= one <= "\udfff" for one in example.text):
        raise InputError(f"{where}: holds text that is no UTF-8; expected UTF-8")
    return example


def _parts(given: str | Path | bytes, reads: Reads | None) -> tuple[str | Path | bytes | None, str | None]:
    is_path = isinstance(given, str) and (
        Path(given).suffix.lower() in IMAGE_SUFFIXES or (reads is not None and "image" in reads)
    )
    if isinstance(given, str) and not is_path:
        return None, given
    return given, None
