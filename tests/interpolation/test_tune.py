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
from pitune.experts import KINDS, Expert, ExpertPool, Kind, digest, load_expert
from pitune.experts.kinds.lora_update import LoraSettings, delta
from pitune.interpolation import Candidate, MixingWeights, TuneSettings, mix, tune_expert
from pitune.interpolation import tune as tune_module
from pitune.interpolation.choice import best_scale, choose, select
from pitune.interpolation.mixing import sites_of
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, calibrated_losses, evaluate_expert, fit_expert, target_training, train

TRAINING = TrainingSettings(steps=16, batch_size=16, learning_rate=2e-2, evaluations=4)
SETTINGS = TuneSettings(training=TRAINING, folds=0, rank="exact")
BY_FOLDS = TuneSettings(training=TRAINING)


@pytest.fixture(scope="module")
def pool(tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory) -> ExpertPool:
    pool = ExpertPool(tmp_path_factory.mktemp("pool"))
    long = TrainingSettings(steps=60, batch_size=16, learning_rate=2e-2)
    for name in ("taste", "place", "colour"):
        pool.add(api.fit(tiny_backbone, tiny_tasks[name], settings=long, folds=0))
    return pool


def named(pool: ExpertPool, start: str) -> Expert:
    return next(expert for expert in pool if expert.name.startswith(start))


def test_the_fold_is_what_was_chosen(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, tmp_path: Path
) -> None:
    task = tiny_tasks["mood"]
    result = api.tune(tiny_backbone, task, pool, k=2, shots=4, settings=SETTINGS)
    best = choose(result.candidates, "soup", 1.0)
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
    lora, prompt = KINDS.get("lora"), KINDS.get("text_prompt")
    many = [target_training(labels, lora, stopped=False) for labels in (0, 48, 160, 161, 9_999)]
    assert [one.steps for one in many] == [60, 60, 200, 202, 400]
    assert target_training(48, lora, stopped=False).batch_size == 16
    assert [target_training(48, lora, stopped=stopped).learning_rate for stopped in (False, True)] == [1e-2, 3e-3]
    rates = [target_training(labels, lora, stopped=False).learning_rate for labels in (256, 257, 840)]
    assert rates == [1e-2, 3e-3, 3e-3]  # of many labels at 1e-2 a run is lost, docs/settings.md
    assert target_training(208, lora, stopped=False, whole=260).learning_rate == 3e-3  # what judges learns as it does
    assert {target_training(labels, prompt, stopped=False).learning_rate for labels in (4, 840)} == {2e-2}
    whole = [target_training(labels, prompt, stopped=False) for labels in (0, 48, 9_999)]
    assert [(one.steps, one.batch_size) for one in whole] == [(200, 1), (200, 48), (200, 256)]

    def short(labels: int, kind: Kind, *, stopped: bool, whole: int | None = None) -> TrainingSettings:
        return TrainingSettings(steps=labels, batch_size=16, evaluations=2)

    monkeypatch.setattr(tune_module, "target_training", short)
    result = api.tune(tiny_backbone, tiny_tasks["place"], pool, k=1, shots=2)
    assert result.expert.card.hyperparameters["training"]["steps"] == 12  # those to validate by learn, too


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
    settings = SETTINGS.model_copy(update={"granularity": granularity, "kind": kind, "candidates": ("joint",)})
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
        for r in ("exact", 4)
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
    assert list(last.losses) == pytest.approx(found.calibrated.tolist(), abs=1e-5)


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
    assert choose([simple, as_good], "none", 1.0).name == "simple"
    assert choose([as_good, simple], "none", 1.0).name == "as good"
    assert choose([simple, better, as_good], "none", 1.0).name == "better"
    assert choose([candidate("first", []), candidate("last", [])], "last", 1.0).name == "last"


@pytest.mark.parametrize(("examples", "chosen"), [(8, "soup"), (40, "alone")])
def test_one_candidate_must_be_worth_a_nat_more_than_what_is_taken_in_doubt(examples: int, chosen: str) -> None:
    """A tenth of a nat an example: eight examples are no evidence, forty are."""
    alone, soup = candidate("alone", [0.4] * examples), candidate("soup", [0.5] * examples)
    assert choose([alone, soup], "soup", 1.0).name == chosen
    assert choose([soup, candidate("worse", [0.6] * examples)], "soup", 1.0).name == "soup"
    assert choose([alone, candidate("worse", [0.5] * examples)], "soup", 1.0).name == "alone"


