"""`pitune predict`: answers to new inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pitune.commands import options as options
from pitune.commands.output import report, table
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.experts import Expert
    from pitune.tasks import Task

_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


def predict(
    expert: Annotated[str, typer.Argument(metavar="EXPERT", help="An expert's folder, or its name with --pool.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT…", help="Texts, or paths of images.")],
    task: Annotated[
        str | None,
        typer.Option(
            help="Take the answers to choose from here; the expert's own task unless given.", show_default=False
        ),
    ] = None,
    answer: Annotated[
        list[str] | None, typer.Option(help="An answer to choose from; give it once for each.", show_default=False)
    ] = None,
    question: Annotated[str | None, typer.Option(help="Asked of every image.", show_default=False)] = None,
    pool: options.MaybePool = None,
    columns: options.Columns = None,
    backbone: options.BackboneName = options.BACKBONE,
    dtype: options.Dtype = None,
    seed: options.Seed = 0,
    device: options.Device = None,
    as_json: options.Json = False,
    config: options.Config = None,
) -> None:
    """Answer new inputs with an expert."""
    from pitune.commands.set_up import find_expert, open_backbone, quieten, read_columns

    quieten()
    from pitune import api

    found = find_expert(expert, pool)
    asked = _task(task, answer, found, read_columns(columns))
    model = open_backbone(backbone, device, dtype)
    asked_of = [(text, question) if _is_image(text) else text for text in inputs]
    rows: list[dict[str, Any]] = []
    for text, answer_ in zip(inputs, api.predict(model, asked, found, asked_of), strict=True):
        row: dict[str, Any] = {"input": text, "answer": answer_.answer}
        if answer_.probability is not None:
            row |= {"probability": answer_.probability, "probabilities": dict(answer_.probabilities)}
        rows.append(row)
    report(
        as_json,
        {"expert": found.name, "predictions": rows},
        [
            table(
                ("input", "answer", "probability"),
                [(row["input"], row["answer"], row.get("probability")) for row in rows],
            )
        ],
    )


def _task(name: str | None, answers: Sequence[str] | None, expert: Expert, columns: Mapping[str, str]) -> Task:
    """Return the task that says how to ask and which answers there are, None where any text may be one."""
    from pitune.tasks import Task, load_task, task_names

    if name is None and expert.card.task in task_names():  # a name out of a file may only mean a task we know
        name = expert.card.task
    if name is None and not answers:
        known_for = f"expert {expert.name!r} was trained for {expert.card.task!r}"
        raise InputError(f"{known_for}; give that task with --task, or answers with --answer")
    known = load_task(name, columns) if name is not None else Task("answers", {})
    if answers:
        known = replace(known, answers=tuple(dict.fromkeys(answers)))
    return known


def _is_image(text: str) -> bool:
    return Path(text).suffix.lower() in _IMAGES
