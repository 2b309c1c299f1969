"""`pitune predict`: answers to new inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pitune.commands import options as options
from pitune.commands.output import report, table
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.backbones import Backbone
    from pitune.experts import Expert
    from pitune.tasks import Example, Task

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
    found = find_expert(expert, pool)
    asked = _task(task, answer, found, read_columns(columns))
    examples = [_example(i, text, question, asked) for i, text in enumerate(inputs)]
    model = open_backbone(backbone, device, dtype)
    rows: list[dict[str, Any]] = []
    if asked.answers is None:
        rows = [
            {"input": text, "answer": said}
            for text, said in zip(inputs, _said(model, asked, found, examples), strict=True)
        ]
    else:
        for text, chance in zip(inputs, _chances(model, asked, found, examples), strict=True):
            best = max(chance, key=lambda one: chance[one])
            rows.append({"input": text, "answer": best, "probability": chance[best], "probabilities": chance})
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


def _example(number: int, text: str, question: str | None, task: Task) -> Example:
    """Turn one input into an example: the path of an image, or a text. Its target is a stand-in and never read."""
    from pitune.tasks import Example, open_image

    stand_in = (task.answers or ("",))[0]
    if Path(text).suffix.lower() not in _IMAGES:
        return Example(str(number), stand_in, text=text)
    example = Example(str(number), stand_in, text=question, image=Path(text))
    open_image(example)
    return example


def _said(backbone: Backbone, task: Task, expert: Expert, examples: Sequence[Example]) -> list[str]:
    """Return an answer in free text for each example in turn."""
    from pitune.training import evaluate_expert

    found: dict[str, str] = {}
    for some in _by_kind(examples):
        written = evaluate_expert(backbone, replace(task, metric="exact-match"), expert, some)
        found |= dict(zip(written.ids, written.written, strict=True))
    return [found[example.id] for example in examples]


def _chances(backbone: Backbone, task: Task, expert: Expert, examples: Sequence[Example]) -> list[dict[str, float]]:
    """Return the probability of every answer, for each example in turn."""
    from pitune.training import evaluate_expert

    found: dict[str, dict[str, float]] = {}
    for some in _by_kind(examples):
        scored = evaluate_expert(backbone, replace(task, metric="accuracy"), expert, some)
        for name, row in zip(scored.ids, scored.scores.exp().tolist(), strict=True):
            found[name] = dict(zip(task.answers or (), row, strict=True))
    return [found[example.id] for example in examples]


def _by_kind(examples: Sequence[Example]) -> Iterator[list[Example]]:
    """Divide examples into those with an image and those without."""
    for kind in (True, False):
        if some := [example for example in examples if (example.image is not None) is kind]:
            yield some
