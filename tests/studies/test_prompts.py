"""The prompt studies on tiny tasks: no target among its sources, the protocols' draws, and nothing done twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import draw_of

from pitune.cli import main
from pitune.errors import InputError
from pitune.experts import ExpertPool, load_expert
from pitune.experts.kinds.unified_prompt import UnifiedPromptSettings
from pitune.pocket.backbone import Pocket
from pitune.studies import PromptPlan, PromptsResults, run_prompts
from pitune.studies import prompts as prompts_module
from pitune.studies import sources as sources_module
from pitune.studies.prompts import arms, drawn
from pitune.studies.sources import WAYS, joins_names, vectors_of
from pitune.tasks import Task, declaration
from pitune.training import TrainingSettings, fit_expert, fit_multitask

STEPS: dict[str, Any] = {"steps": 4, "batch_size": 16, "learning_rate": 2e-2, "evaluations": 2}


@pytest.fixture
def plan(tiny_task_paths: dict[str, Path]) -> PromptPlan:
    tasks = tuple(str(tiny_task_paths[name]) for name in ("mood", "taste", "place"))
    few = {"shots": (2,), "seeds": 2, "test": 6, "length": 3, "source_training": STEPS, "training": STEPS}
    return PromptPlan(protocol="coop", sources=tasks, targets=tasks[:2], methods=("text_prompt",), **few)


def test_every_target_is_measured_alone_and_from_a_source_without_it(
    pocket_is_tiny: Pocket, plan: PromptPlan, tmp_path: Path
) -> None:
    found = run_prompts(plan, tmp_path, progress=False)
    assert found == PromptsResults.read(tmp_path / "results.json")
    keys = {(row.task, row.method, row.seed) for row in found.rows}
    assert len(keys) == len(found.rows) == 2 * 3 * 2
    sources = {expert.card.tasks for expert in ExpertPool(tmp_path / "sources")}
    assert sources == {("taste", "place"), ("mood", "place")}
    values = {(row.task, row.method, row.seed): row.value for row in found.rows}
    _, alone, many = arms("text_prompt")
    (gain,) = found.gains
    expected = [values[t, many, s] - values[t, alone, s] for t in ("mood", "taste") for s in (0, 1)]
    assert gain.mean == pytest.approx(sum(expected) / 4)
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low <= gain.mean <= gain.high


def test_separate_prompts_of_both_towers_are_a_way_of_their_own(
    pocket_is_tiny: Pocket, plan: PromptPlan, tmp_path: Path
) -> None:
    methods = ("unified_prompt", *WAYS)
    few = plan.but(methods=methods, seeds=1, targets=plan.targets[:1])
    found = run_prompts(few, tmp_path, progress=False)
    assert {row.method for row in found.rows} == {"zero-shot", *(arm for one in methods for arm in arms(one)[1:])}
    pool = ExpertPool(tmp_path / "sources")
    settings = [one for one in (expert.settings for expert in pool) if isinstance(one, UnifiedPromptSettings)]
    assert sorted((one.folded, one.attends) for one in settings) == [(False, False), (False, True), (True, True)]
    assert [gain.baseline for gain in found.gains] == [f"{one} alone" for one in methods]


def test_a_second_run_trains_nothing_and_other_settings_are_refused(
    pocket_is_tiny: Pocket, plan: PromptPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = run_prompts(plan, tmp_path, progress=False)
    monkeypatch.setattr(prompts_module, "fit_every_label", lambda *_, **__: pytest.fail("trained again"))
    monkeypatch.setattr(sources_module, "fit_multitask", lambda *_, **__: pytest.fail("trained a source again"))
    assert run_prompts(plan, tmp_path, progress=False) == before
    with pytest.raises(InputError, match="other tasks or settings is kept here"):
        run_prompts(plan.but(test=5), tmp_path, progress=False)


def test_added_seeds_join_the_rows_that_are_there(pocket_is_tiny: Pocket, plan: PromptPlan, tmp_path: Path) -> None:
    one = run_prompts(plan.but(seeds=1), tmp_path, progress=False)
    assert [row.seed for row in one.rows] == [0] * 6
    more = run_prompts(plan, tmp_path, progress=False)
    assert [row for row in more.rows if row.seed == 0] == list(one.rows)


def test_elevater_stops_by_one_in_five_of_the_shots(tiny_tasks: dict[str, Task], plan: PromptPlan) -> None:
    task = tiny_tasks["place"]
    data = drawn(plan.but(protocol="elevater"), task, 5, 0)
    assert (len(data.train), len(data.validation)) == (12, 3)
    assert {example.target for example in data.validation} == set(task.answers or ())
    assert not {example.id for example in data.train} & {example.id for example in data.validation}
    train = {example.id for example in task.examples("train")}
    assert {example.id for example in (*data.train, *data.validation)} <= train
    coop = drawn(plan, task, 5, 0)
    assert (len(coop.train), len(coop.validation)) == (15, 9)  # the task's validation part has 3 a class


def test_a_target_without_other_sources_is_refused(pocket_is_tiny: Pocket, plan: PromptPlan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'mood' has no source but itself"):
        run_prompts(plan.but(sources=plan.sources[:1]), tmp_path, progress=False)
    assert not (tmp_path / "plan.json").exists()


def test_what_is_chosen_never_depends_on_test_examples(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    """The released code picks its checkpoint on the test set."""
    whole = tiny_tasks["taste"]
    blind = Task(whole.name, {k: v for k, v in whole.splits.items() if k != "test"}, whole.answers)
    found = []
    for task in (whole, blind):
        draw = draw_of(task)
        settings = TrainingSettings(**STEPS)
        alone, _ = fit_expert(tiny_backbone, draw, method="text_prompt", settings=settings)
        many, _ = fit_multitask(tiny_backbone, [draw], method="text_prompt", settings=settings)
        found.append([value for one in (alone, many) for value in one.tensors.values()])
    assert all(bool((a == b).all()) for a, b in zip(*found, strict=True))


def test_hateful_memes_is_measured_by_its_own_metric() -> None:
    """The released code reports its accuracy."""
    assert declaration("elevater/hateful-memes").metric == "roc-auc"
    assert declaration("elevater/voc-2007").metric == "elevater-map"
    assert declaration("elevater/oxford-iiit-pets").metric == "mean-per-class"


@pytest.mark.parametrize("study", ["coop", "elevater", "cross-task"])
def test_from_the_command_line(
    pocket_is_tiny: Pocket,
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    study: str,
) -> None:
    names = [str(tiny_task_paths[name]) for name in ("taste", "place")]
    sources = [part for name in ("mood", "taste") for part in ("--source", str(tiny_task_paths[name]))]
    shots = "5" if study == "elevater" else "2"
    given = ["study", study, *names, *sources, "--out", str(tmp_path), "--shots", shots, "--seeds", "1", "--json"]
    given += ["--steps", "2", "--source-steps", "2", "--test", "6", "--method", "lora"]
    assert main(given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["study"] == study
    assert "| place | " in (tmp_path / "results.md").read_text()
    targets = {row["task"] for row in found["rows"]}
    assert targets == ({"place"} if study == "cross-task" else {"taste", "place"})
    assert {mean["method"] for mean in found["means"]} == {"zero-shot", "lora alone", "lora from multitask"}
    name = "mood-taste-lora-all-0" if study == "cross-task" else "mood-lora-all-0"
    assert load_expert(tmp_path / "sources" / name).method == "lora"


def test_prompts_join_names_but_on_the_default_backbone(plan: PromptPlan) -> None:
    """There they were measured with the template, and rows that are kept go on."""
    clip = plan.but(backbone="owner/clip", length=3)
    assert vectors_of(clip, "text_prompt") == {"length": 3, "around": "name"}
    assert vectors_of(plan.but(length=3), "text_prompt") == {"length": 3, "around": "text"}
    assert vectors_of(clip, "lora") == {}
    assert joins_names(clip, ("lora", "unified_prompt")) == {"around": "name"}
    assert joins_names(plan, ("text_prompt",)) == joins_names(clip, ("visual_prompt",)) == {}
