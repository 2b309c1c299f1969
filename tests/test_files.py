"""Files and folders are whole or absent, whoever writes at once and whenever a process is killed."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from tests.forks import fork

from pitune import cli, files
from pitune.files import atomic_folder, hold, home, json_bytes, path_key, recover, write_atomic


def _claim(folder: Path, content: str, start: float, won: Path) -> None:
    time.sleep(max(0.0, start - time.time()))
    try:
        with atomic_folder(folder, replace=False) as beside:
            (beside / "who").write_text(content)
    except FileExistsError:
        return
    (won / content).touch()


def test_of_several_that_make_a_folder_at_once_exactly_one_wins(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for turn in range(5):
        folder, won = tmp_path / f"made-{turn}", tmp_path / f"won-{turn}"
        won.mkdir()
        start = time.time() + 0.1
        processes = [context.Process(target=_claim, args=(folder, str(i), start, won)) for i in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        (winner,) = won.iterdir()
        assert (folder / "who").read_text() == winner.name
    assert not list(tmp_path.glob(".*"))


def _killed_at(folder: Path, at: int) -> int:
    """Make the folder, and end this process at the event of that number, if there are so many."""
    seen = itertools.count(1)

    def kill(event: str, arguments: object) -> None:
        if event in _EVENTS and str(folder.parent) in repr(arguments) and next(seen) == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(kill)
    with atomic_folder(folder) as beside:
        (beside / "value").write_text("new")
    return 0


_EVENTS = ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "os.mkdir", "tempfile.mkdtemp", "open")


def test_killed_at_any_event_a_folder_is_the_old_or_the_new_one_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, ended, at = set(), False, 0
    while not ended:
        at += 1
        folder = tmp_path / f"turn-{at}" / "expert"
        folder.mkdir(parents=True)
        (folder / "value").write_text("old")
        status, _, said = fork(partial(_killed_at, folder, at), tmp_path / f"process-{at}").ended()
        ended = status == 0
        assert ended or status == -signal.SIGKILL, said
        with monkeypatch.context() as patch:
            patch.setattr(files, "_YOUNG", 0.0)
            recover(folder.parent)
        assert [path.name for path in folder.parent.iterdir()] == ["expert"]
        found.add((folder / "value").read_text())
    assert found == {"old", "new"}
    assert at > 5


def test_what_a_live_process_writes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_YOUNG", 0.0)
    with atomic_folder(tmp_path / "expert") as beside:
        (beside / "value").write_text("new")
        assert recover(tmp_path) == []
        assert beside.is_dir()
    assert (tmp_path / "expert" / "value").read_text() == "new"


def test_a_new_write_deletes_what_killed_ones_of_the_same_path_have_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_YOUNG", 0.0)
    left, other = tmp_path / ".log.json.abcd.part", tmp_path / ".else.json.abcd.part"
    for path in (left, other):
        path.write_text("half")
    write_atomic(tmp_path / "log.json", b"whole")
    assert sorted(os.listdir(tmp_path)) == [".else.json.abcd.part", "log.json"]


def test_a_pool_that_is_opened_is_in_order_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_YOUNG", 0.0)
    aside, half = tmp_path / ".one.abcd.part.aside", tmp_path / ".two.efgh.part"
    for folder in (aside, half):
        folder.mkdir()
        (folder / "expert.json").write_text("{}")
    assert cli.main(["pool", "clean", "--pool", str(tmp_path)]) == 0
    assert sorted(os.listdir(tmp_path)) == ["one"]
    out = capsys.readouterr().out
    assert str(aside) in out
    assert str(half) in out
    assert cli.main(["pool", "clean", "--pool", str(tmp_path)]) == 0
    assert "nothing to clean" in capsys.readouterr().out


def test_json_is_utf_8_whatever_a_file_is_called(tmp_path: Path) -> None:
    odd = os.fsdecode(b"b\xffd")
    assert json.loads(json_bytes({"name": odd, "other": "é"}).decode()) == {"name": odd, "other": "é"}
    assert json_bytes({"other": "é"}) == '{\n  "other": "é"\n}\n'.encode()
    assert Path(hold(tmp_path / odd).lock_file) == home() / "locks" / path_key(tmp_path / odd)
