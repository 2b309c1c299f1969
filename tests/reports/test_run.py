"""The report of a run, an expert, a pool and a study, from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from pitune.training import Difference, Judgement, Outcome

Command = Callable[..., Any]


def test_a_run_tells_verdict_neighbours_candidates_curves_examples_and_how_to_load(made: Path) -> None:
    html = (made / "tune.html").read_text("utf-8")
    result = json.loads((made / "run" / "result.json").read_bytes())
    for line in result["verdict"]:
        assert line in unescape(html)
    for section in ("verdict", "near", "choice", "curves", "classes", "examples", "load"):
        assert f'<h2 id="{section}">' in html
    for candidate in result["candidates"]:
        assert f"{candidate['loss']:.3f}" in html
    assert html.count("<polyline") >= 3, "joint, alone and their folds"
    assert f"pitune predict {made / 'expert'} INPUT…" in html
    assert f'PeftModel.from_pretrained(backbone.module, "{made / "expert"}")' in html
    assert [one["name"] for one in result["conditions"]] == ["better than guessing", "no harm", "not too sure"]
    assert "http:" not in html
    assert "https:" not in html


def test_examples_stay_out_where_they_are_not_wanted(made: Path, command: Command, tmp_path: Path) -> None:
    outcome = json.loads((made / "run" / "outcome.json").read_bytes())
    pictures = [one["image"] for one in [*outcome["right"], *outcome["wrong"]]]
    assert all(picture in (made / "tune.html").read_text("utf-8") for picture in pictures)
    told = command("report", made / "run", "--html", tmp_path / "page.html", "--no-examples")
    html = (tmp_path / "page.html").read_text("utf-8")
    assert pictures
    assert "data:image" not in html
    assert told["conditions"] == json.loads((made / "run" / "result.json").read_bytes())["conditions"]
    assert told["kind"] == "run"


@pytest.mark.usefixtures("pocket_is_tiny")
def test_an_expert_is_tested_on_a_task_that_is_named(
    made: Path, tiny_task_paths: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    bare = command("report", made / "expert", "--html", tmp_path / "bare.html")
    assert (bare["kind"], bare["conditions"]) == ("expert", [])
    assert bare["verdict"] == json.loads((made / "run" / "result.json").read_bytes())["verdict"]
    assert "is not known" in (tmp_path / "bare.html").read_text("utf-8")
    told = command("report", made / "expert", "--task", tiny_task_paths["colour"], "--html", tmp_path / "page.html")
    assert [one["name"] for one in told["conditions"]] == ["better than guessing", "no harm", "not too sure"]
    assert '<h2 id="examples">' in (tmp_path / "page.html").read_text("utf-8")


def test_a_pool_shows_what_its_tasks_are_and_how_good_its_experts(made: Path, command: Command, tmp_path: Path) -> None:
    assert command("report", made / "pool", "--html", tmp_path / "page.html")["kind"] == "pool"
    html = (tmp_path / "page.html").read_text("utf-8")
    assert html.count("<td>text</td>") == 2
    assert html.count("<td>accuracy ") == 2
    command("graph", "--pool", made / "pool", "--html", tmp_path / "graph.html")
    assert (tmp_path / "graph.html").read_text("utf-8") == html


@pytest.mark.parametrize("name", ["compare-16", "settings", "coop", "transfer"])
def test_a_study_has_a_page(name: str, command: Command, tmp_path: Path) -> None:
    kept = Path(__file__).parents[2] / "docs" / "data" / f"{name}.json"
    (tmp_path / "results.json").write_bytes(kept.read_bytes())
    assert command("report", tmp_path, "--html", tmp_path / "page.html")["kind"] == "study"
    html = (tmp_path / "page.html").read_text("utf-8")
    assert html.count('<tr><th scope="row">') > len(json.loads(kept.read_bytes())["rows"])
    assert len(html) < 5 << 20


def test_what_is_no_folder_of_pitune_is_one_line(command: Command, tmp_path: Path) -> None:
    assert "holds no run, expert, pool or study" in command("report", tmp_path, fails=True)


def outcome(right: float, n: int, probability: float, gain: tuple[float, float]) -> Outcome:
    calibration = {"ece": abs(right - probability), "probability": probability, "right": right, "bins": ()}
    judged = Judgement(
        metric="accuracy", value=right, low=right - 0.05, high=right + 0.05, n=n, calibration=calibration
    )
    over = {"the backbone alone": Difference(value=sum(gain) / 2, low=gain[0], high=gain[1])}
    return Outcome(split="test", judgement=judged, chance=("always the commonest answer", 0.5), over=over)


@pytest.mark.parametrize(
    ("found", "passed"),
    [
        (outcome(0.9, 400, 0.9, (0.1, 0.3)), [True, True, True]),
        (outcome(0.5, 400, 0.9, (-0.1, 0.3)), [False, True, False]),
        (outcome(0.6, 400, 0.61, (-0.3, -0.1)), [True, False, True]),
    ],
)
def test_conditions_pass_and_fail_by_their_intervals(found: Outcome, passed: list[bool]) -> None:
    assert [one.passed for one in found.conditions] == passed
