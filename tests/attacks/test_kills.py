"""One kill of each of two commands; `make attacks` goes on to kill every command, and often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.attacks.kills import kill_each
from tests.forks import fork


def test_killed_commands_leave_what_was_finished_and_end_at_the_same_bytes(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    def do() -> int:
        kill_each(tmp_path, ("fit", "pool add"), rounds=1)
        return 0

    status, out, said = fork(do, tmp_path).ended()
    assert status == 0, said[-3000:]
    told = [line.partition(", by")[0] for line in out.splitlines() if " kills, by" in line]
    assert told == ["fit: 1 kills", "pool add: 1 kills"]
    record_property("inputs", 2)
