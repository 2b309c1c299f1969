"""What all studies share: a folder that keeps one plan and its rows, and cells of work that processes divide."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from pitune.backbones import Backbone, load_backbone
from pitune.errors import InputError
from pitune.experts import Expert
from pitune.extras import need
from pitune.files import hold, json_bytes, write_atomic
from pitune.studies.plans import Plan
from pitune.studies.results import Results, Row
from pitune.studies.rows import Measured, Measures, Rows, environment
from pitune.studies.workers import Spread, run_jobs
from pitune.tasks import Draw, Example, Task, load_task, spread
from pitune.training import Evaluation, calibration, chance, evaluate_expert

Job = TypeVar("Job")
Written = TypeVar("Written", bound=Results)
ROWS, RESULTS, POOL = "rows.jsonl", "results.json", "pool"
load_once = lru_cache(maxsize=1)(load_backbone)
open_task = lru_cache(maxsize=None)(load_task)


def open_backbone(plan: Plan) -> Backbone:
    """Return a plan's backbone, loaded once a process."""
    return load_once(plan.backbone, plan.device)


class Cell(Protocol):
    """What a worker does at a time. Must be picklable."""

    def measures(self) -> Measures:
        """Return what is to be measured, and how; cheap, and what two of them share is done once, when it is needed."""
        ...


@dataclass(frozen=True)
class Study:
    """A study in a folder. What is there already is kept: rows, experts, and the checkpoints of runs."""

    out: Path
    workers: int | Spread = 1
    progress: bool = True
    file: str = ROWS

    def keep(self, plan: Plan, fields: Iterable[str], **more: Any) -> None:
        """Write down what all rows of the folder have in common; raise `InputError` if it holds another study.

        That is the backbone, the plan's `fields`, and `more`; anything else of the plan may differ from run to run.
        """
        need("scipy", "metrics")  # intervals and ranks come last, too late to learn that it is missing
        common = {**plan.model_dump(include=set(fields)), "backbone": open_backbone(plan).fingerprint, **more}
        path, data = self.out / "plan.json", json_bytes(common)
        if path.exists() and path.read_bytes() != data:
            raise InputError(f"{path}: a study with other tasks or settings is kept here; choose another --out")
        object.__setattr__(self, "_held", hold(self.out))  # from other processes while this study is there
        write_atomic(path, data)

    def rows(self) -> Rows:
        """Read the rows that are there."""
        return Rows(self.out / self.file)

    def each(self, work: Callable[[Job], object], jobs: Sequence[Job], title: str) -> None:
        """Do every job, some side by side."""
        run_jobs(work, jobs, self.workers, title if self.progress else "")

    def lacking(self, cells: Sequence[CellT]) -> list[CellT]:
        """Return the cells of which a row is missing."""
        rows = self.rows()
        return [cell for cell in cells if any(key not in rows for key in cell.measures())]

    def measure(self, cells: Sequence[Cell], title: str = "targets") -> list[Row]:
        """Measure what the rows lack, and return the rows of all cells in their order, each once."""
        self.each(partial(_measure, self.out / self.file), self.lacking(cells), title)
        rows = self.rows()
        return [rows[key] for key in dict.fromkeys(key for cell in cells for key in cell.measures())]

    def write(self, kind: type[Written], plan: Plan, rows: Iterable[Row], file: str = RESULTS, **rest: Any) -> Written:
        """Write the study's results, with the plan if they keep it, and return them."""
        if "plan" in kind.model_fields:
            rest["plan"] = plan.whole()
        results = kind(schema=1, environment=environment(open_backbone(plan)), rows=tuple(rows), **rest)
        return results.write(self.out / file)


CellT = TypeVar("CellT", bound=Cell)


def _measure(file: Path, cell: Cell) -> None:
    rows = Rows(file)
    for key, run in cell.measures().items():
        rows.measure(key, run)


def measured(backbone: Backbone, task: Task, expert: Expert | None, test: Sequence[Example]) -> Measured:
    """Return what an expert scores, or the backbone alone with none."""
    return as_measured(task, test, evaluate_expert(backbone, task, expert, test), expert.untouched if expert else None)


def as_measured(task: Task, test: Sequence[Example], seen: Evaluation, untouched: bool | None) -> Measured:
    """Return what a study keeps of an evaluation."""
    share = seen.metric == "accuracy"
    claims = share and seen.scores.shape[1] > 1
    return Measured(
        seen.metric,
        seen.value,
        len(seen.ids),
        untouched,
        chance=chance(test)[1] if share else None,
        claimed=calibration(seen.scores, seen.target).probability if claims else None,
    )


def distinct(tasks: Sequence[str]) -> dict[str, str]:
    """Return what each task is called, by how it was given; raise `InputError` if two are called the same."""
    named: dict[str, str] = {}
    for given in tasks:
        name = open_task(given).name
        if name in named.values():
            raise InputError(f"{given}: another task is called {name!r} too; name every task once")
        named[given] = name
    return named


def at_most(examples: Sequence[Example], most: int | None) -> list[Example]:
    """Return examples evenly spread over these, no more than so many; None for all."""
    return list(examples) if most is None else spread(examples, most)


def held_out(draw: Draw, most: int | None) -> list[Example]:
    """Return validation examples that a few-shot run did not draw, spread over the part, or all where none is left."""
    seen = {example.id for example in draw.validation}
    rest = [example for example in draw.task.examples("validation") if example.id not in seen]
    return at_most(rest or draw.validation, most)
