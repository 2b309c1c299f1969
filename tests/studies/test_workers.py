"""Jobs side by side: all are done, an error is raised, and no process outlives the one that began it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from pitune.errors import InputError
from pitune.experts import KINDS, Kind, KindSettings
from pitune.prediction import SCORES, Score
from pitune.studies import BASELINES, Baseline
from pitune.studies.workers import run_jobs
from pitune.tasks import LIBRARIES, Facts, Library, Task, load_task
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
def test_every_job_is_done_and_the_first_error_raised(tmp_path, workers):
    run_jobs(partial(write, tmp_path), [1, 2, 3], workers)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2", "3"}
    assert ({path.read_text() for path in tmp_path.iterdir()} == {str(os.getpid())}) == (workers == 1)
    with pytest.raises(InputError, match="job 13"):
        run_jobs(partial(write, tmp_path), [13, 14], workers)


class Mine(Kind):
    """A kind that is never attached."""

    name, settings, roles = "mine", KindSettings, ()

    def attach(self, backbone, settings):
        raise NotImplementedError

    def initial(self, tensor, shape, generator, settings):
        raise NotImplementedError

    def site(self, tensor):
        return tensor


class MyTasks(Library):
    """A library of one task."""

    def names(self):
        return ("mine/one",)

    def facts(self, name):
        return Facts(name, "", "CC0", "")

    def load(self, name, options):
        return Task(name, {})


def compute(answered) -> float:
    return 1.0


def rate(target, expert) -> float:
    return 1.0


def run(trial):
    return ("accuracy", 1.0, 1)


def note_what_is_known(folder: Path, job: int) -> None:
    names = [one.group for one in REGISTRIES if "mine" in one.names()]
    (folder / str(job)).write_text(f"{len(names)} {load_task('mine/one').name} {METRICS.get('mine').compute(None)}")


REGISTRIES = (KINDS, METRICS, SCORES, BASELINES, LIBRARIES)
MINE = (
    Mine(),
    Metric("mine", "always right", compute),
    Score("mine", "all are alike", rate),
    Baseline("mine", run, "nothing"),
    MyTasks(),
)


def test_workers_know_what_the_program_that_started_them_registered(tmp_path):
    for registry, value in zip(REGISTRIES, MINE, strict=True):
        registry.register("mine", value)
    try:
        run_jobs(partial(note_what_is_known, tmp_path), [1, 2], 2)
    finally:
        for registry in REGISTRIES:
            registry.forget("mine")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"5 mine/one 1.0"}


def test_no_workers_is_bad_input():
    with pytest.raises(InputError, match="workers is 0"):
        run_jobs(print, [1], 0)


def test_workers_end_with_the_study_that_was_killed(tmp_path):
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


def _until(true) -> None:
    for _ in range(1800):
        if true():
            return
        time.sleep(0.1)
    pytest.fail("waited for three minutes")