def test_by_folds_every_label_trains_and_each_is_judged_by_a_run_that_did_not_see_it(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_tasks["mood"]
    draw = few_shot(task, 4, 0)
    seen: list[Any] = []
    true_train = train

    def watched(place: Any, learner: Any, feed: Any, settings: TrainingSettings, **named: Any) -> Any:
        seen.append((feed.described()["examples"], settings.pull))
        return true_train(place, learner, feed, settings, **named)

    monkeypatch.setattr(tune_module, "train", watched)
    only = BY_FOLDS.model_copy(update={"candidates": ("alone",)})
    result = tune_expert(tiny_backbone, draw, [named(pool, "taste")], settings=only)
    ids = [[{one.id for one in part} for part in (fold.train, fold.validation)] for fold in draw.folds(2)]
    assert [set(train) for (train, _), _ in seen] == [{one.id for one in draw.labels}, ids[0][0], ids[1][0]]
    assert all(not stopped_by and pull == 1.0 for (_, stopped_by), pull in seen)
    assert not ids[0][1] & ids[1][1]
    (alone,) = result.candidates
    assert len(alone.losses) == sum(len(held) for _, held in ids)
    assert alone.best_step == alone.steps == TRAINING.steps


def test_by_folds_the_evidence_is_that_of_runs_on_the_other_labels(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    """Each held-out half as an expert fitted to the other half answers it, at one temperature for all."""
    task = tiny_tasks["mood"]
    draw = few_shot(task, 4, 0)
    only = BY_FOLDS.model_copy(update={"candidates": ("alone",)})
    result = tune_expert(tiny_backbone, draw, [named(pool, "taste")], settings=only)
    pulled = TRAINING.model_copy(update={"pull": 1.0})
    scores, target = [], []
    for fold in draw.folds(2):
        expert, _ = fit_expert(tiny_backbone, replace(fold, validation=()), settings=pulled)
        found = evaluate_expert(tiny_backbone, task, expert, fold.validation)
        scores.append(found.scores)
        target.append(found.target)
    expected = calibrated_losses(torch.cat(scores), torch.cat(target))
    assert result.candidates[0].losses == pytest.approx(expected.tolist(), abs=1e-4)
    whole, _ = fit_expert(tiny_backbone, draw.whole, settings=pulled)
    for site, change in changes(whole).items():
        torch.testing.assert_close(changes(result.expert)[site], change, rtol=1e-4, atol=1e-5)


def test_averaged_the_outcome_is_the_mean_of_all_runs_and_the_evidence_stays(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    draw = few_shot(tiny_tasks["mood"], 4, 0)
    only = BY_FOLDS.model_copy(update={"candidates": ("alone",), "rank": "exact"})
    once = tune_expert(tiny_backbone, draw, [named(pool, "taste")], settings=only)
    mean = tune_expert(tiny_backbone, draw, [named(pool, "taste")], settings=only.model_copy(update={"averaged": True}))
    pulled = TRAINING.model_copy(update={"pull": 1.0})
    runs = [draw.whole, *(replace(fold, validation=()) for fold in draw.folds(2))]
    each = [changes(fit_expert(tiny_backbone, run, settings=pulled)[0]) for run in runs]
    for site, change in changes(mean.expert).items():
        torch.testing.assert_close(change, sum(one[site] for one in each) / 3, rtol=1e-4, atol=1e-5)
    assert mean.candidates == once.candidates
    assert len(mean.expert.card.parents) == 3


def test_prompts_are_not_said_to_start_at_the_backbone_alone(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    short = TrainingSettings(steps=2, batch_size=16)
    other = api.fit(tiny_backbone, tiny_tasks["taste"], method="prompt", settings=short, folds=0)
    only = TuneSettings(training=short, candidates=("backbone", "alone"))
    found = tune_expert(tiny_backbone, few_shot(tiny_tasks["mood"], 4, 0), [other], settings=only)
    beside = "an untrained prompt" if found.choice == "alone" else "the own expert alone"
    assert beside in found.verdict[0]
    assert not any("the backbone alone" in line for line in found.verdict)


def test_the_smallest_rank_is_taken_that_keeps_the_update_and_the_answers(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    task = tiny_tasks["mood"]
    draw, near = few_shot(task, 4, 0), [named(pool, "taste"), named(pool, "place")]
    settings = BY_FOLDS.model_copy(update={"candidates": ("alone", "joint", "soup")})
    small = tune_expert(tiny_backbone, draw, near, settings=settings).expert
    exact = tune_expert(tiny_backbone, draw, near, settings=settings.model_copy(update={"rank": "exact"})).expert
    assert small.parameters < exact.parameters
    before, after = changes(exact), changes(small)
    lost = sum(float((before[site] - after[site]).square().sum()) for site in before)
    whole = sum(float(change.square().sum()) for change in before.values())
    told = small.card.hyperparameters
    assert told["truncation_error"] == pytest.approx((lost / whole) ** 0.5, rel=1e-2)
    assert told["truncation_error"] <= 0.01
    less = mix([exact], [1.0], rank=told["rank"] - 1).card.hyperparameters["truncation_error"]
    assert less > 0.01
    answers = [evaluate_expert(tiny_backbone, task, one, draw.labels).scores.argmax(-1) for one in (exact, small)]
    assert answers[0].tolist() == answers[1].tolist()


def test_the_own_expert_has_settings_of_its_own(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    draw, near = few_shot(tiny_tasks["mood"], 4, 0), [named(pool, "taste")]
    of_near = near[0].settings
    assert isinstance(of_near, LoraSettings)
    place = of_near.target_modules[0]
    own = {"r": 2, "target_modules": [place]}
    result = tune_expert(tiny_backbone, draw, near, settings=SETTINGS.model_copy(update={"own": own}))
    alone, joint = result.folded["alone"], result.folded["joint"]
    assert {site: value.shape[0] for site, value in alone.tensors.items() if "lora_A" in site} == {
        f"{place}.lora_A.weight": 2
    }
    assert isinstance(joint.settings, LoraSettings)
    assert set(joint.settings.target_modules) == set(of_near.target_modules)
    assert joint.tensors[f"{place}.lora_A.weight"].shape[0] == 2 + of_near.r
    assert result.expert.card.hyperparameters["own"] == own
    with pytest.raises(InputError, match="rank"):
        tune_expert(tiny_backbone, draw, near, settings=SETTINGS.model_copy(update={"own": {"rank": 2}}))


@pytest.mark.parametrize("rank", ["exact", 2])
def test_the_soup_is_judged_as_it_is_shipped(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool, rank: Any
) -> None:
    draw, near = few_shot(tiny_tasks["mood"], 4, 0), [named(pool, "taste")]
    result = tune_expert(tiny_backbone, draw, near, settings=SETTINGS.model_copy(update={"rank": rank}))
    found = evaluate_expert(tiny_backbone, draw.task, result.folded["soup"], draw.validation).calibrated
    soup = next(one for one in result.candidates if one.name == "soup")
    assert soup.losses == pytest.approx(found.tolist(), abs=1e-4)


def test_a_pull_keeps_a_run_near_its_start(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    """`c / N · ½ ‖ΔW‖²`: the stronger, the nearer; and it is ΔW that is held, not its factors."""
    draw = few_shot(tiny_tasks["mood"], 4, 0).whole
    lengths = []
    for pull in (0.0, 1.0, 1e4):
        expert, _ = fit_expert(tiny_backbone, draw, settings=TRAINING.model_copy(update={"pull": pull}))
        lengths.append(sum(float(change.square().sum()) for change in changes(expert).values()))
    assert lengths[0] > lengths[1] > lengths[2]
    assert lengths[2] < 1e-2 * lengths[0]


def test_neighbours_are_scaled_as_the_labels_ask_and_left_out_where_none_helps(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], pool: ExpertPool
) -> None:
    task = replace(tiny_tasks["taste"], name="the same again")
    draw = few_shot(task, 4, 0)
    knows = named(pool, "taste")
    assert best_scale(tiny_backbone, draw, [mix([knows], [0.5])]) > best_scale(
        tiny_backbone, draw, [mix([knows], [2.0])]
    )
    contrary = mix([knows], [-2.0], name="the-contrary")
    assert best_scale(tiny_backbone, draw, [contrary]) == 0
    result = tune_expert(tiny_backbone, draw, [contrary], settings=BY_FOLDS)
    assert [one.name for one in result.candidates] == ["backbone", "alone"]
    assert all(set(weights) == {"own"} for weights in result.weights.values())
    helped = tune_expert(tiny_backbone, draw, [knows], settings=BY_FOLDS)
    assert [one.name for one in helped.candidates] == ["backbone", "neighbours", "alone", "joint"]


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
