"""The study of settings judges by validation examples that no run has drawn, and never by the test part."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.studies.conftest import small_plan

from pitune.errors import InputError
from pitune.experts import KINDS, Expert, ExpertPool
from pitune.interpolation import TuneSettings, tune
from pitune.pocket.backbone import Pocket
from pitune.studies import VARIANTS, ComparePlan, Study, Trial, held_out, run_settings
from pitune.studies.compare import prepare_pool
from pitune.studies.settings import Cell, most_relevant
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, evaluate_expert


def test_every_candidate_and_variant_gets_a_row(
    pocket_is_tiny: Pocket, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    plan = small_plan(tiny_task_paths, ("mood", "taste", "place"))
    unlike, unrelated = (f"joint, neighbours {rest}" for rest in ("unlike each other", "of unrelated starts"))
    tried = "neighbours by trial"
    names = ("default", "joint, neighbours frozen", "joint, k = 1", unlike, unrelated, tried)
    results = run_settings(plan, tmp_path, names, progress=False)
    ways = {f"{name}: {one}" for name in ("default", tried) for one in (*plan.tuning.tried, "chosen")}
    ways |= set(names[1:5])
    assert {(row.task, row.method) for row in results.rows} == {
        (t, w) for t in ("mood", "taste", "place") for w in ways
    }
    alone = [gain for gain in results.gains if gain.method in ("default: alone", f"{tried}: alone")]
    assert [gain.mean for gain in alone] == [0, 0]
    over = {(gain.method, gain.baseline): gain.mean for gain in results.gains}
    assert over["joint, k = 1", "default: alone"] == pytest.approx(
        over["joint, k = 1", "default: joint"] + over["default: joint", "default: alone"]
    )
    assert ("neighbours by trial: joint", "default: joint") in over
    assert run_settings(plan, tmp_path, names, progress=False) == results
    common, other = (ExpertPool(tmp_path / name) for name in ("pool", "pool-unrelated"))
    assert common.names() == other.names()
    assert _likeness(common) > 0.8  # a few small steps away from common values
    assert abs(_likeness(other)) < 0.2
    with pytest.raises(InputError, match=r"unknown variant 'odd'; expected one of: .*, default, "):
        run_settings(plan, tmp_path, ("odd",))


def test_candidates_follow_from_the_number_of_labels(
    pocket_is_tiny: Pocket, tiny_task_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = small_plan(tiny_task_paths, ("mood", "taste"))
    cell = Cell(Trial(plan, tmp_path, str(tiny_task_paths["mood"]), 4, 0), ("default",))
    assert {key[1] for key in cell.measures()} >= {"default: backbone", "default: chosen"}
    monkeypatch.setattr(tune, "folds_of", lambda labels: 0)  # as of a thousand and more
    assert {key[1] for key in cell.measures()} == {
        f"default: {one}" for one in ("neighbours", "alone", "joint", "soup", "chosen")
    }


def _likeness(pool: ExpertPool) -> float:
    """Return the cosine of two experts' factors A."""
    first, second = (
        torch.cat([value.flatten() for name, value in sorted(expert.tensors.items()) if "lora_A" in name])
        for expert in list(pool)[:2]
    )
    return float(torch.cosine_similarity(first, second, dim=0))


def test_what_is_held_out_was_not_drawn(tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["place"]
    draw = few_shot(task, 2, 0)
    labelled = {example.id for example in draw.labels}
    held = held_out(draw, 100)
    assert len(held) == len(task.examples("validation")) - len(draw.validation) > 0
    assert not labelled & {example.id for example in held}
    assert not {example.id for example in task.examples("test")} & {example.id for example in held}


def test_neighbours_by_trial_are_those_that_answer_the_few_labels_best(
    pocket_is_tiny: Pocket, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    steps = TrainingSettings(steps=8, batch_size=16, learning_rate=2e-2, evaluations=2)
    tasks = tuple(str(tiny_task_paths[name]) for name in ("mood", "taste", "place"))
    plan = ComparePlan(tasks=tasks, shots=(2,), seeds=1, validation=6, source_training=steps)
    prepare_pool(plan, Study(tmp_path, progress=False))
    trial = Trial(plan, tmp_path, tasks[0], 2, 0)

    def loss(expert: Expert) -> torch.Tensor:
        return evaluate_expert(trial.backbone, trial.task, expert, trial.draw.labels).calibrated.sum()

    variant = VARIANTS["neighbours by trial"]
    best, second = variant.neighbours(trial, 2)
    assert {best.name, second.name} == {name for name, _ in trial.neighbours.pairs}
    assert loss(best) < loss(second)
    assert [expert.name for expert in variant.neighbours(trial, 1)] == [best.name]


def test_every_variant_changes_what_is_there(
    pocket_is_tiny: Pocket, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    plan = ComparePlan(tasks=(str(tiny_task_paths["mood"]),))
    trial = Trial(plan, tmp_path, plan.tasks[0], 4, 0)
    settings = {name: variant.settings(trial) for name, variant in VARIANTS.items()}
    for one in settings.values():
        TuneSettings.model_validate(one.model_dump())
    usual = settings["default"].lasting(trial.draw.whole, KINDS.get("lora"))
    longer = settings["trained 2.5 times as long"].lasting(trial.draw.whole, KINDS.get("lora"))
    assert longer == usual.model_copy(update={"steps": round(2.5 * usual.steps)})
    slower = settings["at a third of the learning rate"].lasting(trial.draw.whole, KINDS.get("lora"))
    assert slower.learning_rate == pytest.approx(usual.learning_rate / 3)
    assert slower.model_copy(update={"learning_rate": usual.learning_rate}) == usual


def test_a_near_duplicate_of_what_is_taken_waits() -> None:
    near = {"tweets": 0.9, "tweets again": 0.89, "movie": 0.8, "mnist": 0.1}
    alike = {frozenset(("tweets", "tweets again")): 0.99, frozenset(("tweets", "movie")): 0.7}

    def between(one: str, other: str) -> float:
        return alike.get(frozenset((one, other)), 0.0)

    assert most_relevant(near, between, 3) == ["tweets", "movie", "mnist"]  # 0.8 - 0.7, 0.1 - 0.0, 0.89 - 0.99
    assert most_relevant(near, between, 9) == ["tweets", "movie", "mnist", "tweets again"]
