"""Runs that can be stopped at any moment: one folder each, named by a hash of all that decides the outcome.

A run keeps what it needs to go on, and in the end an expert and a result; from there these are delivered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from typer import Option

from pitune import __version__
from pitune.commands.output import is_told, note
from pitune.commands.set_up import check_out, check_writable
from pitune.errors import InputError
from pitune.processes import team

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from pitune.experts import Expert
    from pitune.training import Expected, Outcome

Result = TypeVar("Result", bound="DataclassInstance")
_LONG = 10.0  # seconds from which on it is told beforehand how long something takes
INPUTS, RESULT, OUTCOME = "inputs.json", "result.json", "outcome.json"


@dataclass(frozen=True)
class Keep:
    """Where a command keeps what it makes."""

    name: Annotated[str | None, Option(help="Name of the expert.")] = None
    out: Annotated[Path | None, Option(metavar="DIR", help="Save the expert here.")] = None
    run: Annotated[
        Path | None, Option(metavar="DIR", help="Keeps the run's state; a run stopped half-way goes on from there.")
    ] = None
    track: Annotated[str | None, Option(help="Send curves to tensorboard, mlflow or trackio.")] = None

    def check(self) -> None:
        """Raise `InputError` if there is no such tracker, or its library is not installed."""
        from pitune.training import check_tracker

        if self.track is not None:
            check_tracker(self.track)


@dataclass(frozen=True)
class Delivered(Generic[Result]):
    """What a run made, under the name that was asked for, and the folders that hold it."""

    expert: Expert
    result: Result
    folders: list[str]
    run: str

    def saved(self) -> list[str]:
        """Return a line a folder."""
        return [f"saved in {folder}" for folder in self.folders]

    def described(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        from pitune.files import json_bytes

        result = json.loads(json_bytes(asdict(self.result)))  # as the run's own file has it
        return {"expert": self.expert.name, **result, "folders": self.folders, "run": self.run}


@dataclass(frozen=True)
class Run:
    """Where a run is kept, the bytes of its inputs, which name it, and where its expert goes when it has ended."""

    folder: Path
    inputs: bytes
    name: str | None
    out: Path | None
    pool: Path | None
    held: list[object] = field(default_factory=list)  # what keeps other processes from it while this one is at work

    @property
    def state(self) -> Path:
        """Where the checkpoints are."""
        return self.folder / "state"

    @property
    def ended(self) -> bool:
        """Whether the run has ended, so that its outcome only needs to be delivered."""
        return (self.folder / RESULT).is_file()

    def begin(self, what: str) -> None:
        """Make the run's folder, if it is not there, and tell on stderr what is done.

        Raise `InputError` if another process is at work in it, or on what it makes.
        """
        from pitune.files import hold, write_atomic

        if team().first:
            self.held.extend(hold(one) for one in (self.folder, self.out) if one is not None)
        if team().first and not (self.folder / INPUTS).is_file():
            write_atomic(self.folder / INPUTS, self.inputs)
        note(f"{what}; its run is kept in {self.folder}")

    def tell_expected(self, expected: Callable[[], Expected]) -> None:
        """Tell on stderr how long it will take, where that is long; nothing of a run that goes on."""
        if is_told() and not self.state.exists() and (ahead := expected()).seconds >= _LONG:
            note(ahead.line)

    def finish(self, expert: Expert, result: DataclassInstance, outcome: Outcome | None = None) -> None:
        """Keep what the run made, and how it answers; from here on the same command only delivers it."""
        from pitune.files import json_bytes, write_atomic

        if team().first:
            expert.save(self.folder / "expert")
            if outcome is not None:
                write_atomic(self.folder / OUTCOME, json_bytes(outcome.model_dump(mode="json")))
            write_atomic(self.folder / RESULT, json_bytes(asdict(result)))
        team().wait()

    def deliver(self, kind: type[Result]) -> Delivered[Result]:
        """Save the expert of an ended run wherever it was asked for; raise `InputError` if the run was altered."""
        from pitune.experts import ExpertPool, load_expert

        result = read_result(self.folder, kind)
        expert = load_expert(self.folder / "expert")
        name = expert.name if self.name is None else self.name
        expert = replace(expert, card=expert.card.model_copy(update={"name": name}))
        folders = []
        if self.pool is not None and team().first:
            folders.append(ExpertPool(self.pool).add(expert))
        if self.out is not None and team().first:
            expert.save(self.out)
            folders.append(self.out)
        return Delivered(expert, result, [str(one) for one in folders or [self.folder / "expert"]], str(self.folder))


def read_result(folder: Path, kind: type[Result]) -> Result:
    """Return what an ended run found out; raise `InputError` if its file was altered."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json((folder / RESULT).read_bytes())
    except ValidationError as error:
        raise InputError(f"{folder / RESULT}: damaged; delete {folder} to start over") from error


def plan_run(
    command: str,
    inputs: Mapping[str, Any],
    folder: Path | None,
    *,
    name: str | None,
    out: Path | None,
    pool: Path | None = None,
) -> Run:
    """Return the run with these inputs, in `folder` or in the cache; writes nothing.

    Raise `InputError` if `folder` holds a run with other inputs or something else, or if the expert could not be kept
    under `name` in `pool` or as `out`. A name that the pool has already is right only where the run ended before, so
    that it may be that very expert.
    """
    from pitune.experts import ExpertPool, check_name
    from pitune.files import home, json_bytes, sha256_bytes

    described = json_bytes({"command": command, "pitune": __version__, **inputs})
    folder = folder or home() / "runs" / f"{command}-{sha256_bytes(described)[:16]}"
    run = Run(folder, described, name, out, pool)
    check_writable(folder)
    known = folder / INPUTS
    if known.is_file():
        if known.read_bytes() != described:
            raise InputError(f"{folder}: holds a run with other inputs; delete it or choose another folder")
    elif folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise InputError(f"{folder}: exists and is not a run of pitune; choose another folder")
    if name is not None:
        check_name(name)
    if out is not None:
        check_out(out)
    if pool is not None and name is not None:
        check_writable(pool)
        if (taken := ExpertPool(pool).path(name)).exists() and not run.ended:
            raise InputError(f"{taken}: the pool has an expert of this name; choose another with --name or remove it")
    return run
