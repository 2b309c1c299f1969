"""Files that are either whole or absent, hashes, and where pitune keeps its caches."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, Timeout
from platformdirs import user_cache_path

from pitune.errors import InputError

_PART, _ASIDE = ".part", ".aside"  # what is being written, and what was there before
_YOUNG = 1.0  # seconds in which a new file may not be held yet


def home() -> Path:
    """Return the cache folder: `PITUNE_HOME`, or `pitune` under the user's cache directory."""
    value = os.environ.get("PITUNE_HOME")
    return Path(value) if value else user_cache_path("pitune")


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of `data` in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a regular file in hexadecimal; raise `InputError` for a pipe or device."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file to read its bytes; raise `InputError` for what is none, which might never end."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:  # opened first, so that what is looked at is what is read
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise InputError(f"{path}: is no regular file; expected one")
        yield file


def path_key(path: Path) -> str:
    """Return what a place is kept under in the cache: the same for every way to write its path."""
    return sha256_bytes(os.fsencode(path.resolve()))[:24]


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` beside `path`, flush it to disk, and rename it into place.

    What killed writes of the same path have left is deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in _left(path.parent, path.name):
        _delete(left)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file, _held(file.fileno()):
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
    return (json_text(value, indent=2, sort_keys=True) + "\n").encode()


def json_text(value: object, **how: Any) -> str:
    """Return JSON of finite numbers that UTF-8 can hold; what no text may hold, of odd file names, is escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, **how)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, **how)
    return text


@contextmanager
def atomic_folder(folder: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give a folder beside `folder` to write into, and on leaving flush it and rename it into place.

    What was there is put aside first and deleted last; with `replace` false the first of several to come wins, and for
    the others `FileExistsError` is raised. If the block fails, everything is as it was; if it is killed, `recover` puts
    things in order.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=_PART, dir=folder.parent))
    handle = os.open(part, os.O_RDONLY)
    try:
        with _held(handle):
            yield part
            for file in part.rglob("*"):
                if file.is_file():
                    flush(file)
            part.chmod(0o755)  # mkdtemp makes folders that only their owner may read
            _move_in(part, folder, replace)
            flush(folder.parent)
    finally:
        os.close(handle)
        shutil.rmtree(part, ignore_errors=True)


def _move_in(part: Path, folder: Path, replace: bool) -> None:
    """Rename a folder to where it belongs; what is there is put aside, as often as another process puts it there."""
    aside = part.with_name(f"{part.name}{_ASIDE}")
    while True:
        try:
            os.rename(part, folder)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                if aside.exists() and not folder.exists():
                    os.rename(aside, folder)
                raise
            if not replace:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder)) from error
            shutil.rmtree(aside, ignore_errors=True)
            with suppress(FileNotFoundError):  # another process has just put it aside
                os.rename(folder, aside)
            continue
        shutil.rmtree(aside, ignore_errors=True)
        return


def beside(path: Path) -> Path:
    """Return where to put aside what is to be deleted, such that `recover` deletes it if this process is killed."""
    return path.with_name(f".{path.name}.{os.getpid()}{_PART}")


def recover(parent: Path) -> list[Path]:
    """Put back what killed processes had put aside in a folder, delete what they left half-written, and return it.

    What a live process is still writing is held by it, and left alone.
    """
    done = []
    for left in _left(parent):
        if left.name.endswith(_ASIDE):
            folder = left.with_name(left.name[1:].rsplit(".", 2)[0].rsplit(".", 1)[0])
            if not folder.exists():
                with suppress(OSError):
                    os.rename(left, folder)
        _delete(left)
        done.append(left)
    return done


def _left(parent: Path, name: str = "*") -> list[Path]:
    """Return what was written beside a path and not finished, of which no process holds the part; asides come first."""
    asides = [path for path in parent.glob(f".{name}.*{_PART}{_ASIDE}") if _free(path.with_suffix(""))]
    return [*asides, *(path for path in parent.glob(f".{name}.*{_PART}") if _free(path))]


def _free(path: Path) -> bool:
    """Return whether no process is writing a file or folder; one that is gone is free."""
    try:
        if time.time() - path.stat().st_mtime < _YOUNG:
            return False  # made, and perhaps not yet held
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


@contextmanager
def _held(handle: int) -> Iterator[None]:
    """Hold an open file or folder, for others to see that its writer lives; the system lets go when that one dies."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    yield


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def hold(path: Path) -> BaseFileLock:
    """Hold a path for this process while the lock is kept; raise `InputError` if another holds it.

    The lock lies in the cache, so that nothing is left beside the path.
    """
    lock = FileLock(home() / "locks" / path_key(path), is_singleton=True)
    try:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"{path}: another process writes there; wait until it has ended, or choose another") from None
    except (OSError, NotImplementedError):  # a cache that may only be read, or one without locks
        pass
    return lock


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
