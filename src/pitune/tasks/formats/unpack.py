"""Unpack an archive once into the cache; nothing of it may land elsewhere, link away, or fill the disk."""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from filelock import FileLock

from pitune.errors import InputError
from pitune.files import home, sha256_file
from pitune.tasks.formats.parsing import regular_file

MOST_MEMBERS = 2_000_000
MOST_BYTES = 64 << 30
MOST_RATIO = 200  # images hardly compress; beyond this an archive is made to burst
_FREE_RATIO = 1 << 26  # small archives may be text, which compresses well
_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # is no fault of an archive's
_BROKEN = (  # what the readers of archives raise at bytes that are none
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    OverflowError,
    TypeError,
    AttributeError,
    MemoryError,
)


class _Member(NamedTuple):
    name: str
    size: int
    file: IO[bytes]


_archives: dict[Path, Path] = {}  # by the folder that their files are in, for errors to name them


def unpacked(path: Path) -> Path:
    """Return a folder with an archive's files; raise `InputError` naming the member that may not be unpacked."""
    folder = _unpacked(path, _stamp(path))
    _archives.pop(folder, None)  # the last one to be asked for comes last
    _archives[folder] = path
    return folder


def as_members(text: str) -> str:
    """Return a message with paths of unpacked files as those of archives and members: `pets.zip@cat/1.png`."""
    for folder, archive in reversed(_archives.items()):  # one inside another was unpacked after it
        text = text.replace(f"{folder}/", f"{archive}@").replace(str(folder), str(archive))
    return text


@contextmanager
def naming_members() -> Iterator[None]:
    """Have errors within name archives and their members, not the files in the cache."""
    try:
        yield
    except InputError as error:
        raise InputError(as_members(str(error))) from error


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = regular_file(path).stat()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected an archive") from error
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=256)
def _unpacked(path: Path, stamp: tuple[int, int]) -> Path:
    folder = home() / "unpacked" / sha256_file(path)[:24]
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            for left in folder.parent.glob(f".{folder.name}.*.part"):  # by a process that was killed: we hold the lock
                shutil.rmtree(left, ignore_errors=True)
            beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
            try:
                _unpack(path, beside, stamp[0])
                os.replace(beside, folder)
            finally:
                shutil.rmtree(beside, ignore_errors=True)
    return folder


def _unpack(path: Path, folder: Path, packed: int) -> None:
    total, name = 0, ""
    most = min(MOST_BYTES, max(_FREE_RATIO, packed * MOST_RATIO))
    try:
        for number, member in enumerate(_tar(path) if path.suffix == ".tar" else _zip(path)):
            name = member.name
            target = folder / _safe(path, member.name)
            if number >= MOST_MEMBERS:
                raise InputError(f"{path}: holds more than {MOST_MEMBERS:,} files; unpack it yourself")
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as sink:
                while chunk := member.file.read(_CHUNK):  # what comes out counts, not what the header promises
                    total += len(chunk)
                    if total > most:
                        raise InputError(
                            f"{path}: unpacks to more than {most >> 20:,} MiB at {member.name!r}; unpack it yourself"
                        )
                    sink.write(chunk)
    except _BROKEN as error:
        if isinstance(error, InputError) or getattr(error, "errno", None) in _FULL:
            raise
        why = getattr(error, "strerror", None) or error
        at = f" at {name!r:.80}" if name else ""
        raise InputError(f"{path}: damaged or unreadable archive ({why}{at}); fetch it again") from error


def _safe(path: Path, name: str) -> PurePosixPath:
    """Return a member's name as a path below; raise `InputError` if it climbs out or is absolute."""
    parts = PurePosixPath(name.replace("\\", "/"))
    drive = parts.parts and parts.parts[0].endswith(":")
    if parts.is_absolute() or ".." in parts.parts or drive or not parts.parts or "\0" in name:
        raise InputError(f"{path}: member {name!r} leads out of the archive; nothing was unpacked")
    return parts


def _zip(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{path}: member {info.filename!r} is a link; nothing was unpacked")
            if info.is_dir():
                _safe(path, info.filename)
                continue
            with archive.open(info) as file:
                yield _Member(info.filename, info.file_size, file)


def _tar(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, "r:") as archive:
        for info in archive:
            if info.issym() or info.islnk() or info.isdev():
                raise InputError(f"{path}: member {info.name!r} is a link or device; nothing was unpacked")
            file = archive.extractfile(info)
            if file is not None:
                yield _Member(info.name, info.size, file)
