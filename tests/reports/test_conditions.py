"""What a study's rows pass and fail, and that its page and its command say the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pitune.cli import main
from pitune.reports import conditions_of, write_study
from pitune.studies import PI, SINGLE, DemoResults
from pitune.training import Condition


def rows(task: str, method: str, values: Sequence[float], **held: float) -> list[dict[str, Any]]:
    fixed = {"task": task, "method": method, "shots": 4, "metric": "accuracy", "n": 100, "seconds": 1.0, **held}
    return [{**fixed, "seed": seed, "value": value} for seed, value in enumerate(values)]


def found(results: dict[str, Any], measured: list[dict[str, Any]]) -> dict[str, Condition]:
    return {one.name: one for one in conditions_of(DemoResults.of(results | {"rows": measured}))}


def test_harm_is_an_interval_below_half_a_point_less(results: dict[str, Any]) -> None:
    steady = rows("pocket/a", PI, (0.50, 0.51)) + rows("pocket/a", SINGLE, (0.50, 0.51))
    worse = rows("pocket/b", PI, (0.50, 0.51)) + rows("pocket/b", SINGLE, (0.60, 0.61))
    wide = rows("pocket/c", PI, (0.50, 0.70)) + rows("pocket/c", SINGLE, (0.70, 0.71))
    said = found(results, steady + worse + wide)["no harm"]
    assert not said.passed
    assert said.said == "half a point below the single expert, interval and all: b −10.0 [−10.0, −10.0] (1 of 3 tasks)"
    said = found(results, steady + wide)["no harm"]
    assert (said.passed, said.said.rpartition(": ")[2]) == (True, "none of 2 tasks")


def test_one_seed_tells_of_no_harm(results: dict[str, Any]) -> None:
    assert found(results, rows("pocket/a", PI, (0.1,)) + rows("pocket/a", SINGLE, (0.9,))) == {}


def test_guessing_and_claims_are_judged_by_what_the_rows_hold(results: dict[str, Any]) -> None:
    sound = rows("pocket/a", PI, (0.80, 0.81), chance=0.5, claimed=0.8)
    guess = rows("pocket/b", PI, (0.50, 0.56), chance=0.5, claimed=0.9)
    before = rows("pocket/c", PI, (0.1, 0.1))
    said = found(results, sound + guess + before)
    assert said["better than guessing"].said == "not told from guessing: b 0.530, guessing 0.500 (1 of 2 tasks)"
    assert said["not too sure"].passed  # two seeds as far apart as these tell little
    said = found(results, sound + rows("pocket/b", PI, (0.55, 0.56), chance=0.5, claimed=0.9))
    assert said["not too sure"].said == "surer than they are right: b claims 0.900, right 0.555 (1 of 2 tasks)"
    of_one = found(results, rows("pocket/a", PI, (0.55,), chance=0.5, claimed=0.6))
    assert not of_one["better than guessing"].passed  # by the hundred examples that were tested
    assert of_one["not too sure"].passed


def test_the_command_says_what_the_page_says(
    results: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = rows("pocket/a", PI, (0.8, 0.9), chance=0.5) + rows("pocket/a", SINGLE, (0.7, 0.8))
    (tmp_path / "results.json").write_text(json.dumps(results | {"rows": measured}))
    assert main(["report", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["values"]) == ("study", 4)
    assert [(one["name"], one["passed"]) for one in told["conditions"]] == [
        ("no harm", True),
        ("better than guessing", False),
    ]
    assert main(["report", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:-1] == [
        *told["verdict"],
        *(f"{'passes' if one['passed'] else 'FAILS'}: {one['name']}: {one['said']}" for one in told["conditions"]),
    ]
    write_study(DemoResults.read(tmp_path / "results.json"), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert all(one["said"] in page for one in told["conditions"])
