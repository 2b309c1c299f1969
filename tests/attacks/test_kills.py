"""A few kills of two commands; `python -m tests.attacks.kills` kills every command a hundred times."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable


def test_killed_commands_leave_what_was_finished_and_end_at_the_same_bytes(
    record_property: Callable[[str, object], None],
) -> None:
    command = [sys.executable, "-m", "tests.attacks.kills", "--rounds", "2"]
    command += ["--command", "fit", "--command", "pool add"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    told = [line.partition(", by")[0] for line in done.stdout.splitlines() if " kills, by" in line]
    assert told == ["fit: 2 kills", "pool add: 2 kills"]
    record_property("inputs", 4)
