"""How scores are judged, by hand; and the study, whole, on tiny tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from pitune.cli import main
from pitune.errors import InputError
from pitune.experts import ExpertPool
from pitune.interpolation import TuneSettings
from pitune.prediction import leep, spread
from pitune.studies import predictors as predictors_module
from pitune.studies.compare import ComparePlan
from pitune.studies.predictors import COMBINED, run_predictors
from pitune.studies.ranking import at_random, mean_rank, quality, reliability, summary
from pitune.studies.scores import SCORES, Pair, Source, Target
from pitune.tasks import Example, Task
from pitune.training import TrainingSettings, evaluate_expert, sample

TRUTH = {"a": 0.3, "b": 0.2, "c": 0.1, "d": -0.1}


def test_a_score_is_judged_by_ranks_by_what_it_loses_and_by_the_best_two():
    right = quality(TRUTH, {"a": 9.0, "b": 5.0, "c": 4.0, "d": 0.0})
    assert (right.spearman, right.regret, right.recall) == (pytest.approx(1), 0, 1)
    assert right.gain == pytest.approx(30)
    found = quality(TRUTH, {"a": 1.0, "b": 4.0, "c": 3.0, "d": 2.0})  # ranks 1 4 3 2 against 4 3 2 1
    assert found.spearman == pytest.approx(1 - 6 * (9 + 1 + 1 + 1) / (4 * 15))
    assert found.regret == pytest.approx(10)
    assert (found.recall, found.gain) == (0.5, pytest.approx(20))


def test_a_source_that_a_score_cannot_read_is_one_it_cannot_choose():
    found = quality(TRUTH, {"b": 3.0, "c": 2.0, "d": 1.0})
    assert found.spearman == pytest.approx(1)
    assert found.regret == pytest.approx(10)
    assert found.recall == 0.5
    assert quality(TRUTH, {"b": 3.0, "c": 2.0}) is None
    assert quality(TRUTH, dict.fromkeys(TRUTH, 1.0)) is None


def test_drawing_at_random_is_the_mean_over_sources():
    each = [quality(TRUTH, {s: float(s == best) + 0.01 * i for i, s in enumerate(TRUTH)}) for best in TRUTH]
    found = at_random(TRUTH)
    assert found.regret == pytest.approx(sum(one.regret for one in each) / 4)
    assert found.gain == pytest.approx(sum(one.gain for one in each) / 4)


def test_ranks_are_averaged_over_what_both_scores_read():
    found = mean_rank([{"a": 100.0, "b": 2.0, "c": 1.0, "d": 0.0}, {"a": 0.1, "b": 0.3, "c": 0.2}])
    assert found == {"a": 2.0, "b": 2.5, "c": 1.5}
    assert mean_rank([{"a": 1.0}, {"b": 1.0}]) == {}


def test_targets_count_alike_however_many_seeds_they_have():
    other = {"a": -0.3, "b": -0.2, "c": 0.0, "d": 0.1}
    up, down = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    found = summary("s", [({"t": TRUTH, "u": other}, {"t": up, "u": up}), ({"t": TRUTH, "u": other}, {"t": down})])
    assert found["by_target"] == {"t": pytest.approx(0), "u": pytest.approx(-1)}
    assert found["spearman"]["mean"] == pytest.approx(-0.5)
    assert (found["targets"], found["seeds"]) == (2, 2)
    assert summary("s", [({"t": TRUTH}, {})]) is None


def test_the_ceiling_is_what_truth_reaches_against_a_noisy_measurement():
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(300, 200))
    first, second = (truth + draw.normal(size=truth.shape) for _ in range(2))

    def table(values):
        return {str(t): {str(s): float(value) for s, value in enumerate(row)} for t, row in enumerate(values)}

    found = reliability(table(first), table(second))
    whole = np.mean([spearmanr(a, b).statistic for a, b in zip(truth, (first + second) / 2, strict=True)])
    assert found["halves"] == pytest.approx(0.5, abs=0.03)
    assert found["ceiling"] == pytest.approx(whole, abs=0.02)
    assert reliability(table(first), {}) is None


@pytest.fixture(autouse=True)
def _fresh_sources():
    yield
    predictors_module._source.cache_clear()


@pytest.fixture
def plan(tiny_task_paths):
    steps = TrainingSettings(steps=4, batch_size=16, learning_rate=2e-2, evaluations=2)
    tasks = tuple(str(tiny_task_paths[name]) for name in ("mood", "taste", "place", "colour"))
    tuning = TuneSettings(training=steps)
    return ComparePlan(tasks=tasks, shots=(2,), seeds=1, test=6, validation=6, source_training=steps, tuning=tuning)


def test_measures_and_scores_every_source_of_every_target(pocket_is_tiny, tiny_tasks, plan, tmp_path):
    found = run_predictors(plan, tmp_path, adapted=True, progress=False)
    assert found == json.loads((tmp_path / "predictors.json").read_text())
    methods = [row["method"].partition(" ")[0] for row in found["rows"]]
    expected = dict.fromkeys([*SCORES, "adapted"], 4 * 3)
    kinds = [f"unchanged{kind}{half}" for kind in ("", "-loss") for half in ("", "-1", "-2")]
    expected |= dict.fromkeys(kinds, 4 * 3) | {"zero-shot": 4, "zero-shot-loss": 4}
    assert {method: methods.count(method) for method in set(methods)} == expected
    values = {(row["task"], row["method"], row["seed"]): row["value"] for row in found["rows"]}
    mood, test = tiny_tasks["mood"], spread(tiny_tasks["mood"].examples("test"), 6)
    expert = next(one for one in ExpertPool(tmp_path / "pool") if one.card.task == tiny_tasks["taste"].name)
    unchanged = evaluate_expert(pocket_is_tiny, mood, expert, test)
    assert values[mood.name, f"unchanged {tiny_tasks['taste'].name}", 0] == unchanged.value
    assert values[mood.name, f"unchanged-loss {tiny_tasks['taste'].name}", 0] == -unchanged.loss
    for kind in ("unchanged", "unchanged-loss"):
        source = tiny_tasks["taste"].name
        halves = [values[mood.name, f"{kind}{half} {source}", 0] for half in ("-1", "-2")]
        assert sum(halves) / 2 == pytest.approx(values[mood.name, f"{kind} {source}", 0])
    for kind in ("unchanged", "unchanged-loss", "adapted"):
        names = {one["predictor"] for one in found["predictors"][kind]}
        assert names <= {*SCORES, *COMBINED, "random"}


def test_a_second_run_computes_nothing(pocket_is_tiny, plan, tmp_path, monkeypatch):
    first = run_predictors(plan, tmp_path, progress=False)
    monkeypatch.setattr(predictors_module, "evaluate_expert", lambda *arguments: pytest.fail("measured again"))
    monkeypatch.setattr(predictors_module, "_scored", lambda *arguments: pytest.fail("scored again"))
    assert run_predictors(plan, tmp_path, progress=False) == first


def test_scores_read_the_few_labels_alone(tiny_backbone, tiny_tasks, plan, tmp_path):
    mood = tiny_tasks["mood"]
    hidden = Task(mood.name, {**mood.splits, "test": ()}, mood.answers, data_hash=mood.data_hash)
    assert _scores(tiny_backbone, hidden, tiny_tasks["taste"], plan, tmp_path) == _scores(
        tiny_backbone, mood, tiny_tasks["taste"], plan, tmp_path / "other"
    )


def test_open_answers_are_skipped_by_what_needs_classes(tiny_backbone, tiny_tasks, plan, tmp_path):
    mood = tiny_tasks["mood"]
    listed = tuple(mood.answers)
    opened = {
        split: [Example(one.id, one.target, one.text, candidates=listed) for one in examples]
        for split, examples in mood.splits.items()
    }
    without = Task("open", opened, balanced=False)
    needing = {"logme", "leep", "h-score", "label-similarity"}
    assert SCORES.keys() - _scores(tiny_backbone, without, tiny_tasks["taste"], plan, tmp_path).keys() == needing
    found = _scores(tiny_backbone, tiny_tasks["taste"], without, plan, tmp_path / "other")
    assert SCORES.keys() - found.keys() == {"leep", "label-similarity"}


def test_leep_and_the_trial_read_what_the_sources_expert_says(tiny_backbone, tiny_tasks, plan, tmp_path):
    pair = _pair(tiny_backbone, tiny_tasks["mood"], tiny_tasks["place"], plan, tmp_path)
    expert, support = pair.source.expert, pair.target.support
    assert pair.loss == pytest.approx(
        evaluate_expert(tiny_backbone, tiny_tasks["mood"], expert, support).loss, rel=1e-4
    )
    as_place = [Example(one.id, "sea", one.text) for one in support]
    said = evaluate_expert(tiny_backbone, tiny_tasks["place"], expert, as_place)
    theta = dict(zip(said.ids, said.scores.exp(), strict=True))
    expected = leep(torch.stack([theta[one.id] for one in support]), pair.target.labels)
    assert SCORES["leep"][1](pair) == pytest.approx(expected, rel=1e-4)


def test_the_trial_without_over_confidence_is_the_calibrated_loss(tiny_backbone, tiny_tasks, plan, tmp_path):
    pair = _pair(tiny_backbone, tiny_tasks["mood"], tiny_tasks["place"], plan, tmp_path)
    found = evaluate_expert(tiny_backbone, tiny_tasks["mood"], pair.source.expert, pair.target.support)
    assert pair.calibrated_loss == pytest.approx(float(found.calibrated.mean()), rel=1e-4)
    assert pair.calibrated_loss != pytest.approx(pair.loss, rel=1e-3)


def test_features_match_as_scores_do(tiny_backbone, tiny_tasks):
    batch = tiny_backbone.prepare(tiny_tasks["mood"].examples("train")[:5], tiny_tasks["mood"])
    seen = tiny_backbone.features(batch)
    torch.testing.assert_close(tiny_backbone.match(seen, batch), tiny_backbone.scores(batch))
    others = ["sea", "hill"]
    torch.testing.assert_close(tiny_backbone.match(seen, batch, others), tiny_backbone.scores(batch, others))


def test_the_command_prints_a_table_and_json(pocket_is_tiny, plan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(predictors_module, "PLAN", plan)
    given = [*plan.tasks, "--out", str(tmp_path / "out"), "--seeds", "1", "--shots", "2", "--test", "6", "--steps", "2"]
    assert main(["study", "predictors", *given, "--json"]) == 0
    assert {one["targets"] for one in json.loads(capsys.readouterr().out)["predictors"]["unchanged"]} <= {1, 2, 3, 4}
    assert main(["study", "predictors", *given]) == 0
    assert "recall@2" in capsys.readouterr().out


def test_what_cannot_be_ranked_is_refused(pocket_is_tiny, plan, tmp_path):
    with pytest.raises(InputError, match="one number of shots"):
        run_predictors(replace(plan, shots=(1, 2)), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="3 sources"):
        run_predictors(replace(plan, tasks=plan.tasks[:3]), tmp_path, progress=False)


def _pair(backbone, target: Task, source: Task, plan: ComparePlan, out: Path) -> Pair:
    from pitune.studies.source_experts import train_source

    pool = ExpertPool(out / "pool")
    train_source(backbone, source, pool, plan.source_training, 6, out / "runs")
    training = plan.tuning.training
    few = Target(backbone, target, sample(target, 2, 0), training, out / "own")
    return Pair(Source(backbone, source, next(iter(pool))), few)


def _scores(backbone, target: Task, source: Task, plan: ComparePlan, out: Path) -> dict[str, float]:
    pair = _pair(backbone, target, source, plan, out)
    return {name: compute(pair) for name, (known, compute) in SCORES.items() if known(pair)}
