"""`pitune report`: a page of what a run, a pool, an expert or a study came to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from pitune.commands import options
from pitune.commands import output as out
from pitune.commands.graph import draw_pool
from pitune.commands.runs import INPUTS, OUTCOME, RESULT, read_result
from pitune.commands.set_up import open_pool, quieten
from pitune.commands.tuned import Tuned
from pitune.errors import InputError

RESULTS = ("results.json", "predictors.json", "settings.json")  # of a study, the first that is there

if TYPE_CHECKING:
    from pitune.experts import Expert
    from pitune.reports import RunReport
    from pitune.training import Condition, Outcome

Told = tuple[dict[str, Any], list[str]]  # for JSON, and for reading


def report(
    source: Annotated[
        Path, Argument(metavar="RUN|POOL|EXPERT|STUDY", help="A folder that pitune wrote.", show_default=False)
    ],
    *,
    task: Annotated[
        str | None, Option(metavar="TASK", help="Test an expert on this task's test part, beside the backbone alone.")
    ] = None,
    page: options.Page,
    on: options.OnTask,
) -> None:
    """Tell what a run, an expert, a pool or a study came to, and with --html as a page that needs no network."""
    quieten()
    page.check()
    kind = _kind(source)
    if task is not None and kind not in ("run", "expert"):
        raise InputError(f"--task: tests an expert; {source} is a {kind}")
    if kind in ("run", "expert"):
        told, lines = _expert(source, kind, task, on, page)
    else:
        told, lines = _pool(source, page) if kind == "pool" else _study(source, page)
    told |= {"kind": kind, "html": str(page.html) if page.html else None}
    out.report(on.as_json, told, [*lines, *([f"page: {page.html}"] if page.html else [])])


def condition_lines(conditions: list[dict[str, Any]]) -> list[str]:
    """Return a line for each condition: whether it passes, and by which numbers."""
    return [f"{'passes' if one['passed'] else 'FAILS'}: {one['name']}: {one['said']}" for one in conditions]


def write_run_page(run: Path, folder: str, page: options.Page) -> None:
    """Write the page of an ended run, whose expert was delivered to a folder."""
    from pitune.experts import load_expert

    _write_expert(_of_run(run, load_expert(folder), folder), page)


def _kind(source: Path) -> str:
    """Return what a folder is; raise `InputError` if nothing that a page can be made of."""
    if (source / INPUTS).is_file():
        if not (source / RESULT).is_file():
            raise InputError(f"{source}: this run has not ended; give its command again to go on with it")
        return "run"
    if (source / "expert.json").is_file():
        return "expert"
    if _results(source) is not None:
        return "study"
    if source.is_dir() and any(source.glob("*/expert.json")):
        return "pool"
    raise InputError(f"{source}: holds no run, expert, pool or study; expected a folder that pitune wrote")


def _expert(source: Path, kind: str, task: str | None, on: options.OnTask, page: options.Page) -> Told:
    from pitune.experts import load_expert
    from pitune.reports import RunReport
    from pitune.training import outcome

    folder = source / "expert" if kind == "run" else source
    expert = load_expert(folder)
    found = RunReport(expert, str(folder), expert.card.verdict)
    if kind == "run":
        found = _of_run(source, expert, str(folder))
    if task is not None:
        known, model = on.open_task(task), on.open_backbone()
        out.note(f"answering {len(known.examples('test'))} test examples of {known.name}")
        found = replace(found, outcome=outcome(model, known, expert, beside={"the backbone alone": None}))
    _write_expert(found, page)
    told, lines = _said(found.verdict, found.outcome.conditions if found.outcome else ())
    return {"expert": expert.name} | told, lines


def _said(verdict: Sequence[str], conditions: Sequence[Condition]) -> Told:
    passed = [one.model_dump() for one in conditions]
    return {"verdict": list(verdict), "conditions": passed}, [*verdict, *condition_lines(passed)]


def _of_run(run: Path, expert: Expert, folder: str) -> RunReport:
    """Return what a run's files tell; raise `InputError` if one was altered."""
    from pitune.reports import RunReport, read_curves
    from pitune.studies import TriedMix, TunedTarget

    inputs, tuned = json.loads((run / INPUTS).read_bytes()), None
    if inputs["command"] == "tune":
        result = read_result(run, Tuned)
        tuned = TunedTarget(
            shots=expert.card.shots,
            neighbours=tuple((one.name, one.similarity) for one in result.neighbours),
            weights=result.weights,
            choice=result.choice,
            candidates=tuple(TriedMix(**vars(one)) for one in result.candidates),
        )
    verdict = json.loads((run / RESULT).read_bytes()).get("verdict", [])
    curves = read_curves(run / "state")
    by = inputs.get("by", "probe")
    return RunReport(expert, folder, verdict, tuned, by=by, outcome=_outcome(run / OUTCOME), curves=curves)


def _outcome(path: Path) -> Outcome | None:
    from pydantic import ValidationError

    from pitune.training import Outcome

    if not path.is_file():
        return None
    try:
        return Outcome.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise InputError(f"{path}: damaged; delete {path.parent} to start over") from error


def _write_expert(found: RunReport, page: options.Page) -> None:
    if page.html is not None:
        from pitune.reports import write_run

        write_run(found, page.html, examples=page.examples)


def _pool(source: Path, page: options.Page) -> Told:
    from pitune import api

    experts = open_pool(source)
    graph = api.task_graph(experts)
    if page.html is not None:
        draw_pool(experts, graph, page.html)
    told = {"experts": list(graph.names)}
    return told, [f"{len(graph.names)} experts; `pitune graph --pool {source}` tells each one's nearest"]


def _results(source: Path) -> Path | None:
    return next((path for name in RESULTS if (path := source / name).is_file()), None)


def _study(source: Path, page: options.Page) -> Told:
    from pitune.reports import conditions_of, findings_of, read_study, write_study

    path = _results(source)
    assert path is not None
    results = read_study(path)
    if page.html is not None:
        write_study(results, page.html)
    told, lines = _said(findings_of(results), conditions_of(results))
    return told | {"values": len(results.rows)}, [*lines, f"{path}: {len(results.rows)} measured values"]
