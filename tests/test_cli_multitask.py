"""`pitune multitask` and `pitune fit --start`, end to end on the tiny backbone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.conftest import Command

import pitune
from pitune.pocket.backbone import Pocket

FAST = ("--shots", "4", "--steps", "8", "--learning-rate", "0.02")


@pytest.fixture
def command(pocket_is_tiny: Pocket, command: Command) -> Command:
    """Run on the tiny backbone."""
    return command


def test_a_source_is_kept_and_a_target_starts_from_it(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    names = [tiny_task_paths[name] for name in ("taste", "place")]
    given = ("multitask", *names, *FAST, "--method", "text_prompt", "--set", "length=3", "--pool", pool)
    (made,) = command(*given)["experts"]
    assert made["expert"] == "taste-place-text_prompt-4-0"
    assert made["by_task"].keys() == {"taste", "place"}
    assert made["validation"] == pytest.approx(sum(made["by_task"].values()) / 2)
    assert command(*given)["experts"] == [made]
    fit = ("fit", tiny_task_paths["mood"], *FAST, "--method", "text_prompt")
    out = tmp_path / "adapted"
    command(*fit, "--start", pool / made["expert"], "--out", out)
    adapted = pitune.load_expert(out)
    assert adapted.card.hyperparameters["start"] == made["expert"]
    assert adapted.config["length"] == 3
    command(*fit, "--start", made["expert"], "--pool", pool)
    assert len(pitune.ExpertPool(pool)) == 2
    assert "cannot start from" in command("fit", tiny_task_paths["mood"], "--start", pool / made["expert"], fails=True)
    tuned = command("tune", tiny_task_paths["mood"], *FAST, "--pool", pool, "-k", 1, "--method", "text_prompt")
    assert tuned["neighbours"][0]["name"] == made["expert"]


def test_groups_are_one_expert_each_and_say_why(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    names = [tiny_task_paths[name] for name in ("taste", "mood", "place")]
    given = ("multitask", *names, *FAST, "--pool", tmp_path / "pool", "--group-size", 2)
    found = command(*given)
    tasks = [one["tasks"] for one in found["experts"]]
    assert sorted(len(group) for group in tasks) == [1, 2]
    assert len(found["groups"]) == 2
    assert "in common" in found["groups"][0]
    matrix = [[None, 0.1, 0.9], [0.1, None, 0.2], [0.8, 0.1, None]]
    measured = tmp_path / "results.json"
    kept = json.loads((Path(__file__).parents[1] / "docs" / "data" / "transfer.json").read_text(encoding="utf-8"))
    held = {**kept, "tasks": ["taste", "mood", "place"], "transfer": {"validation": {"adapted": matrix}}}
    measured.write_text(json.dumps(held))
    by_transfer = command(*given[:-4], "--pool", tmp_path / "other", "--group-size", 2, "--transfer", measured)
    assert [sorted(one["tasks"]) for one in by_transfer["experts"]] == [["place", "taste"], ["mood"]]
    measured.write_text("{}")
    error = command(*given[:-4], "--pool", tmp_path / "third", "--group-size", 2, "--transfer", measured, fails=True)
    assert "expected the results of `pitune study transfer`" in error


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--mixing", "even"), "unknown mixing 'even'"),
        ((), "nowhere to keep the expert"),
        (("--group-size", 2, "--out", "x"), "--group-size makes several experts"),
        (("--pool", "p", "--transfer", "x.json"), "--transfer says how to group"),
        (("--pool", "p", "--start", "nothing"), "p: no such pool"),
    ],
)
def test_bad_input(
    command: Command,
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    more: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in command("multitask", tiny_task_paths["taste"], tiny_task_paths["place"], *FAST, *more, fails=True)


def test_a_broken_task_stops_everything_before_training(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    for answer in ("red", "green"):
        (folder / answer).mkdir(parents=True)
        for number in range(24):
            (folder / answer / f"{number}.png").write_bytes(f"{answer} {number}".encode())
    pool = tmp_path / "pool"
    error = command("multitask", tiny_task_paths["taste"], folder, *FAST, "--pool", pool, fails=True)
    assert "broken" in error
    assert not list(Path(pool).glob("*")) or not pitune.ExpertPool(pool).names()
