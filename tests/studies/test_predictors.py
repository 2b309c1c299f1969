"""How scores are judged, by hand; and the study, whole, on tiny tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from tests.conftest import apart
from tests.studies.conftest import small_plan

from pitune import studies
from pitune.backbones import Backbone
from pitune.cli import main
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool
from pitune.pocket.backbone import Pocket
from pitune.prediction import SCORES, Target, embed, leep, whole
from pitune.studies import ComparePlan, PredictorsResults, run_predictors
from pitune.studies import predictors as predictors_module
from pitune.studies.predictors import COMBINED, ROW_NAMES
from pitune.studies.ranking import at_random, mean_rank, quality, reliability, summary
from pitune.tasks import Example, Task, few_shot, spread
from pitune.training import TrainingSettings, evaluate_expert, fit_expert

ROWS = [ROW_NAMES.get(name, name) for name in SCORES.names()]
TRUTH = {"a": 0.3, "b": 0.2, "c": 0.1, "d": -0.1}


def test_a_score_is_judged_by_ranks_by_what_it_loses_and_by_the_best_two() -> None:
    right = quality(TRUTH, {"a": 9.0, "b": 5.0, "c": 4.0, "d": 0.0})
    assert (right.spearman, right.regret, right.recall) == (pytest.approx(1), 0, 1)
    assert right.gain == pytest.approx(30)
    found = quality(TRUTH, {"a": 1.0, "b": 4.0, "c": 3.0, "d": 2.0})  # ranks 1 4 3 2 against 4 3 2 1
    assert found.spearman == pytest.approx(1 - 6 * (9 + 1 + 1 + 1) / (4 * 15))
    assert found.regret == pytest.approx(10)
    assert (found.recall, found.gain) == (0.5, pytest.approx(20))


def test_a_source_that_a_score_cannot_read_is_one_it_cannot_choose() -> None:
    found = quality(TRUTH, {"b": 3.0, "c": 2.0, "d": 1.0})
    assert found.spearman == pytest.approx(1)
    assert found.regret == pytest.approx(10)
    assert found.recall == 0.5
    assert quality(TRUTH, {"b": 3.0, "c": 2.0}) is None
    assert quality(TRUTH, dict.fromkeys(TRUTH, 1.0)) is None


def test_drawing_at_random_is_the_mean_over_sources() -> None:
    each = [quality(TRUTH, {s: float(s == best) + 0.01 * i for i, s in enumerate(TRUTH)}) for best in TRUTH]
    found = at_random(TRUTH)
    assert found.regret == pytest.approx(np.mean([one.regret for one in each]))
    assert found.gain == pytest.approx(np.mean([one.gain for one in each]))


def test_ranks_are_averaged_over_what_both_scores_read() -> None:
    found = mean_rank([{"a": 100.0, "b": 2.0, "c": 1.0, "d": 0.0}, {"a": 0.1, "b": 0.3, "c": 0.2}])
    assert found == {"a": 2.0, "b": 2.5, "c": 1.5}
    assert mean_rank([{"a": 1.0}, {"b": 1.0}]) == {}


def test_targets_count_alike_however_many_seeds_they_have() -> None:
    other = {"a": -0.3, "b": -0.2, "c": 0.0, "d": 0.1}
    up, down = {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    found = summary("s", [({"t": TRUTH, "u": other}, {"t": up, "u": up}), ({"t": TRUTH, "u": other}, {"t": down})])
    assert found.by_target == {"t": pytest.approx(0), "u": pytest.approx(-1)}
    assert found.spearman.mean == pytest.approx(-0.5)
    assert (found.targets, found.seeds) == (2, 2)
    assert summary("s", [({"t": TRUTH}, {})]) is None


def test_the_ceiling_is_what_truth_reaches_against_a_noisy_measurement() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=(300, 200))
    first, second = (truth + draw.normal(size=truth.shape) for _ in range(2))

    def table(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, dict[str, float]]:
        return {str(t): {str(s): float(value) for s, value in enumerate(row)} for t, row in enumerate(values)}

    found = reliability(table(first), table(second))
    whole = np.mean([spearmanr(a, b).statistic for a, b in zip(truth, (first + second) / 2, strict=True)])
    assert found.halves == pytest.approx(0.5, abs=0.03)
    assert found.ceiling == pytest.approx(whole, abs=0.02)
    assert reliability(table(first), {}) is None


@pytest.fixture(scope="module")
def plan(tiny_task_paths: dict[str, Path]) -> ComparePlan:
    return small_plan(tiny_task_paths)


@pytest.fixture(scope="module")
def made(
    tiny_backbone: Pocket, plan: ComparePlan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PredictorsResults]:
    """The folder that the study leaves, and what it returned; what is done again there must not alter it."""
    folder = tmp_path_factory.mktemp("predictors")
    with apart(tiny_backbone, folder):
        return folder / "out", run_predictors(plan, folder / "out", adapted=True, progress=False)


def test_measures_and_scores_every_source_of_every_target(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], made: tuple[Path, PredictorsResults]
) -> None:
    out, found = made
    assert found == PredictorsResults.read(out / "predictors.json")
    methods = [row.method.partition(" ")[0] for row in found.rows]
    expected = dict.fromkeys([*ROWS, "adapted"], 4 * 3)
    kinds = [f"unchanged{kind}{half}" for kind in ("", "-loss") for half in ("", "-1", "-2")]
    expected |= dict.fromkeys(kinds, 4 * 3) | {"zero-shot": 4, "zero-shot-loss": 4}
    assert {method: methods.count(method) for method in set(methods)} == expected
    values = {(row.task, row.method, row.seed): row.value for row in found.rows}
    mood, test = tiny_tasks["mood"], spread(tiny_tasks["mood"].examples("test"), 6)
    expert = next(one for one in ExpertPool(out / "pool") if one.card.task == tiny_tasks["taste"].name)
    unchanged = evaluate_expert(tiny_backbone, mood, expert, test)
    assert values[mood.name, f"unchanged {tiny_tasks['taste'].name}", 0] == unchanged.value
    assert values[mood.name, f"unchanged-loss {tiny_tasks['taste'].name}", 0] == -unchanged.loss
    for kind in ("unchanged", "unchanged-loss"):
        source = tiny_tasks["taste"].name
        halves = [values[mood.name, f"{kind}{half} {source}", 0] for half in ("-1", "-2")]
        assert sum(halves) / 2 == pytest.approx(values[mood.name, f"{kind} {source}", 0])
    for kind in ("unchanged", "unchanged-loss", "adapted"):
        names = {one.predictor for one in found.predictors[kind]}
        assert names <= {*ROWS, *COMBINED, "random"}


def test_a_second_run_computes_nothing(
    pocket_is_tiny: Pocket,
    plan: ComparePlan,
    made: tuple[Path, PredictorsResults],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, first = made
    monkeypatch.setattr(predictors_module, "evaluate_expert", lambda *_: pytest.fail("measured again"))
    monkeypatch.setattr(Target, "evaluated", property(lambda _: pytest.fail("scored again")))
    assert run_predictors(plan, out, adapted=True, progress=False) == first


def test_scores_read_the_few_labels_alone(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], plan: ComparePlan, tmp_path: Path
) -> None:
    mood = tiny_tasks["mood"]
    hidden = Task(mood.name, {**mood.splits, "test": ()}, mood.answers, data_hash=mood.data_hash)
    assert _scores(tiny_backbone, hidden, tiny_tasks["taste"], plan, tmp_path) == _scores(
        tiny_backbone, mood, tiny_tasks["taste"], plan, tmp_path / "other"
    )


def test_open_answers_are_skipped_by_what_needs_classes(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], plan: ComparePlan, tmp_path: Path
) -> None:
    mood = tiny_tasks["mood"]
    listed = tuple(mood.answers or ())
    opened = {
        split: [Example(one.id, one.target, one.text, candidates=listed) for one in examples]
        for split, examples in mood.splits.items()
    }
    without = Task("open", opened, balanced=False)
    needing = {"logme", "leep", "h-score", "label-similarity"}
    assert {*SCORES.names()} - _scores(tiny_backbone, without, tiny_tasks["taste"], plan, tmp_path).keys() == needing
    found = _scores(tiny_backbone, tiny_tasks["taste"], without, plan, tmp_path / "other")
    assert {*SCORES.names()} - found.keys() == {"leep", "label-similarity"}


def test_leep_and_the_trial_read_what_the_sources_expert_says(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], plan: ComparePlan, tmp_path: Path
) -> None:
    target, expert = _pair(tiny_backbone, tiny_tasks["mood"], tiny_tasks["place"], plan, tmp_path)
    support = target.support
    loss = evaluate_expert(tiny_backbone, tiny_tasks["mood"], expert, support).loss
    assert SCORES.get("trial").rate(target, expert) == pytest.approx(-loss, rel=1e-4)
    as_place = [Example(one.id, "sea", one.text) for one in support]
    said = evaluate_expert(tiny_backbone, tiny_tasks["place"], expert, as_place)
    theta = dict(zip(said.ids, said.scores.exp(), strict=True))
    expected = leep(torch.stack([theta[one.id] for one in support]), target.labels)
    assert SCORES.get("leep").rate(target, expert) == pytest.approx(expected, rel=1e-4)


def test_the_trial_without_over_confidence_is_the_calibrated_loss(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], plan: ComparePlan, tmp_path: Path
) -> None:
    target, expert = _pair(tiny_backbone, tiny_tasks["mood"], tiny_tasks["place"], plan, tmp_path)
    found = evaluate_expert(tiny_backbone, tiny_tasks["mood"], expert, target.support)
    score = SCORES.get("calibrated-trial").rate(target, expert)
    assert score == pytest.approx(-float(found.calibrated.mean()), rel=1e-4)
    assert score != pytest.approx(SCORES.get("trial").rate(target, expert), rel=1e-3)


def test_features_match_as_scores_do(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    batch = tiny_backbone.prepare(tiny_tasks["mood"].examples("train")[:5], tiny_tasks["mood"])
    seen = tiny_backbone.features(batch)
    torch.testing.assert_close(tiny_backbone.match(seen, batch), tiny_backbone.scores(batch))
    others = ["sea", "hill"]
    torch.testing.assert_close(tiny_backbone.match(seen, batch, others), tiny_backbone.scores(batch, others))


def test_the_command_prints_a_table_and_json(
    pocket_is_tiny: Pocket,
    plan: ComparePlan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = studies.PREDICTORS.but(source_training=plan.source_training)
    monkeypatch.setattr(studies, "PREDICTORS", short)
    given = [*plan.tasks, "--out", str(tmp_path / "out"), "--seeds", "1", "--shots", "2", "--test", "6", "--steps", "2"]
    assert main(["study", "predictors", *given, "--json"]) == 0
    assert {one["targets"] for one in json.loads(capsys.readouterr().out)["predictors"]["unchanged"]} <= {1, 2, 3, 4}
    assert main(["study", "predictors", *given]) == 0
    assert "recall@2" in capsys.readouterr().out


def test_what_cannot_be_ranked_is_refused(pocket_is_tiny: Pocket, plan: ComparePlan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one number of shots"):
        run_predictors(plan.but(shots=(1, 2)), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()
    with pytest.raises(InputError, match="3 sources"):
        run_predictors(plan.but(tasks=plan.tasks[:3]), tmp_path, progress=False)


def test_a_sources_task_is_loaded_by_its_name_where_a_score_reads_it(
    tiny_backbone: Pocket, tiny_task_paths: dict[str, Path], tiny_tasks: dict[str, Task]
) -> None:
    expert = _expert(tiny_backbone, tiny_tasks["taste"])
    named = replace(expert, card=expert.card.model_copy(update={"task": str(tiny_task_paths["taste"])}))
    draw, score = few_shot(tiny_tasks["mood"], 2, 0), SCORES.get("label-similarity")
    given = Target(tiny_backbone, draw, find=lambda _: whole(tiny_backbone, tiny_tasks["taste"]))
    assert score.applies(Target(tiny_backbone, draw), named)
    assert score.rate(Target(tiny_backbone, draw), named) == score.rate(given, expert)


def _expert(backbone: Backbone, task: Task) -> Expert:
    draw = few_shot(task)
    steps = TrainingSettings(steps=4, batch_size=16, learning_rate=2e-2, evaluations=2)
    return embed(backbone, draw, fit_expert(backbone, draw, settings=steps)[0])


def _pair(backbone: Backbone, target: Task, source: Task, plan: ComparePlan, out: Path) -> tuple[Target, Expert]:
    draw, expert = few_shot(target, 2, 0), _expert(backbone, source)
    return Target(backbone, draw, plan.training(draw), out / "own", lambda _: whole(backbone, source)), expert


def _scores(backbone: Backbone, target: Task, source: Task, plan: ComparePlan, out: Path) -> dict[str, float]:
    pair = _pair(backbone, target, source, plan, out)
    return {score.name: score.rate(*pair) for score in SCORES.all() if score.applies(*pair)}
