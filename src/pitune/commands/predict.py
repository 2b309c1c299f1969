"""`pitune predict`: answers to new inputs."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.output import note, report, table, watched
from pitune.commands.set_up import find_expert, quieten, read_columns, tell_templates
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.experts import Expert
    from pitune.tasks import Task

_INPUTS = "Texts, images, folders of images, tables, patterns such as 'photos/*.jpg', or - for lines of standard input."
_LONG = 64  # inputs from which on a bar is shown


@dataclass(frozen=True)
class Asking:
    """What an expert is asked."""

    task: Annotated[
        str | None,
        Option(help="Take the answers to choose from here; what the expert keeps of its own unless given."),
    ] = None
    answer: Annotated[list[str] | None, Option(help="An answer to choose from; give it once for each.")] = None
    question: Annotated[str | None, Option(help="Asked of every image.")] = None


def predict(
    expert: Annotated[str, Argument(metavar="EXPERT", help="An expert's folder, or its name with --pool.")],
    inputs: Annotated[list[str], Argument(metavar="INPUT…", help=_INPUTS)],
    *,
    asking: Asking,
    out: Annotated[
        Path | None,
        Option(metavar="FILE", help="Write the answers here, as its name ends: .csv, .tsv, .jsonl, .parquet."),
    ] = None,
    top: Annotated[int, Option(min=1, help="How many of the likeliest answers --out has for each input.")] = 5,
    pool: options.MaybePool = None,
    on: options.OnTask,
) -> None:
    """Answer new inputs with an expert."""
    quieten()
    from pitune import api
    from pitune.commands.predictions import check_predictions, prediction, write_predictions
    from pitune.tasks import Reader, shown

    if out is not None:
        check_predictions(out, inputs)
    found, named = find_expert(expert, pool), read_columns(on.columns)
    asked, reads = _task(asking.task, asking.answer, found, on)
    examples = Reader(asked, reads, asking.question, named, sys.stdin.buffer.read, note).read(inputs)
    model = on.open_backbone()
    answers = api.predict(model, asked, found, examples, progress=watched() and len(examples) > _LONG)
    rows = [prediction(one.id, shown(one), said) for one, said in zip(examples, answers, strict=True)]
    if out is not None:
        write_predictions(out, rows, top)
        counts = Counter(row["answer"] for row in rows).most_common()
        told = {"expert": found.name, "n": len(rows), "out": str(out), "answers": dict(counts)}
        report(on.as_json, told, [table(("answer", "inputs"), counts[:20]), f"{len(rows)} answers written to {out}"])
        return
    cells = [(row["input"], row["answer"], row.get("probability")) for row in rows]
    told = {"expert": found.name, "predictions": rows}
    report(on.as_json, told, [table(("input", "answer", "probability"), cells)])


def _task(
    name: str | None, answers: Sequence[str] | None, expert: Expert, data: options.Data
) -> tuple[Task, frozenset[str] | None]:
    """Return the task that says how to ask and which answers there are, and what it reads where that is known.

    Its answers are None where any text may be one.
    """
    from pitune.tasks import Task, asked_task, read_templates, task_names

    own, reads = asked_task(expert.card.task, expert.card.hyperparameters.get("asked")) or (None, None)
    if (
        own is None and name is None and expert.card.task in task_names()
    ):  # a name out of a file may only mean a task we know
        name = expert.card.task
    if name is None and own is None and not answers:
        known_for = f"expert {expert.name!r} was trained for {expert.card.task!r}"
        raise InputError(f"{known_for}; give that task with --task, or answers with --answer")
    if name is None and (said := data.own):
        flag = next(iter(said)).replace("_", "-")
        raise InputError(f"--{flag} says how a task's data is read; give that task with --task")
    known = data.open_task(name) if name is not None else own or Task("answers", {})
    if name is None and data.templates:
        first, *more = read_templates(data.templates)
        known = replace(known, answer_template=first, more_templates=tuple(more))
    elif name is not None and not data.templates:
        tell_templates(expert, known)
    if answers:
        if name is None and reads is not None and "image" not in reads:
            reads = None  # own answers may be asked of pictures too, by an expert of texts
        known = replace(known, answers=tuple(dict.fromkeys(answers)))
    return known, reads
