"""From raw files to a folded expert in one command, for every family."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.backbones.conftest import TEXTS_ALONE
from tests.conftest import Command

from pitune import cli

FAST = ("--shots", "3", "--steps", "3", "--learning-rate", "0.01")
TASKS = {
    "clip": ("colour", "shade"),
    "siglip": ("colour", "shade"),
    "siglip2": ("colour", "shade"),
    "t5": ("taste", "mood"),
    "florence": ("questions", "shade"),
    "smolvlm": ("questions", "shade"),
    "llama": ("taste", "mood"),
    "qwen2_vl": ("questions", "shade"),
    "gemma3": ("questions", "shade"),
    "bert": ("taste", "mood"),
    "mpnet": ("taste", "mood"),
    "modernbert": ("taste", "mood"),
}


@pytest.mark.parametrize("kind", TASKS)
def test_fit_tune_evaluate_and_predict(
    kind: str, command: Command, checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path
) -> None:
    model = ("--backbone", checkpoints[kind], "--device", "cpu")
    first, second = (data[name] for name in TASKS[kind])
    pool, out = tmp_path / "pool", tmp_path / "out"
    command("fit", second, *FAST, *model, "--pool", pool, "--name", "second", "--rank", 2)
    tuned = command("tune", first, *FAST, *model, "--pool", pool, "-k", 1, "--out", out)
    assert [one["name"] for one in tuned["neighbours"]] == ["second"]
    assert command("eval", out, first, *model)["n"] > 0
    assert command("eval", "--zero-shot", first, *model)["expert"] is None
    given = sorted(data["colour"].glob("*/0.png")) if kind not in TEXTS_ALONE else ["sweet fresh", "sour"]
    asked = ("--question", "what colour is it ?") if TASKS[kind][0] == "questions" else ()
    said = command("predict", out, *given, "--task", first, *asked, *model)["predictions"]
    assert len(said) == len(given)
    assert all(sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-4) for one in said)


@pytest.mark.parametrize("kind", ["florence", "smolvlm"])
def test_captions_from_raw_files(
    kind: str, command: Command, checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path
) -> None:
    model = ("--backbone", checkpoints[kind], "--device", "cpu")
    command("fit", data["captions"], *FAST, *model, "--out", tmp_path / "out", "--rank", 2)
    image = next(data["colour"].glob("*/0.png"))
    said = command("predict", tmp_path / "out", image, "--task", data["captions"], *model)["predictions"]
    assert said[0].keys() == {"id", "input", "answer"}


def test_an_untouched_folder_a_table_and_questions_on_pocket(
    pocket_is_tiny: object, command: Command, data: dict[str, Path], tmp_path: Path
) -> None:
    pool = tmp_path / "pool"
    command("fit", data["shade"], *FAST, "--pool", pool, "--name", "shade")
    for name in ("colour", "taste", "questions"):
        made = command("tune", data[name], *FAST, "--pool", pool, "-k", 1, "--out", tmp_path / name)
        assert made["test"]["n"] > 0


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "empty").mkdir(), "empty: class 'empty' is empty"),
        (lambda folder: (folder / "red" / "3.png").write_bytes(b"x"), "red/3.png: not a readable image"),
        (
            lambda folder: (
                (folder / "red" / "3.png").unlink() or (folder / "red" / "3.png").symlink_to("/etc/hostname")
            ),
            "leads out of",
        ),
    ],
)
def test_a_broken_folder_is_refused_in_one_line(
    spoil: Callable[[Path], object],
    says: str,
    data: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "colour"
    shutil.copytree(data["colour"], folder)
    spoil(folder)
    before = sorted(tmp_path.rglob("*"))
    assert cli.main(["tune", str(folder), "--pool", str(tmp_path), "--shots", "4"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    refused = [line for line in printed.err.splitlines() if line.startswith("pitune: ")]
    assert len(refused) == 1
    assert says in refused[0]
    assert sorted(tmp_path.rglob("*")) == before
