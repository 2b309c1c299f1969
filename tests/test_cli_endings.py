"""How a command ends when it is asked to, when nobody reads on, and when the system refuses something."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import pitune
from pitune import cli
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
