"""Jobs on Ray: done once each, with errors as they are raised, and by another worker where one was killed."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from tests.conftest import Command

from pitune.errors import InputError
from pitune.experts import ExpertPool
from pitune.studies import Measured, Spread, Study
from pitune.studies.cluster import shares
from pitune.studies.rows import Measures
from pitune.studies.workers import run_jobs

TWO = Spread(2, "local")


@pytest.fixture(scope="module")
def _ray() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    yield
    ray.shutdown()


@dataclass(frozen=True)
class Cell:
    """A measurement of a number; that of 5 kills its worker the first time."""

    out: Path
    number: int

    def measures(self) -> Measures:
        return {(f"task-{self.number}", "square", None, 0): self.measure}

    def measure(self) -> Measured:
        with (self.out / "begun").open("a") as begun:
            begun.write(f"{self.number}\n")
        if self.number == 5 and not (self.out / "killed").exists():
            (self.out / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Measured("accuracy", float(self.number**2), 1)


def refuse(folder: Path, job: int) -> None:
    (folder / str(job)).touch()
    raise InputError(f"job {job} cannot be done")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_ray")
def test_a_killed_worker_changes_no_row_and_nothing_finished_is_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "killed").touch()
    (tmp_path / "there").mkdir()
    here = Study(tmp_path / "here", progress=False)
    there = Study(tmp_path / "there", TWO, progress=False)
    expected = here.measure([Cell(here.out, number) for number in range(8)])
    found = there.measure([Cell(there.out, number) for number in range(8)])
    assert [row.model_dump(exclude={"seconds"}) for row in found] == [
        row.model_dump(exclude={"seconds"}) for row in expected
    ]
    assert len((there.out / "rows.jsonl").read_text().splitlines()) == 8
    assert capsys.readouterr().out == ""
    begun = Counter((there.out / "begun").read_text().split())
    assert begun == {str(number): 2 if number == 5 else 1 for number in range(8)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("_ray")
def test_the_error_of_a_job_is_raised_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^job 1 cannot be done$"):
        run_jobs(partial(refuse, tmp_path), [1], TWO)


def test_workers_share_what_there_is() -> None:
    assert shares({"CPU": 16.0, "GPU": 2.0}, 4) == {"num_cpus": 4.0, "num_gpus": 0.5}
    assert shares({"CPU": 2.0}, 4) == {"num_cpus": 0.5}
    assert shares({"CPU": 2.0, "GPU": 2.0}, 3) == {"num_cpus": 0.5, "num_gpus": 0.5}
    assert shares({"CPU": 8.0, "GPU": 4.0}, 2) == {"num_cpus": 4.0, "num_gpus": 2.0}


@pytest.mark.usefixtures("pocket_is_tiny")
def test_several_tasks_are_fitted_into_a_pool(
    tiny_task_paths: dict[str, Path], tmp_path: Path, command: Command
) -> None:
    tasks, pool = [tiny_task_paths["mood"], tiny_task_paths["taste"]], tmp_path / "pool"
    told = command("fit", *tasks, "--shots", 2, "--steps", 2, "--folds", 0, "--pool", pool)
    assert [one["expert"] for one in told["experts"]] == ["mood-lora-2-0", "taste-lora-2-0"]
    assert ExpertPool(pool).names() == ["mood-lora-2-0", "taste-lora-2-0"]
    alone = command("fit", tasks[0], "--shots", 2, "--steps", 2, "--folds", 0, "--out", tmp_path / "out")
    assert alone["run"] == told["experts"][0]["run"]  # which is not run again
    line = command("fit", *tasks, "--pool", pool, "--name", "one", fails=True)
    assert line == "pitune: --name is of one expert, found several tasks; leave it out"
