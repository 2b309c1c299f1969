"""What fuzzing began with and found worth keeping is read or refused; `python -m tests.attacks.fuzz` looks for more."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.fuzz import CORPUS, READERS


@pytest.mark.parametrize("kind", READERS)
def test_every_kept_input_is_read_or_refused(
    tmp_path: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    inputs = sorted((CORPUS / kind).iterdir())
    for one in inputs:
        READERS[kind](tmp_path / kind, one.read_bytes())
    record_property("inputs", len(inputs))
    assert len(inputs) >= 3
