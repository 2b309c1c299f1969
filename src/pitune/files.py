"""Files that are either whole or absent, hashes, and where pitune keeps its caches."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from pitune.errors import InputError


def home() -> Path:
    """Return the cache folder: `PITUNE_HOME`, or `pitune` under the user's cache directory."""
    value = os.environ.get("PITUNE_HOME")
    return Path(value) if value else user_cache_path("pitune")


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it to disk, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp makes files that only their owner may read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """Encode as UTF-8 JSON with sorted keys, so that equal values are equal bytes."""
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Give a folder beside `folder` to write into, and on leaving flush it and rename it into place.

    What was there is put aside first and deleted last. If the block fails, everything is as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield beside
        for file in beside.rglob("*"):
            if file.is_file():
                flush(file)
        beside.chmod(0o755)  # mkdtemp makes folders that only their owner may read
        aside = beside.with_name(f"{beside.name}.old")
        if folder.exists():
            os.replace(folder, aside)
        try:
            os.replace(beside, folder)
        except OSError:
            if aside.exists():
                os.replace(aside, folder)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        flush(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def flush(path: Path) -> None:
    """Have the system write a file, or a folder's entries, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_free(folder: Path) -> None:
    """Raise `InputError` unless `folder` does not exist, or is an empty folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists; choose a folder that is free")
