"""How much of a task is learned from, and how much each class counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pitune
from pitune import cli
from pitune.errors import InputError
from pitune.pocket.backbone import Pocket
from pitune.tasks import Example, Task, few_shot, load_task, loss_weights
from pitune.tasks.learning import limited
from pitune.training import OneTask, fit_expert


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"text {i},{('often', 'seldom')[i % 5 == 0]}" for i in range(100)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    return tmp_path / "t.csv"


def count(task: Task, part: str = "train") -> dict[str, int]:
    examples = task.splits[part]  # type: ignore[index]
    return {name: sum(e.target == name for e in examples) for name in task.answers or ()}


def test_a_cap_is_of_a_class_and_of_what_is_learned_from(table: Path) -> None:
    whole, capped = load_task(table), load_task(table, cap=10)
    assert count(whole) == {"often": 48, "seldom": 12}
    assert count(capped) == {"often": 10, "seldom": 10}
    assert capped.splits["test"] == whole.splits["test"]
    assert capped.data_hash != whole.data_hash
    assert load_task(table, cap=1000) == whole
    with pytest.raises(InputError, match="cap"):
        load_task(table, cap=0)
    declared = table.with_suffix(".yaml")
    declared.write_text("source: t.csv\ncap: 10", encoding="utf-8")
    assert load_task(declared).splits == capped.splits


def test_weights_are_of_classes_that_are_there(table: Path) -> None:
    assert load_task(table, weights={"seldom": 3}).weights == {"seldom": 3}
    wrong = {0.0: "expected a positive", -1.0: "expected a positive", float("nan"): "'often' is nan"}
    given = [({"no": 1.0}, "has no class 'no'"), *(({"often": weight}, said) for weight, said in wrong.items())]
    for weights, said in given:
        with pytest.raises(InputError, match=said):
            load_task(table, weights=weights)
    with pytest.raises(InputError, match="weights"):
        load_task(table, weights="level")  # type: ignore[arg-type]


def test_weights_of_examples_have_mean_1(table: Path) -> None:
    task = load_task(table, weights={"seldom": 3})
    draw = few_shot(task, 4)
    found = loss_weights(task, draw.train, draw.train)
    assert {e.target: found[e.id] for e in draw.train} == {"often": 0.5, "seldom": 1.5}
    balanced = load_task(table, weights="balanced")
    train = balanced.examples("train")
    found = loss_weights(balanced, train, train)
    for name in balanced.answers or ():
        assert sum(found[e.id] for e in train if e.target == name) == pytest.approx(len(train) / 2)
    assert set(loss_weights(balanced, draw.train, draw.train).values()) == {1.0}


def test_what_has_several_labels_has_the_mean_of_their_weights() -> None:
    some = (Example("1", "a", text="x", references=("a", "b")), Example("2", "a", text="y"))
    task = Task("t", {"train": some}, ("a", "b"), metric="11-point-map", weights={"b": 5.0})
    assert loss_weights(task, some, some) == {"1": 1.5, "2": 0.5}


def test_weights_reach_the_loss_and_the_stop(tiny_tasks: dict[str, Task], tiny_backbone: Pocket) -> None:
    made = {}
    for name, weights in (("none", {}), ("even", {"good": 2.0, "bad": 2.0}), ("bad", {"bad": 50.0})):
        draw = few_shot(replace(tiny_tasks["taste"], weights=weights), 4)
        settings = pitune.TrainingSettings(steps=4, patience=9)
        made[name] = fit_expert(tiny_backbone, draw, settings=settings)
    losses = {name: [line["validation_loss"] for line in trained.history] for name, (_, trained) in made.items()}
    assert losses["none"] == losses["even"]
    assert losses["none"] != losses["bad"]
    first, other = (made[name][0].tensors for name in ("none", "bad"))
    assert any(not torch.equal(first[name], other[name]) for name in first)
    assert made["bad"][0].card.hyperparameters["weights"] == {"bad": 50.0}
    assert OneTask(few_shot(tiny_tasks["taste"], 4), 8).weights(["x"]) is None


def test_a_task_asked_for_in_another_way_is_another_run(
    table: Path, pocket_is_tiny: Pocket, capsys: pytest.CaptureFixture[str]
) -> None:
    declared, runs = table.with_suffix(".yaml"), []
    for line in ("", "answer_template: 'how {}'", "weights: {seldom: 9}", "template: 'so: {}'"):
        declared.write_text(f"source: t.csv\n{line}", encoding="utf-8")
        assert cli.main(["fit", str(declared), "--shots", "2", "--steps", "2", "--json"]) == 0
        runs.append(capsys.readouterr().out.rpartition('"run": ')[2])
    assert len(set(runs)) == 4


def test_a_limit_holds_for_any_task() -> None:
    examples = tuple(Example(f"{i}", "ab"[i % 3 == 0], text=f"{i}") for i in range(30))
    task = Task("t", {"train": examples, "test": examples[:4]}, ("a", "b"), data_hash="x")
    found = limited(task, 10)
    assert count(found) == {"a": 5, "b": 5}
    assert (len(found.splits["test"]), found.data_hash != "x") == (4, True)
    assert limited(replace(task, splits={"train": examples[::-1]}), 10).splits["train"] == found.splits["train"][::-1]
