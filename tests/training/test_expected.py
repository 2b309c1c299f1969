"""A short trial says how long a run will take, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import pytest

import pitune
from pitune import cli
from pitune.interpolation import TuneSettings, expected_tuning
from pitune.pocket.backbone import Pocket
from pitune.prediction import Neighbours, Target
from pitune.tasks import Task, few_shot
from pitune.training import expected_time, fit_expert


def test_the_expected_time_is_of_the_order_of_the_true_one(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    draw = few_shot(tiny_tasks["taste"], 4)
    settings = pitune.TrainingSettings(steps=40, patience=99)
    expected_time(tiny_backbone, draw, folds=0, settings=settings)  # whatever is slow once
    expected = expected_time(tiny_backbone, draw, folds=0, settings=settings)
    start = perf_counter()
    before, _ = fit_expert(tiny_backbone, draw, settings=settings)
    true = perf_counter() - start
    assert true / 8 < expected.seconds < true * 8  # machines are busy
    assert " here: 40 steps, by a trial of " in expected.line
    usual = expected_time(tiny_backbone, draw)
    assert (usual.runs, usual.steps) == (3, 60)
    assert " here: 3 runs of 60 steps, by a trial of " in usual.line
    again, _ = fit_expert(tiny_backbone, draw, settings=settings)
    assert all(before.tensors[name].equal(value) for name, value in again.tensors.items())


def test_the_expected_time_of_tuning_counts_every_run(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    settings = pitune.TrainingSettings(steps=4, batch_size=8)
    experts = [pitune.fit(tiny_backbone, tiny_tasks[name], shots=2, settings=settings) for name in ("mood", "place")]
    draw = few_shot(tiny_tasks["taste"], 4)
    near = Neighbours(Target(tiny_backbone, draw), tuple(experts), (0.5, 0.4))
    asked = TuneSettings(training=pitune.TrainingSettings(steps=40))
    expected = expected_tuning(near, asked)
    assert (expected.runs, expected.steps) == (6, 40)  # the own expert alone and the mix, each whole and by two folds
    assert expected.seconds > 240 * expected.a_step / 2
    assert expected.line.startswith("tuning takes about ")
    assert expected_tuning(near, asked, test=10_000).seconds > expected.seconds
    stopped = expected_tuning(near, asked.model_copy(update={"folds": 0, "candidates": ("alone",)}))
    assert (stopped.runs, stopped.steps) == (1, 40)


def test_a_command_tells_before_anything_long_and_its_outcome_is_the_same(
    pocket_is_tiny: Pocket,
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pool, files = tmp_path / "pool", ("adapter_model.safetensors", "fisher.safetensors", "expert.json")
    fit = ["fit", str(tiny_task_paths["mood"]), "--steps", "4", "--shots", "4"]
    tune = ["tune", str(tiny_task_paths["taste"]), "--steps", "4", "--shots", "4", "--pool", str(pool)]
    made = {}
    for long, told in ((1e9, False), (0.0, True)):
        monkeypatch.setattr("pitune.commands.runs._LONG", long)
        for command, where in ((fit, "fitted"), (tune, "tuned")):
            out = tmp_path / f"{where}-{told}"
            assert cli.main([*command, "--run", str(tmp_path / f"run-{where}-{told}"), "--out", str(out)]) == 0
            said = capsys.readouterr().err
            assert (" runs of 4 steps, by a trial of " in said) is told
            made[where, told] = [(out / file).read_bytes() for file in files]
            if where == "fitted" and not pool.exists():
                assert cli.main(["pool", "add", str(out), "--pool", str(pool)]) == 0
    assert made["fitted", True] == made["fitted", False]
    assert made["tuned", True] == made["tuned", False]
    assert cli.main([*fit, "--run", str(tmp_path / "run-fitted-True"), "--out", str(tmp_path / "again")]) == 0
    assert "by a trial of" not in capsys.readouterr().err  # it has ended
