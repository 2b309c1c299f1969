"""Which experts serve a target: any score, ties by name, and every expert of a pool loaded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pitune import api
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, PoolIndex, load_expert
from pitune.experts import pool as pool_module
from pitune.interpolation import TuneSettings, tune_nearest
from pitune.pocket.backbone import Pocket
from pitune.prediction import SCORES, Score, fisher_similarity, neighbours, probe_fisher, target
from pitune.tasks import Draw, Task, few_shot
from pitune.training import TrainingSettings, evaluate_expert

FAST = TrainingSettings(steps=4, batch_size=8, evaluations=2)


@pytest.fixture(scope="module")
def experts(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> list[Expert]:
    return [api.fit(tiny_backbone, tiny_tasks[name], shots=2, settings=FAST) for name in ("taste", "place", "colour")]


@pytest.fixture
def pool(experts: list[Expert], tmp_path: Path) -> ExpertPool:
    made = ExpertPool(tmp_path / "pool")
    for expert in experts:
        made.add(expert)
    return made


@pytest.fixture
def draw(tiny_tasks: dict[str, Task]) -> Draw:
    return few_shot(tiny_tasks["mood"], 2, 0)


def test_the_probe_ranks_by_fisher_similarity(tiny_backbone: Pocket, pool: ExpertPool, draw: Draw) -> None:
    near = neighbours(tiny_backbone, draw, pool, k=3)
    expected = {expert.name: fisher_similarity(near.target.probe, _probe(expert)) for expert in pool}
    assert near.pairs == sorted(expected.items(), key=lambda pair: -pair[1])
    assert [expert.name for expert in near.experts] == [name for name, _ in near.pairs]


def test_a_trial_ranks_by_the_loss_on_the_few_labels(tiny_backbone: Pocket, pool: ExpertPool, draw: Draw) -> None:
    near = neighbours(tiny_backbone, draw, pool, k=2, by="trial")
    losses = {e.name: evaluate_expert(tiny_backbone, draw.task, e, draw.labels).loss for e in pool}
    assert [name for name, _ in near.pairs] == sorted(losses, key=losses.__getitem__)[:2]
    assert near.scores[0] == pytest.approx(-min(losses.values()), abs=1e-6)


def test_equals_go_by_name(tiny_backbone: Pocket, pool: ExpertPool, draw: Draw) -> None:
    SCORES.register("same", Score("same", "all alike", lambda target, expert: 1.0))
    try:
        names = [name for name, _ in neighbours(tiny_backbone, draw, pool, k=2, by="same").pairs]
    finally:
        SCORES.forget("same")
    assert names == sorted(pool.names())[:2]


def test_a_run_loads_every_neighbour_once_and_embeds_its_target_once(
    tiny_backbone: Pocket, pool: ExpertPool, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    PoolIndex(pool)
    loads, probes = [], []
    load, probe = load_expert, probe_fisher
    monkeypatch.setattr(pool_module, "load_expert", lambda folder: loads.append(folder) or load(folder))
    monkeypatch.setattr(target, "probe_fisher", lambda *given, **named: probes.append(1) or probe(*given, **named))
    result = api.tune(tiny_backbone, draw.task, pool, k=2, shots=2, settings=TuneSettings(training=FAST))
    assert len(loads) == len(set(loads)) == 2
    assert len(probes) == 1
    expected = probe(tiny_backbone, draw.task, draw.labels)
    for name, value in _probe(result.expert).items():
        torch.testing.assert_close(value, expected[name])


def test_experts_of_the_task_itself_and_of_other_kinds_are_passed_over(
    tiny_backbone: Pocket, pool: ExpertPool, draw: Draw, tiny_tasks: dict[str, Task]
) -> None:
    own = few_shot(tiny_tasks["taste"], 2, 0)
    assert all("taste" not in name for name, _ in neighbours(tiny_backbone, own, pool, k=3).pairs)
    with pytest.raises(InputError, match="has no adapter expert of another task; it has lora, choose with --method"):
        neighbours(tiny_backbone, draw, pool, k=1, method="adapter")
    with pytest.raises(InputError, match="train some with `pitune fit`"):
        neighbours(tiny_backbone, draw, ExpertPool(pool.folder / "none"), k=1)
    with pytest.raises(InputError, match="k is 0"):
        neighbours(tiny_backbone, draw, pool, k=0)
    with pytest.raises(InputError, match="unknown score 'prob'; did you mean probe"):
        neighbours(tiny_backbone, draw, pool, k=1, by="prob")


@pytest.mark.parametrize("settings", [None, TuneSettings(rank=8)])
def test_the_length_of_a_run_follows_from_the_labels_alone(
    tiny_backbone: Pocket, pool: ExpertPool, draw: Draw, settings: TuneSettings | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = replace(draw, train=tuple(draw.task.examples("train")), validation=())
    only = (settings or TuneSettings()).model_copy(update={"candidates": ("neighbours",)})
    near = neighbours(tiny_backbone, many, pool, k=1)
    card = tune_nearest(near, settings=only).expert.card
    assert card.hyperparameters["training"]["steps"] == max(60, -(-20 * len(many.train) // 16))


def _probe(expert: Expert) -> dict[str, torch.Tensor]:
    assert expert.fisher is not None
    return {name.removeprefix("probe."): v for name, v in expert.fisher.items() if name.startswith("probe.")}
