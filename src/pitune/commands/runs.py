"""Runs that can be stopped at any moment: one folder each, named by a hash of all that decides the outcome."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitune import __version__
from pitune.commands.set_up import check_writable
from pitune.errors import InputError
from pitune.files import home, json_bytes, sha256_bytes, write_atomic

if TYPE_CHECKING:
    from pitune.experts import Expert

_INPUTS = "inputs.json"
_RESULT = "result.json"


@dataclass(frozen=True)
class Run:
    """Where a run keeps what it needs to go on, and in the end what it made; `inputs` are the bytes that name it."""

    folder: Path
    inputs: bytes

    @property
    def state(self) -> Path:
        """Where the checkpoints are."""
        return self.folder / "state"

    @property
    def expert(self) -> Path:
        """Where the expert is once the run has ended."""
        return self.folder / "expert"

    @property
    def ended(self) -> bool:
        """Whether the run has ended, so that its outcome only needs to be delivered."""
        return (self.folder / _RESULT).is_file()


def plan_run(command: str, inputs: Mapping[str, Any], folder: Path | None) -> Run:
    """Return the run with these inputs, in `folder` or in the cache; writes nothing.

    Raise `InputError` if `folder` holds a run with other inputs, or something else.
    """
    described = json_bytes({"command": command, "pitune": __version__, **inputs})
    run = Run(folder or home() / "runs" / f"{command}-{sha256_bytes(described)[:16]}", described)
    check_writable(run.folder)
    known = run.folder / _INPUTS
    if known.is_file():
        if known.read_bytes() != described:
            raise InputError(f"{run.folder}: holds a run with other inputs; delete it or choose another folder")
    elif run.folder.exists() and any(not path.name.startswith(".") for path in run.folder.iterdir()):
        raise InputError(f"{run.folder}: exists and is not a run of pitune; choose another folder")
    return run


def begin(run: Run) -> None:
    """Make the run's folder, if it is not there."""
    if not (run.folder / _INPUTS).is_file():
        write_atomic(run.folder / _INPUTS, run.inputs)


def finish(run: Run, expert: Expert, result: Mapping[str, Any]) -> None:
    """Keep what the run made; from here on the same command only delivers it."""
    expert.save(run.expert)
    write_atomic(run.folder / _RESULT, json_bytes(result))


def outcome(run: Run) -> tuple[Expert, dict[str, Any]]:
    """Return what an ended run made; raise `InputError` if its files were altered."""
    from pitune.experts import load_expert

    try:
        result: dict[str, Any] = json.loads((run.folder / _RESULT).read_bytes())
    except ValueError as error:
        raise InputError(f"{run.folder / _RESULT}: damaged; delete {run.folder} to start over") from error
    return load_expert(run.expert), result
