"""The real commands on what strangers gave bring nothing about but files where they were asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

Record = Callable[[str, object], None]


def test_no_command_imports_starts_calls_or_writes_what_data_says(record_property: Record) -> None:
    command = [sys.executable, "-m", "tests.attacks.audit"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["faults"] == []
    assert told["imports"] == []
    assert set(told["sound"].values()) <= {0, 2}
    assert set(told["hostile"].values()) <= {0, 2}
    refused = [one for one in told["hostile"] if told["hostile"][one] == 2]
    assert {"tasks check task.yaml", "tasks check archive.zip", "pool verify --pool strangers"} <= set(refused)
    record_property("inputs", len(told["hostile"]))
