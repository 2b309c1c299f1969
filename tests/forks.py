"""Processes of their own that import nothing anew: forks of the one that the tests run in."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fork:
    """A process, and the files that it writes its output and its errors to."""

    number: int
    out: Path
    err: Path

    def kill(self, signal_number: int) -> None:
        """Send it a signal."""
        os.kill(self.number, signal_number)

    def ended(self) -> tuple[int, str, str]:
        """Wait for it, and return its status, as −signal if it was killed, its output and its errors."""
        _, status = os.waitpid(self.number, 0)
        return os.waitstatus_to_exitcode(status), self.out.read_text(), self.err.read_text()


def fork(do: Callable[[], int], folder: Path, environment: Mapping[str, str] | None = None) -> Fork:
    """Do something in a process of its own, which works in `folder` and ends with the status that is returned."""
    out, err = (Path(f"{folder}.{stream}") for stream in ("out", "err"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which are xdist's own and hold nothing here
        number = os.fork()
    if number:
        return Fork(number, out, err)
    status = 70
    try:
        folder.mkdir(exist_ok=True)
        os.chdir(folder)
        os.environ.update(environment or {})
        for stream, file in ((1, out), (2, err)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
        sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
        status = do()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
