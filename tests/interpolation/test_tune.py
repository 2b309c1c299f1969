"""The whole of π-Tuning on tiny tasks: it uses neighbours that help, ignores those that do not, and resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import draw_of

from pitune import api
from pitune.errors import InputError
from pitune.experts import KINDS, Expert, ExpertPool, digest, load_expert
from pitune.experts.kinds.lora import LoraSettings, delta
from pitune.interpolation import Candidate, MixingWeights, TuneSettings, mix, tune_expert
from pitune.interpolation import tune as tune_module
from pitune.interpolation.choice import choose, select
from pitune.interpolation.mixing import sites_of
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, evaluate_expert, fit_expert, target_training, train

TRAINING = TrainingSettings(steps=16, batch_size=16, learning_rate=2e-2, evaluations=4)
SETTINGS = TuneSettings(training=TRAINING)


@pytest.fixture(scope="module")
def pool(tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> ExpertPool:
    pool = ExpertPool(tmp_path_factory.mktemp("pool"))
    long = TrainingSettings(steps=60, batch_size=16, learning_rate=2e-2)
    for name in ("taste", "place", "colour"):
        pool.add(api.fit(tiny_backbone, tiny_tasks[name], settings=long))
    return pool


def named(pool: ExpertPool, start: str) -> Expert:
    return next(expert for expert in pool if expert.name.startswith(start))


def test_the_fold_is_what_was_chosen(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, tmp_path: Path
) -> None:
    task = tiny_tasks["mood"]
    result = api.tune(tiny_backbone, task, pool, k=2, shots=4, settings=SETTINGS)
    best = choose(result.candidates)
    assert result.choice == best.name
    assert [candidate.name for candidate in result.candidates] == ["neighbours", "alone", "joint", "soup"]
    assert [name for name, _ in result.neighbours] == [
        n for n, _ in api.neighbours(tiny_backbone, task, pool, k=2, shots=4)
    ]
    found = evaluate_expert(tiny_backbone, task, result.expert, few_shot(task, 4, 0).validation)
    assert float(found.calibrated.mean()) == pytest.approx(best.loss, abs=1e-5)
    assert result.expert.card.validation == pytest.approx(found.value)
    result.expert.save(tmp_path / "out")
    assert digest(load_expert(tmp_path / "out")) == digest(result.expert)


def test_without_settings_training_is_as_long_as_the_labels_ask(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [target_training(labels).steps for labels in (0, 48, 160, 161, 9_999)] == [60, 60, 200, 202, 400]

    def short(labels: int) -> TrainingSettings:
        return TrainingSettings(steps=labels, batch_size=16, evaluations=2)

    monkeypatch.setattr(tune_module, "target_training", short)
    result = api.tune(tiny_backbone, tiny_tasks["place"], pool, k=1, shots=2)
    assert result.expert.card.hyperparameters["training"]["steps"] == 6


def test_a_neighbour_that_knows_the_task_wins_untrained(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    task = replace(tiny_tasks["taste"], name="the same again")
    expert = named(pool, "taste")
    result = tune_expert(tiny_backbone, few_shot(task, 2, 0), [expert], settings=SETTINGS)
    alone = next(candidate for candidate in result.candidates if candidate.name == "alone")
    assert result.choice != "alone"
    assert alone.loss is not None
    assert any(candidate.loss < alone.loss for candidate in result.candidates if candidate.loss is not None)
    test = task.examples("test")
    assert evaluate_expert(tiny_backbone, task, result.expert, test).value >= 0.9


def test_alone_is_the_single_expert_to_the_bit(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    """The fallback harms nobody: it is what one would have trained without neighbours."""
    task = tiny_tasks["mood"]
    data = few_shot(task, 4, 0)
    only = SETTINGS.model_copy(update={"candidates": ("alone",)})
    result = tune_expert(tiny_backbone, data, [named(pool, "place")], settings=only)
    single, _ = fit_expert(tiny_backbone, data, method="lora", settings=TRAINING)
    scores = [evaluate_expert(tiny_backbone, task, e, task.examples("test")).scores for e in (result.expert, single)]
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-5, atol=1e-5)


def test_neighbours_that_do_not_help_are_left_out(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    """Beside the nearest, those are taken that lower the loss of equal shares on the few labels."""
    task = replace(tiny_tasks["taste"], name="the same again")
    data = few_shot(task, 4, 0)
    knows = named(pool, "taste")
    not_ = mix([knows], [-2.0], name="the-contrary")
    assert select(tiny_backbone, data, [knows, not_]) == [knows]
    assert select(tiny_backbone, data, [not_, knows]) == [not_, knows]
    only = SETTINGS.model_copy(update={"candidates": ("neighbours",)})
    results = {
        chosen: tune_expert(tiny_backbone, data, [knows, not_], settings=only.model_copy(update={"select": chosen}))
        for chosen in (True, False)
    }
    assert all(weights == {knows.name: 1.0} for weights in results[True].weights.values())
    assert all(weights == {knows.name: 0.5, not_.name: 0.5} for weights in results[False].weights.values())


@pytest.mark.parametrize("granularity", ["site", "layer", "global"])
@pytest.mark.parametrize("kind", ["softmax", "free"])
def test_joint_training_lowers_the_loss_and_moves_the_weights(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, granularity: str, kind: str
) -> None:
    task = tiny_tasks["mood"]
    settings = TuneSettings(training=TRAINING, granularity=granularity, kind=kind, candidates=("joint",))
    data = draw_of(task, validate=False)
    result = tune_expert(tiny_backbone, data, [named(pool, "place")], settings=settings)
    before = evaluate_expert(tiny_backbone, task, None, data.train).loss
    assert evaluate_expert(tiny_backbone, task, result.expert, data.train).loss < before
    weights = torch.tensor([list(values.values()) for values in result.weights.values()])
    assert len(weights) == {"global": 1, "layer": 2, "site": 8}[granularity]
    start = torch.tensor([0.5, 0.5] if kind == "softmax" else [1.0, 1.0])
    assert float((weights - start).abs().min(0).values.max()) > 1e-4
    if kind == "softmax":
        torch.testing.assert_close(weights.sum(1), torch.ones(len(weights)))


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_a_run_stopped_between_and_within_candidates_ends_at_the_same_bytes(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    task = tiny_tasks["mood"]
    data = few_shot(task, 4, 0)
    near = [fit_expert(tiny_backbone, draw_of(tiny_tasks["taste"]), method=method, settings=TRAINING)[0]]
    whole = tune_expert(tiny_backbone, data, near, settings=SETTINGS)
    calls = []

    def stopping(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **named)

    monkeypatch.setattr(tune_module, "train", stopping)
    with pytest.raises(KeyboardInterrupt):
        tune_expert(tiny_backbone, data, near, settings=SETTINGS, run=tmp_path)
    monkeypatch.setattr(tune_module, "train", train)
    resumed = tune_expert(tiny_backbone, data, near, settings=SETTINGS, run=tmp_path)
    assert digest(resumed.expert) == digest(whole.expert)
    assert resumed.candidates == whole.candidates
    assert resumed.weights == whole.weights


def test_the_soup_is_the_mean_of_the_other_candidates(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    """The mean of ΔW at every site, never of its factors; and of the weights that are shown."""
    task = tiny_tasks["mood"]
    near = [named(pool, "taste"), named(pool, "place")]
    data = replace(few_shot(task, 4, 0), validation=())  # nothing to choose by: the last candidate is taken
    whole = SETTINGS.model_copy(update={"select": False})
    result = tune_expert(tiny_backbone, data, near, settings=whole)
    assert result.choice == "soup"
    *parts, soup = (changes(expert) for expert in result.folded.values())
    for site, change in soup.items():
        assert float(change.abs().max()) > 0
        torch.testing.assert_close(change, sum(part[site] for part in parts) / 3, rtol=1e-5, atol=1e-6)
    only = whole.model_copy(update={"candidates": ("joint",)})
    joint = tune_expert(tiny_backbone, data, near, settings=only).weights
    for group, of in result.weights.items():
        shares = {near[0].name: 0.5, near[1].name: 0.5, "own": 1.0}
        assert of == pytest.approx({name: (share + joint[group][name]) / 3 for name, share in shares.items()})


def test_a_rank_makes_the_fold_smaller_and_says_what_it_loses(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    task = tiny_tasks["mood"]
    data = few_shot(task, 4, 0)
    near = [named(pool, "taste")]
    exact, short = (
        tune_expert(
            tiny_backbone, data, near, settings=SETTINGS.model_copy(update={"candidates": ("joint",), "rank": r})
        )
        for r in (None, 4)
    )
    assert exact.weights == short.weights
    before, after = changes(exact.expert), changes(short.expert)
    assert all(torch.linalg.matrix_rank(change) <= 4 for change in after.values())
    lost = sum(float((before[site] - after[site]).square().sum()) for site in before)
    whole = sum(float(change.square().sum()) for change in before.values())
    assert short.expert.card.hyperparameters["truncation_error"] == pytest.approx((lost / whole) ** 0.5, rel=1e-3)
    value = evaluate_expert(tiny_backbone, task, short.expert, data.validation).value
    assert short.expert.card.validation == pytest.approx(value)
    assert "truncation_error" not in exact.expert.card.hyperparameters


def test_the_soup_counts_as_trained_and_has_the_loss_of_its_expert(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    task = tiny_tasks["mood"]
    data = few_shot(task, 4, 0)
    result = tune_expert(tiny_backbone, data, [named(pool, "taste")], settings=SETTINGS)
    *before, last = result.candidates
    assert last.best_step == max(one.best_step for one in before) > 0
    found = evaluate_expert(tiny_backbone, task, result.folded["soup"], data.validation)
    assert list(last.losses) == pytest.approx(found.calibrated.tolist())


def changes(expert: Expert) -> dict[str, torch.Tensor]:
    """Return ΔW by site."""
    config = LoraSettings(**expert.config)
    return {site: delta(config, expert.tensors, site) for site in sites_of([expert])}


def candidate(name: str, losses: Sequence[float], best_step: int = 5) -> Candidate:
    return Candidate(name, 0.5, tuple(losses), 10, best_step)


def test_the_lowest_loss_wins_and_of_equals_the_simplest() -> None:
    simple = candidate("simple", [0.5, 0.1, 0.9, 0.5])
    as_good = candidate("as good", [0.1, 0.5, 0.5, 0.9])
    better = candidate("better", [0.1, 0.3, 0.7, 0.6])
    assert choose([simple, as_good]).name == "simple"
    assert choose([as_good, simple]).name == "as good"
    assert choose([simple, better, as_good]).name == "better"
    assert choose([candidate("first", []), candidate("last", [])]).name == "last"


@pytest.mark.parametrize(("examples", "chosen"), [(8, "soup"), (40, "alone")])
def test_one_candidate_must_be_worth_a_nat_more_than_the_mean_of_all(examples: int, chosen: str) -> None:
    """A tenth of a nat an example: eight examples are no evidence, forty are."""
    alone, soup = candidate("alone", [0.4] * examples), candidate("soup", [0.5] * examples)
    assert choose([alone, soup]).name == chosen
    assert choose([soup, candidate("worse", [0.6] * examples)]).name == "soup"
    assert choose([alone, candidate("worse", [0.5] * examples)]).name == "alone"


def test_bad_input(
    tiny_backbone: Pocket, other_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, tmp_path: Path
) -> None:
    task = tiny_tasks["mood"]
    with pytest.raises(InputError, match="another backbone"):
        api.tune(other_backbone, task, pool, k=1, shots=2)
    with pytest.raises(InputError, match="k is 0"):
        api.tune(tiny_backbone, task, pool, k=0, shots=2)
    with pytest.raises(InputError, match="no expert of another task"):
        api.tune(tiny_backbone, task, ExpertPool(tmp_path / "empty"), k=1, shots=2)
    settings = TuneSettings(candidates=("best",))
    with pytest.raises(InputError, match="unknown candidate 'best'"):
        api.tune(tiny_backbone, task, pool, k=1, shots=2, settings=settings)
    adapters = [replace(expert, kind=KINDS.get("adapter")) for expert in pool]
    with pytest.raises(InputError, match="a rank was asked for, but adapter experts have none"):
        tune_expert(tiny_backbone, few_shot(task, 2, 0), adapters, settings=TuneSettings(rank=2))
    alone = TuneSettings(candidates=("soup", "alone"))
    with pytest.raises(InputError, match="'soup' comes first"):
        api.tune(tiny_backbone, task, pool, k=1, shots=2, settings=alone)
    with pytest.raises(InputError, match="softmax weights must start above 0"):
        MixingWeights(["a.0.b"], [1.0, 0.0], "layer", "softmax")
