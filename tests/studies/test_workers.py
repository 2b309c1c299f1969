"""Jobs side by side: all are done, an error is raised, and no process outlives the one that began it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import KINDS, Attachment, Expert, Kind, KindSettings
from pitune.prediction import SCORES, Score, Target
from pitune.registry import Registry
from pitune.studies import BASELINES, Baseline, Trial
from pitune.studies.workers import run_jobs
from pitune.tasks import LIBRARIES, Facts, Library, Options, Task, load_task
from pitune.tasks.metrics import METRICS, Metric

SCRIPT = """
import os, time
from functools import partial
from pathlib import Path
from pitune.studies.workers import run_jobs

def wait(folder, job):
    (folder / str(os.getpid())).touch()
    time.sleep(120)

if __name__ == "__main__":
    run_jobs(partial(wait, Path(__file__).parent / "at-work"), [1, 2], 2)
"""


def write(folder: Path, job: int) -> None:
    (folder / str(job)).write_text(str(os.getpid()))
    if job == 13:
        raise InputError("job 13 cannot be done")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_job_is_done_and_the_first_error_raised(tmp_path: Path, workers: int) -> None:
    run_jobs(partial(write, tmp_path), [1, 2, 3], workers)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "3"}
    assert ({path.read_text() for path in tmp_path.iterdir()} == {str(os.getpid())}) == (workers == 1)
    with pytest.raises(InputError, match="job 13"):
        run_jobs(partial(write, tmp_path), [13, 14], workers)


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
    (folder / str(job)).write_text(f"{len(names)} {load_task('mine/one').name} {METRICS.get('mine').compute(None)}")


REGISTRIES: tuple[Registry[Any], ...] = (KINDS, METRICS, SCORES, BASELINES, LIBRARIES)
MINE = (
    Mine(),
    Metric("mine", "always right", compute),
    Score("mine", "all are alike", rate),
    Baseline("mine", run, "nothing"),
    MyTasks(),
)


def test_workers_know_what_the_program_that_started_them_registered(tmp_path: Path) -> None:
    for registry, value in zip(REGISTRIES, MINE, strict=True):
        registry.register("mine", value)
    try:
        run_jobs(partial(note_what_is_known, tmp_path), [1, 2], 2)
    finally:
        for registry in REGISTRIES:
            registry.forget("mine")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"5 mine/one 1.0"}


def test_no_workers_is_bad_input() -> None:
    with pytest.raises(InputError, match="workers is 0"):
        run_jobs(print, [1], 0)


def test_workers_end_with_the_study_that_was_killed(tmp_path: Path) -> None:
    script, at_work = tmp_path / "study.py", tmp_path / "at-work"
    script.write_text(SCRIPT)
    at_work.mkdir()
    study = subprocess.Popen([sys.executable, str(script)])
    try:
        _until(lambda: len(list(at_work.iterdir())) == 2)
        found = [int(path.name) for path in at_work.iterdir()]
    finally:
        study.send_signal(signal.SIGKILL)
        study.wait()
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
