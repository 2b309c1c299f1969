"""The real commands on what strangers gave bring nothing about but files where they were asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.attacks.audit import listen
from tests.forks import fork

Record = Callable[[str, object], None]


def test_no_command_imports_starts_calls_or_writes_what_data_says(tmp_path: Path, record_property: Record) -> None:
    (place := tmp_path / "place").mkdir()

    def do() -> int:
        (tmp_path / "told").write_text(json.dumps(listen(place)))
        return 0

    status, _, said = fork(do, tmp_path / "process").ended()
    assert status == 0, said[-3000:]
    told = json.loads((tmp_path / "told").read_text())
    assert told["faults"] == []
    assert told["imports"] == []
    assert set(told["sound"].values()) <= {0, 2}
    assert set(told["hostile"].values()) <= {0, 2}
    refused = [one for one in told["hostile"] if told["hostile"][one] == 2]
    assert {"tasks check task.yaml", "tasks check archive.zip", "pool verify --pool strangers"} <= set(refused)
    record_property("inputs", len(told["hostile"]))
