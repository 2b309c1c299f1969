"""Curves go to a tracker where one is asked for, and nowhere else."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.conftest import Command

from pitune.errors import InputError
from pitune.training import LOG, tracking


def curves(folder: Path) -> dict[str, Any]:
    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [(one.step, one.value) for one in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def test_what_fit_learns_is_drawn_by_tensorboard(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    given = ("fit", tiny_task_paths["place"], "--shots", 4, "--steps", 8, "--folds", 0, "--run", run)
    command(*given, "--track", "tensorboard", "--out", tmp_path / "out")
    drawn = curves(run / "tracking")
    kept = [json.loads(line) for line in (run / "state" / LOG).read_text().splitlines()]
    assert len(kept) > 2
    for name in ("loss", "validation", "validation_loss"):
        logged = [(line["step"], pytest.approx(line[name])) for line in kept if name in line]
        assert drawn[f"state/{name}"] == logged
    assert len(drawn) == 3


def test_without_a_tracker_nothing_is_written(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command("fit", tiny_task_paths["place"], "--shots", 2, "--steps", 2, "--run", run, "--out", tmp_path / "out")
    assert not (run / "tracking").exists()


def test_a_tracker_that_is_not_there_is_named_before_anything_is_written(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    given = ("fit", tiny_task_paths["place"], "--shots", 2, "--run", tmp_path / "run", "--out", tmp_path / "out")
    assert "unknown tracker 'wandb'" in command(*given, "--track", "wandb", fails=True)
    for name in ("mlflow", "trackio"):
        if find_spec(name) is None:
            line = command(*given, "--track", name, fails=True)
            assert line == f"pitune: this needs {name}, which is not installed; install it with: pip install {name}"
    assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="wandb"), tracking("wandb", tmp_path):
        raise AssertionError("it went on")
