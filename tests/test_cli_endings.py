"""How a command ends when it is asked to, when nobody reads on, and when the system refuses something."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

import pitune
from pitune import cli
from pitune.errors import InputError
from pitune.files import hold
from pitune.processes import ALONE, team
from pitune.training import loop

CODE = "import sys; from pitune.cli import main; sys.exit(main())"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(pitune.__file__).parents[1])}


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def _refuse() -> None:
    raise OSError(errno.ENOSPC, "No space left on device", "/full/state")


@pytest.mark.parametrize(
    ("event", "status", "says"),
    [
        (_terminate, 143, "pitune: terminated; run the same command again"),
        (_refuse, 1, "pitune: /full/state: No space left on device"),
    ],
)
def test_a_run_ends_with_one_line(
    event: Callable[[], None],
    status: int,
    says: str,
    pocket_is_tiny: object,
    capsys: pytest.CaptureFixture[str],
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = loop._step

    def step(*arguments: Any) -> Any:
        event()
        return taken(*arguments)

    monkeypatch.setattr(loop, "_step", step)
    before = signal.getsignal(signal.SIGTERM)
    given = ["fit", str(tiny_task_paths["taste"]), "--shots", "2", "--steps", "3", "--run", str(tmp_path / "run")]
    assert cli.main(given) == status
    assert capsys.readouterr().err.splitlines()[-1].startswith(says)
    assert signal.getsignal(signal.SIGTERM) == before


def test_other_failures_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no number")

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(OSError, match="no number"):
        cli.main(["tasks", "list"])


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_a_closed_pipe_says_nothing(form: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", CODE, "tasks", "list", *form]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line() -> None:
    command = [sys.executable, "-c", CODE, "tasks", "list", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False)
    assert (done.returncode, done.stderr) == (1, "pitune: No space left on device\n")


def run(*arguments: object, before: str = "", **environment: str | None) -> tuple[int, str]:
    """Run a command in a shell that does something before; return its status and what it said on stderr."""
    known = {name: value for name, value in {**ENVIRONMENT, **environment}.items() if value is not None}
    line = shlex.join([sys.executable, "-c", CODE, *map(str, arguments)])
    done = subprocess.run(f"{before} {line}", shell=True, capture_output=True, text=True, env=known, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("home", [None, "", "/dev/null"])
def test_without_a_home_what_needs_none_is_done(home: str | None) -> None:
    assert run("tasks", "list", HOME=home, PITUNE_HOME=None, XDG_CACHE_HOME=None) == (0, "")


def test_no_cache_and_a_full_disk_are_one_line(tmp_path: Path, png: Callable[[int], bytes]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for i in range(8):
            archive.writestr(f"{'ab'[i % 2]}/{i}.png", png(i) + bytes(4096))
    given = ("tasks", "check", tmp_path / "a.zip")
    status, said = run(*given, PITUNE_HOME="/dev/null/x")
    assert (status, said[:19], said[-18:], said.count("\n")) == (1, "pitune: /dev/null/x", ": Not a directory\n", 1)
    home = str(tmp_path / "home")
    assert run(*given, before="ulimit -f 2;", PITUNE_HOME=home) == (1, "pitune: File too large\n")
    assert not [one for one in (tmp_path / "home" / "unpacked").iterdir() if one.is_dir()]


def test_closed_streams_are_no_fault() -> None:
    assert run("tasks", "list", before="exec >&- 2>&-;") == (0, "")
    assert run("tasks", "show", "nothing", before="exec >&- 2>&-;") == (2, "")


def _hold(path: Path, held: Event, enough: Event) -> None:
    lock = hold(path)
    held.set()
    enough.wait(60)
    assert lock.is_locked


@pytest.mark.parametrize("what", ["--out", "--run"])
def test_a_second_process_is_refused_what_a_first_one_writes(
    pocket_is_tiny: object,
    capsys: pytest.CaptureFixture[str],
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    what: str,
) -> None:
    context = multiprocessing.get_context("fork")
    held, enough = context.Event(), context.Event()
    first = context.Process(target=_hold, args=(tmp_path / "mine", held, enough))
    first.start()
    given = ["fit", str(tiny_task_paths["taste"]), "--shots", "2", "--steps", "1", what, str(tmp_path / "mine")]
    try:
        assert held.wait(60)
        assert cli.main(given) == 2
        assert "mine: another process writes there; wait until it has ended" in capsys.readouterr().err
        assert not (tmp_path / "mine").exists()
    finally:
        enough.set()
        first.join()
    assert cli.main(given) == 0


def test_worker_processes_end_with_their_parent(tmp_path: Path) -> None:
    code = (
        "import multiprocessing, os, signal, sys, time\n"
        "from pitune import cli\n"
        "def work(*_, **__):\n"
        "    child = multiprocessing.get_context('spawn').Process(target=time.sleep, args=(600,))\n"
        "    child.start()\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    child.join()\n"
        "if __name__ == '__main__':\n"
        "    cli.app = work\n"
        "    sys.exit(cli.main(['tasks']))\n"
    )
    (file := tmp_path / "run.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, file], capture_output=True, text=True, env=ENVIRONMENT, check=False, timeout=60
    )
    assert done.returncode == 143
    assert done.stderr.startswith("pitune: terminated; ")


@pytest.mark.parametrize("name", ["WORLD_SIZE", "RANK"])
def test_a_variable_of_torchrun_that_is_no_number_is_one_line(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, "x")
    with pytest.raises(InputError, match=rf"{name} is 'x'; expected a number, as torchrun sets it"):
        team()
    monkeypatch.setenv("WORLD_SIZE", "")
    monkeypatch.setenv("RANK", "")
    assert team() is ALONE


def test_a_cache_that_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], pocket_is_tiny: object, tmp_path: Path
) -> None:
    monkeypatch.setenv("PITUNE_HOME", "/proc/nope")
    rows = [f"{word} {i},{label}" for i in range(16) for word, label in (("sweet", "good"), ("sour", "bad"))]
    (tmp_path / "taste.csv").write_text("\n".join(["text,label", *rows]))
    assert cli.main(["fit", str(tmp_path / "taste.csv"), "--shots", "2", "--steps", "1"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("pitune: /proc/nope")
