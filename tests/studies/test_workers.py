"""Jobs side by side: all are done, an error is raised, and no process outlives the one that began it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.forks import fork

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import KINDS, Attachment, Expert, Kind, KindSettings
from pitune.files import write_atomic
from pitune.prediction import SCORES, Score, Target
from pitune.registry import Registry
from pitune.studies import BASELINES, Baseline, Trial
from pitune.studies.workers import run_jobs
from pitune.tasks import LIBRARIES, Facts, Library, Options, Task, load_task
from pitune.tasks.metrics import METRICS, Metric


def write(folder: Path, job: int) -> None:
    (folder / str(job)).write_text(str(os.getpid()))
    if job == 13:
        raise InputError("job 13 cannot be done")


def test_in_turn_every_job_is_done_and_the_first_error_raised(tmp_path: Path) -> None:
    run_jobs(partial(write, tmp_path), [1, 2, 3], 1)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "3"}
    assert {path.read_text() for path in tmp_path.iterdir()} == {str(os.getpid())}
    with pytest.raises(InputError, match="job 13"):
        run_jobs(partial(write, tmp_path), [13, 14], 1)


class Mine(Kind):
    """A kind that is never attached."""

    name, settings, roles = "mine", KindSettings, ()

    def attach(self, backbone: Backbone, settings: Any) -> Attachment:
        raise NotImplementedError

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> torch.Tensor:
        raise NotImplementedError

    def site(self, tensor: str) -> str:
        return tensor


class MyTasks(Library):
    """A library of one task."""

    def names(self) -> tuple[str, ...]:
        return ("mine/one",)

    def facts(self, name: str) -> Facts:
        return Facts(name, "", "CC0", "")

    def load(self, name: str, options: Options) -> Task:
        return Task(name, {})


def compute(answered: object) -> float:
    return 1.0


def rate(target: Target, expert: Expert) -> float:
    return 1.0


def run(trial: Trial) -> tuple[str, float, int]:
    return ("accuracy", 1.0, 1)


def note_what_is_known(folder: Path, job: int) -> None:
    names = [one.group for one in REGISTRIES if "mine" in one.names()]
    known = f"{len(names)} {load_task('mine/one').name} {METRICS.get('mine').compute(None)}"
    write_atomic(folder / str(job), f"{known} {os.getpid()}".encode())
    if job == 13:
        raise InputError("job 13 cannot be done")


REGISTRIES: tuple[Registry[Any], ...] = (KINDS, METRICS, SCORES, BASELINES, LIBRARIES)
MINE = (
    Mine(),
    Metric("mine", "always right", compute),
    Score("mine", "all are alike", rate),
    Baseline("mine", run, "nothing"),
    MyTasks(),
)


def test_workers_know_what_the_program_registered_do_every_job_and_raise_the_first_error(tmp_path: Path) -> None:
    for registry, value in zip(REGISTRIES, MINE, strict=True):
        registry.register("mine", value)
    try:
        with pytest.raises(InputError, match="job 13"):
            run_jobs(partial(note_what_is_known, tmp_path), [1, 2, 3, 13], 2)
    finally:
        for registry in REGISTRIES:
            registry.forget("mine")
    _until(lambda: {path.name for path in tmp_path.iterdir()} == {"1", "2", "3", "13"})  # what had begun goes on
    known, processes = zip(*(path.read_text().rsplit(" ", 1) for path in tmp_path.iterdir()), strict=True)
    assert set(known) == {"5 mine/one 1.0"}
    assert str(os.getpid()) not in processes


def test_no_workers_is_bad_input() -> None:
    with pytest.raises(InputError, match="workers is 0"):
        run_jobs(print, [1], 0)


def wait(folder: Path, job: int) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(120)


def test_workers_end_with_the_study_that_was_killed(tmp_path: Path) -> None:
    (at_work := tmp_path / "at-work").mkdir()

    def study() -> int:
        run_jobs(partial(wait, at_work), [1, 2], 2)
        return 0

    process = fork(study, tmp_path / "study")
    try:
        _until(lambda: len(list(at_work.iterdir())) == 2)
        found = [int(path.name) for path in at_work.iterdir()]
    finally:
        process.kill(signal.SIGKILL)
        assert process.ended()[0] == -signal.SIGKILL
    _until(lambda: not any(_lives(process) for process in found))


def _lives(process: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def _until(true: Callable[[], bool]) -> None:
    for _ in range(1800):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("waited for three minutes")
