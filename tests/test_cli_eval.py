"""`pitune eval`: one expert in full, several side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import pitune
from pitune import cli
from pitune.backbones import Backbone
from pitune.tasks import Task
from pitune.training import Judgement

Command = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def experts(
    tiny_backbone: Backbone, tiny_tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("experts")
    for name, steps in (("short", 1), ("long", 40)):
        settings = pitune.TrainingSettings(steps=steps, learning_rate=0.01)
        made = pitune.fit(tiny_backbone, tiny_tasks["place"], shots=8, settings=settings)
        replace(made, card=made.card.model_copy(update={"name": name})).save(folder / name)
    return {name: folder / name for name in ("short", "long")}


@pytest.fixture
def command(pocket_is_tiny: object, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> dict[str, Any]:
        status = cli.main([str(argument) for argument in ("eval", *arguments, "--json")])
        printed = capsys.readouterr()
        assert status == 0, printed.err
        found: dict[str, Any] = json.loads(printed.out)
        return found

    return run


def test_one_expert_in_full(
    command: Command, experts: dict[str, Path], tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    task = tiny_task_paths["place"]
    out = tmp_path / "found.json"
    found = command(experts["long"], task, "--out", out)
    assert json.loads(out.read_bytes()) == found
    assert (found["expert"], found["task"], found["split"], found["n"]) == ("long", "place", "test", 18)
    assert found["low"] <= found["value"] <= found["high"]
    assert [one["name"] for one in found["classes"]] == ["hill", "sea", "town"]
    assert sum(one["n"] for one in found["classes"]) == 18
    assert sum(sum(row.values()) for row in found["confusion"].values()) == 18
    assert 0 <= found["calibration"]["ece"] <= 1
    Judgement.model_validate({key: found[key] for key in Judgement.model_fields})
    assert command(experts["long"], "--task", task) == found
    alone = command("--zero-shot", task)
    assert (alone["expert"], alone["from_zero_shot"]) == (None, None)
    assert found["zero_shot"] == {end: alone[end] for end in ("value", "low", "high")}
    assert found["from_zero_shot"]["value"] == pytest.approx(found["value"] - alone["value"])


def test_several_experts_side_by_side(
    command: Command,
    experts: dict[str, Path],
    tiny_task_paths: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = tiny_task_paths["place"]
    found = command(experts["short"], experts["long"], "--task", task)
    assert [one["expert"] for one in found["experts"]] == [None, "short", "long"]
    assert command(experts["short"], experts["long"], task) == found
    backbone, *others = found["experts"]
    assert backbone["from_zero_shot"] is None
    for one in others:
        over = one["from_zero_shot"]
        assert over["value"] == pytest.approx(one["value"] - backbone["value"])
        assert over["low"] <= over["value"] <= over["high"]
    alone = command(experts["long"], task)
    verdict = alone.pop("verdict")
    assert others[1] | {"zero_shot": alone["zero_shot"]} == alone
    assert verdict == found["verdict"][-2:]
    assert verdict[0].startswith(f"long has accuracy {alone['value']:.3f} [")
    assert f"on the 18 test examples (the backbone alone {backbone['value']:.3f} [" in verdict[0]
    assert verdict[0].endswith("always the commonest answer 0.333).")
    by, ends = others[1]["from_zero_shot"], "[{low:+.3f}, {high:+.3f}]"
    assert verdict[1] == f"That is {by['value']:+.3f} {ends.format_map(by)} over the backbone alone: better."
    assert cli.main(["eval", str(experts["short"]), str(experts["long"]), "--task", str(task)]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("short", "long", "hill", "over zero-shot", "calibration error"))
    assert cli.main(["eval", str(experts["long"]), str(task)]) == 0
    printed = capsys.readouterr().out
    assert "long on place: accuracy" in printed
    assert printed.splitlines()[-2:] == verdict
    assert all(word in printed for word in ("95 %", "recall", "precision", "right, answered:"))


def test_an_expert_that_changes_nothing_is_called_so(
    command: Command, experts: dict[str, Path], tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    pitune.mix([pitune.load_expert(experts["long"])], [0.0], name="idle").save(tmp_path / "idle")
    said = "idle changes nothing: it is the untouched backbone"
    found = command(tmp_path / "idle", tiny_task_paths["place"])
    assert found["verdict"][-1] == said
    assert found["zero_shot"]["value"] == found["value"]
    assert found["verdict"][-2] == "That is +0.000 [+0.000, +0.000] over the backbone alone: not told from none."


def test_a_class_of_many_is_told_by_its_commonest_mistakes(
    pocket_is_tiny: Backbone, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [f"word{i} word{n} word{2 * n + i},name{i}" for i in range(25) for n in range(8)]
    (tmp_path / "many.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    assert cli.main(["eval", "--zero-shot", str(tmp_path / "many.csv")]) == 0
    printed = capsys.readouterr().out
    assert "5 more classes" in printed
    assert "right, answered:" not in printed


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "expected an expert and a task; found only neither"),
        ("@place", "expected an expert and a task"),
        ("--task @place", "expected an expert and a task"),
        ("SHORT @place --zero-shot", "--zero-shot takes no expert"),
        ("SHORT --task @place --zero-shot", "--zero-shot takes no expert"),
        ("SHORT SHORT --task @place", "is there twice"),
        ("SHORT --task @place --out SHORT", "is a folder"),
        ("SHORT --task @place --out found.csv", "expected a name that ends in .json"),
    ],
)
def test_refused(
    line: str,
    says: str,
    pocket_is_tiny: object,
    experts: dict[str, Path],
    tiny_task_paths: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = line.replace("SHORT", str(experts["short"])).replace("@place", str(tiny_task_paths["place"])).split()
    assert cli.main(["eval", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert says in printed.err.splitlines()[-1]
