"""Curves of runs where a team looks at them, through accelerate: TensorBoard, MLflow or trackio, if asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitune.errors import InputError
from pitune.extras import need
from pitune.processes import team
from pitune.registry import unknown

if TYPE_CHECKING:
    from accelerate.tracking import GeneralTracker

TRACKERS = ("tensorboard", "mlflow", "trackio")
PROJECT = "pitune"
_TRACKER: ContextVar[GeneralTracker | None] = ContextVar("tracker", default=None)


def check_tracker(name: str) -> None:
    """Raise `InputError` if there is no such tracker, or its library is not installed."""
    if name not in TRACKERS:
        raise unknown("tracker", name, TRACKERS)
    if name == "tensorboard":
        need("tensorboard", "track")
    elif find_spec(name) is None:
        raise InputError(f"this needs {name}, which is not installed; install it with: pip install {name}")


@contextmanager
def tracking(name: str | None, folder: Path) -> Iterator[None]:
    """Send the curves of all runs inside to a tracker by name, under the name of a run's folder; to none if None.

    TensorBoard's files are written to `tracking` in the folder; the others keep theirs where their own settings say.
    Raise `InputError` as `check_tracker` does.
    """
    if name is None or not team().first:
        yield
        return
    check_tracker(name)
    tracker = _started(name, folder)
    before = _TRACKER.set(tracker)
    try:
        yield
    finally:
        _TRACKER.reset(before)
        tracker.finish()


def track(run: str, line: Mapping[str, Any]) -> None:
    """Send what is known at a step of a run to the tracker, if there is one: its numbers, by the run's name."""
    tracker = _TRACKER.get()
    if tracker is not None:
        numbers = {f"{run}/{name}": value for name, value in line.items() if isinstance(value, float)}
        for task, part in line.get("tasks", {}).items():
            numbers |= {f"{run}/{task}/{name}": float(value) for name, value in part.items()}
        tracker.log(numbers, step=line["step"])


def _started(name: str, folder: Path) -> GeneralTracker:
    from accelerate.tracking import MLflowTracker, TensorBoardTracker, TrackioTracker

    made: GeneralTracker
    if name == "tensorboard":
        made = TensorBoardTracker("tracking", folder)
    elif name == "mlflow":
        made = MLflowTracker(PROJECT, run_name=folder.name)
    else:
        made = TrackioTracker(PROJECT, name=folder.name)
    made.start()
    return made
