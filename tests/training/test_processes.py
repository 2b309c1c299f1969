"""Two processes train as one: the same losses, one that writes, and a run that goes on after one was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tests.conftest import build_tiny_backbone, draw_of

from pitune import cli
from pitune.interpolation import TuneSettings, tune_expert
from pitune.pocket.backbone import Pocket
from pitune.processes import Team
from pitune.tasks import Task, few_shot, load_task
from pitune.training import TrainingSettings, fit_expert, fit_multitask

ROOT = Path(__file__).parents[2]
STEPS, TOLERANCE = 12, 1e-5  # sums of floats in another order; 3e-6 was seen after twelve steps


def train_all(backbone: Pocket, tasks: Mapping[str, Task], runs: Path) -> None:
    """Fit with accumulated passes, over tasks of images and of words, and tune by folds."""
    how = TrainingSettings(steps=STEPS, batch_size=7, learning_rate=1e-3, evaluations=4)
    few = how.model_copy(update={"batch_size": 3, "accumulation": 2})
    taste, colour, mood = (draw_of(tasks[name]) for name in ("taste", "colour", "mood"))
    neighbour, _ = fit_expert(backbone, taste, settings=few, run=runs / "fit")
    fit_multitask(backbone, [colour, mood], settings=how, run=runs / "multitask")
    tuning = TuneSettings(training=how, candidates=("joint",))
    tune_expert(backbone, few_shot(mood.task, 4, 0), [neighbour], settings=tuning, run=runs / "tune")


def main(do: str, folder: Path, *arguments: str) -> int:
    """Do what a test asks of each of two processes."""
    torch.set_num_threads(1)
    backbone = build_tiny_backbone(folder / f"features-{os.environ['RANK']}")
    if do == "train":
        tasks = {name: load_task(path) for name, path in json.loads(arguments[0]).items()}
        train_all(backbone, tasks, folder / "two")
        return 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pitune.pocket.backbone.load_pocket", lambda device: backbone)
        return cli.main(list(arguments))


class Two:
    """Two processes of one run, as `torchrun` starts them."""

    def __init__(self, do: str, folder: Path, *arguments: object) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = [sys.executable, __file__, do, str(folder), *map(str, arguments)]
        common = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "src"))), "OMP_NUM_THREADS": "1"}
        common |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "PITUNE_HOME": str(folder)}
        self.processes = [
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]

    def __enter__(self) -> Two:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def ended(self) -> list[tuple[int, str, str]]:
        """Wait for both, and return the status and the output of each."""
        printed = [process.communicate() for process in self.processes]
        return [(process.returncode, *said) for process, said in zip(self.processes, printed, strict=True)]


def test_losses_are_those_of_one_process(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    with Two("train", tmp_path, json.dumps({name: str(path) for name, path in tiny_task_paths.items()})) as both:
        train_all(tiny_backbone, tiny_tasks, tmp_path / "one")
        for status, _, said in both.ended():
            assert status == 0, said
    logs = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("log.jsonl"))
    assert {log.parts[0] for log in logs} == {"fit", "multitask", "tune"}
    assert len(logs) == 5  # `tune` trains on all labels and on each of two folds
    for log in logs:
        one, two = (curve(tmp_path / run / log) for run in ("one", "two"))
        assert len(one) == len(two) > 4 * 2
        assert two == pytest.approx(one, abs=TOLERANCE), log


def curve(log: Path) -> list[float]:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return [line[name] for line in lines for name in ("step", "loss", "validation_loss") if name in line]


def test_a_killed_process_ends_the_run_with_one_line_and_it_goes_on(
    tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    run, pool = tmp_path / "run", tmp_path / "pool"
    fit = ["fit", tiny_task_paths["place"], "--folds", "0", "--steps", "160", "--batch-size", "4"]
    fit += ["--run", run, "--pool", pool, "--json"]
    with Two("command", tmp_path, *fit) as broken:
        wait_for(run / "state" / "checkpoint.safetensors")
        broken.processes[1].send_signal(signal.SIGKILL)
        (status, out, said), _ = broken.ended()
    assert (status, out) == (1, "")
    assert said.splitlines()[1:] == [
        "pitune: another process of this run ended; run the same command again to go on where it stopped"
    ]
    assert not (run / "result.json").exists()
    with Two("command", tmp_path, *fit) as again:
        (status, out, said), second = again.ended()
    assert (status, second) == (0, (0, "", "")), said
    assert json.loads(out)["folders"] == [str(pool / "place-lora-all-0")]
    steps = [json.loads(line)["step"] for line in (run / "state" / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))


def wait_for(file: Path) -> None:
    """Wait until a file is there."""
    for _ in range(6000):
        if file.exists():
            return
        time.sleep(0.05)
    pytest.fail(f"waited for five minutes for {file}")


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
