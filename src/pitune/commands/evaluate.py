"""`pitune eval`: how good experts are on a task, or the backbone alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.evaluations import ALONE, judgement_lines, side_by_side, verdict_lines
from pitune.commands.output import changing_nothing, note, report, watched
from pitune.commands.set_up import check_file, find_expert, quieten, tell_templates
from pitune.errors import InputError
from pitune.files import json_bytes, write_atomic

if TYPE_CHECKING:
    from pitune.experts import Expert


def evaluate(
    expert: Annotated[
        list[str],
        Argument(
            metavar="EXPERT…",
            help="Folders of experts, or their names with --pool; then TASK, unless --task gives it.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  # typer's own form of none
    *,
    task: Annotated[str | None, Option(metavar="TASK", help=options.TASK_HELP)] = None,
    zero_shot: Annotated[bool, Option("--zero-shot", help="The backbone alone, without EXPERT.")] = False,
    split: Annotated[Literal["train", "validation", "test"], Option(help="Part of the task.")] = "test",
    out: Annotated[Path | None, Option(metavar="FILE.json", help="Write what --json prints here too.")] = None,
    pool: options.MaybePool = None,
    on: options.OnTask,
) -> None:
    """Measure experts on a task beside the backbone alone, several side by side."""
    quieten()
    names, task = _named(expert, task, zero_shot)
    from pitune.tasks import told_templates
    from pitune.training import check_backbone, differences, evaluate_expert, judge, templates_of

    if out is not None:
        check_file(out)
        if out.suffix != ".json":
            raise InputError(f"--out {out}: holds what --json prints; expected a name that ends in .json")
    experts = [find_expert(name, pool) for name in names]
    known = on.open_task(task)
    examples = known.examples(split)
    model = on.open_backbone()
    for one in experts:
        check_backbone(one, model)
        tell_templates(one, known)
    note(f"answering {len(examples)} {split} examples of {known.name}")
    given: dict[str, Expert | None] = {ALONE: None}
    given |= dict(zip(_told_apart(names, experts), experts, strict=True))
    seen = {
        name: evaluate_expert(model, known, one, examples, title=name if watched() else "")
        for name, one in given.items()
    }
    judged = {name: judge(known, examples, one) for name, one in seen.items()}
    rows = [
        {"expert": given[name] and name, "task": known.name, "split": split, **one.model_dump(mode="json")}
        | {"templates": list(templates_of(model, known, given[name]))}
        for name, one in judged.items()
    ]
    words = [f"{row['expert'] or ALONE}: {told_templates(row['templates'])}" for row in rows if row["templates"]]
    nothing = changing_nothing((name, one.untouched) for name, one in given.items() if one)
    apart = differences(known, examples, seen) if experts else {}
    for row, name in zip(rows, judged, strict=True):
        row["from_zero_shot"] = apart[name].model_dump(mode="json") if name in apart else None
    verdict = [*verdict_lines(known, examples, split, judged, apart), *nothing]
    told: dict[str, Any]
    if len(experts) > 1:
        told = {"task": known.name, "split": split, "n": len(examples), "experts": rows}
        lines = side_by_side(judged, apart)
    else:
        told = rows[-1] | {"zero_shot": {end: rows[0][end] for end in ("value", "low", "high")}}
        lines = judgement_lines(*judged.popitem(), known.name, split)
    told["verdict"] = verdict
    if out is not None:
        write_atomic(out, json_bytes(told))
    report(on.as_json, told, [*lines, *words, *verdict])


def _named(given: Sequence[str], task: str | None, zero_shot: bool) -> tuple[list[str], str]:
    """Return the experts and the task, which is the last word where no flag gives it."""
    if task is None and given:
        *names, task = given
    else:
        names = list(given)
    if zero_shot and names:
        raise InputError(f"--zero-shot takes no expert; found {names[0]!r} (experts are shown beside it unasked)")
    if task is None or not (names or zero_shot):
        found = repr(task) if task else "neither"
        raise InputError(f"expected an expert and a task; found only {found} (add --zero-shot for the backbone alone)")
    return names, task


def _told_apart(names: Sequence[str], experts: Sequence[Expert]) -> list[str]:
    """Return the experts' own names, or for those that share one what the command line calls them."""
    own = Counter(one.name for one in experts)
    told = [one.name if own[one.name] == 1 else name for name, one in zip(names, experts, strict=True)]
    twice = next((name for name in told if told.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{twice!r} is there twice; name each expert once")
    return told
