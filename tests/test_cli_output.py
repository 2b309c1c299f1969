"""Tables fit the terminal: no word is cut where there is room for it, and what is left out is said."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from pitune.commands import graph, options, output, pool

POOL = ("name", "method", "task", "shots", "seed", "metric", "validation", "parameters")
EXPERT = ("openclipart-images-lora-4-0", "lora", "pocket/openclipart-images", 4, 0, "accuracy", 0.5, 147456)
TASKS = ("task", "about", "licence")
NAMED = ("pocket/openclipart-retrieval", "which of twenty captions is the one of the drawing?", "MIT; art Apache-2.0")


def printed(width: int, monkeypatch: pytest.MonkeyPatch, *columns: str, row: tuple[object, ...], **more: object) -> str:
    monkeypatch.setattr(output, "_width", lambda: width)
    console = Console(width=width)
    with console.capture() as seen:
        console.print(output.table(columns, [row], **more))  # type: ignore[arg-type]
    text = seen.get()
    assert all(len(line) <= width for line in text.splitlines())
    return text


@pytest.mark.parametrize("width", [80, 100, 160])
def test_words_are_whole(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(width, monkeypatch, *TASKS, row=NAMED)
    assert {word for cell in NAMED for word in cell.split()} <= set(text.split())


def test_the_longest_names_of_a_pool_are_whole_on_a_usual_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    row = ("openclipart-retrieval-lora-all-0", "lora", "pocket/openclipart-retrieval", None, 0, "accuracy", 0.5, 147456)
    narrow = printed(80, monkeypatch, *POOL, row=row, spare=pool._SPARE)
    assert {"openclipart-retrieval-lora-all-0", "pocket/openclipart-retrieval", "0.5000"} <= set(narrow.split())


def test_what_there_is_no_room_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = printed(80, monkeypatch, *POOL, row=EXPERT, spare=("seed", "method", "parameters", "metric"))
    assert {"openclipart-images-lora-4-0", "pocket/openclipart-images", "4", "0.5000"} <= set(narrow.split())
    assert "no room here for seed, method, parameters, metric; --json has all" in narrow
    wide = printed(160, monkeypatch, *POOL, row=EXPERT, spare=("seed",))
    assert "147456" in wide
    assert "no room" not in wide


def test_a_terminal_too_small_for_any_word_still_shows_every_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(30, monkeypatch, *TASKS, row=NAMED)
    assert set("openclipart-retrieval") <= set("".join(text.split()))


@pytest.mark.parametrize(("surroundings", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_takes_colours_away_on_a_terminal(surroundings: dict[str, str], coloured: bool) -> None:
    program = "import sys; from pitune.cli import main; sys.exit(main(sys.argv[1:]))"
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    ours, theirs = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program, "fit", "--help"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **surroundings},
    ) as process:
        os.close(theirs)
        seen = b"".join(iter(partial(_read, ours), b"")).decode()
    os.close(ours)
    assert process.returncode == 0
    assert "--shots" in re.sub(r"\x1b\[[\d;]*m", "", seen)
    styles = {int(code) for of in re.findall(r"\x1b\[([\d;]+)m", seen) for code in of.split(";")}
    assert any(30 <= code <= 49 or 90 <= code <= 107 for code in styles) is coloured


def _read(terminal: int) -> bytes:
    """Return what a terminal was written, nothing where its writer has ended."""
    try:
        return os.read(terminal, 65536)
    except OSError:
        return b""


@pytest.mark.parametrize("worker", [False, True])
def test_what_a_task_leaves_out_is_told_once_and_not_by_each_worker_of_a_search(
    worker: bool,
    pocket_is_tiny: object,
    tiny_task_paths: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(output.VERBOSITY, "")
    monkeypatch.setattr(graph, "parent_process", lambda: object() if worker else None)
    labels = options.Labels(shots=10_000, at_most=True)
    graph._Target(str(tiny_task_paths["mood"]), labels, options.OnTask())()
    assert ("fewer than 10000 examples to learn from: " in capsys.readouterr().err) is not worker
