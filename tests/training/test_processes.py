"""Two processes train as one: the same losses, one that writes, and a run that goes on after one was killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import build_tiny_backbone, draw_of, stand_in
from tests.forks import fork

from pitune import cli
from pitune.interpolation import TuneSettings, tune_expert
from pitune.pocket.backbone import Pocket
from pitune.processes import Team
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, fit_expert, fit_multitask, loop

STEPS = 12
TOLERANCES = {torch.float32: 1e-5, torch.float64: 1e-8}  # of sums in another order: 3e-6 was seen, and 1e-9


def train_all(backbone: Pocket, tasks: Mapping[str, Task], runs: Path, second: str = "colour") -> None:
    """Fit with accumulated passes, over tasks of images and of words, and tune by folds."""
    how = TrainingSettings(steps=STEPS, batch_size=7, learning_rate=1e-3, evaluations=4)
    few = how.model_copy(update={"batch_size": 3, "accumulation": 2})
    taste, other, mood = (draw_of(tasks[name]) for name in ("taste", second, "mood"))
    neighbour, _ = fit_expert(backbone, taste, settings=few, run=runs / "fit")
    fit_multitask(backbone, [other, mood], settings=how, run=runs / "multitask")
    tuning = TuneSettings(training=how, candidates=("joint",))
    tune_expert(backbone, few_shot(mood.task, 4, 0), [neighbour], settings=tuning, run=runs / "tune")


class Two:
    """Two processes of one run, numbered as `torchrun` numbers those that it starts."""

    def __init__(self, folder: Path, do: Callable[[Pocket, int], int]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PITUNE_HOME": str(folder)}
        self.processes = [
            fork(
                partial(self._do, do, folder, rank),
                folder / str(rank),
                {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]

    @staticmethod
    def _do(do: Callable[[Pocket, int], int], folder: Path, rank: int) -> int:
        return do(build_tiny_backbone(folder / str(rank)), rank)

    def ended(self) -> list[tuple[int, str, str]]:
        """Wait for both, and return the status and the output of each."""
        return [process.ended() for process in self.processes]


@pytest.fixture
def in_double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let everything be in double precision: what experts begin with, and what is held in single whatever comes."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_losses_are_those_of_one_process(tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path) -> None:
    both = Two(tmp_path, lambda backbone, rank: train_all(backbone, tiny_tasks, tmp_path / "two") or 0)
    train_all(tiny_backbone, tiny_tasks, tmp_path / "one")
    check_curves(both, tmp_path, torch.float32)


@pytest.mark.usefixtures("in_double")
def test_what_differs_is_rounding_and_nothing_else(tiny_tasks: dict[str, Task], tmp_path: Path) -> None:
    """In double precision, but for mixing weights; of words alone, since pictures are read in single."""
    both = Two(tmp_path, lambda backbone, rank: train_all(backbone, tiny_tasks, tmp_path / "two", "place") or 0)
    train_all(build_tiny_backbone(tmp_path / "alone"), tiny_tasks, tmp_path / "one", "place")
    check_curves(both, tmp_path, torch.float64)


def check_curves(both: Two, folder: Path, precision: torch.dtype) -> None:
    """Hold every look of two processes against those of one."""
    for status, _, said in both.ended():
        assert status == 0, said
    logs = sorted(path.relative_to(folder / "one") for path in (folder / "one").rglob("log.jsonl"))
    assert {log.parts[0] for log in logs} == {"fit", "multitask", "tune"}
    assert len(logs) == 5  # `tune` trains on all labels and on each of two folds
    for log in logs:
        one, two = (curve(folder / run / log) for run in ("one", "two"))
        assert len(one) == len(two) > 4 * 2
        assert two == pytest.approx(one, abs=TOLERANCES[precision], rel=0), log


def curve(log: Path) -> list[float]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line[name] for line in lines for name in ("step", "loss", "validation_loss") if name in line]


def test_a_killed_process_ends_the_run_with_one_line_and_it_goes_on(
    tiny_task_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, pool = tmp_path / "run", tmp_path / "pool"
    fit = ["fit", tiny_task_paths["place"], "--folds", "0", "--steps", "16", "--batch-size", "4"]
    fit += ["--run", run, "--pool", pool, "--json"]

    def command(backbone: Pocket, rank: int) -> int:
        with pytest.MonkeyPatch.context() as patch:
            stand_in(backbone, patch)
            return cli.main([str(argument) for argument in fit])

    def broken(backbone: Pocket, rank: int) -> int:
        taken, steps = loop._step, itertools.count()

        def step(*arguments: Any) -> torch.Tensor:
            if rank == 1 and next(steps) == 9:
                os.kill(os.getpid(), signal.SIGKILL)
            return taken(*arguments)

        monkeypatch.setattr(loop, "_step", step)
        return command(backbone, rank)

    (status, out, said), second = Two(tmp_path, broken).ended()
    assert (status, out) == (1, "")
    assert second[0] == -signal.SIGKILL
    assert said.splitlines()[1:] == [
        "pitune: another process of this run ended; run the same command again to go on where it stopped"
    ]
    assert (run / "state" / "checkpoint.safetensors").exists()
    assert not (run / "result.json").exists()
    (status, out, said), second = Two(tmp_path, command).ended()
    assert (status, second) == (0, (0, "", "")), said
    assert json.loads(out)["folders"] == [str(pool / "place-lora-all-0")]
    steps = [json.loads(line)["step"] for line in (run / "state" / "log.jsonl").read_text().splitlines()]
    assert steps == list(range(0, 17, 2))


def test_parts_of_a_batch_weigh_as_their_share() -> None:
    whole = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])
    for size in (1, 2, 3, 7):
        parts = [Team(index, size).part(whole.tolist()) for index in range(size)]
        assert sum(share for _, share in parts) == pytest.approx(1)
        assert sum(torch.tensor(own).mean() * share for own, share in parts) == pytest.approx(float(whole.mean()))


def test_what_one_process_does_is_refused_to_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["pool", "list", "--pool", "nowhere"]) == 2
    line = "`pitune pool` runs in one process, found 2; start it without torchrun, which is for fit, multitask, tune"
    assert capsys.readouterr().err == f"pitune: {line}\n"
