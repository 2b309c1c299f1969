"""What every attack on data must end in: one printable line of a named error, or a task, soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pitune.errors import InputError
from pitune.tasks import inspect, load_task, read_task

SOON = 20.0  # seconds of processor time; without bounds the worst take minutes to forever


def refused(path: Path | str) -> str:
    """Return what is said of data that cannot be read, the same for loading and checking, in one printable line."""
    with pytest.raises(InputError) as loading:
        load_task(path)
    assert str(loading.value) in checked(path)
    return str(loading.value)


def answered(path: Path | str) -> str:
    """Return what is said of data that may be read or not; nothing where it is."""
    start = time.process_time()
    try:
        load_task(path)
        said = ""
    except InputError as error:
        said = str(error)
    checked(path)
    assert time.process_time() - start < SOON
    return said


def checked(path: Path | str) -> tuple[str, ...]:
    """Return the problems that checking finds."""
    try:
        said = inspect(read_task(path)).problems
    except InputError as error:
        said = (str(error),)
    assert all(one.isprintable() and len(one) < 2000 for one in said)
    return said
