"""Read files in place out of wheels, tarballs and Debian packages."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from pitune.errors import InputError

_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError, ValueError)
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60
_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 20


def read_member(path: Path, member: str) -> bytes:
    """Return one file of the archive at `path`; raise `InputError` if it is absent or the archive is damaged."""
    for _, data in read_members(path, lambda name: name == member):
        return data
    raise InputError(f"{path}: has no member {member!r}; delete the file and run `pitune data pull` again")


def read_members(path: Path, select: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the regular files whose names `select` accepts, in the archive's order.

    Links are passed over. Raises `InputError` if the archive is truncated or damaged.
    """
    try:
        with path.open("rb") as file:
            if path.suffix in (".whl", ".zip"):
                yield from _zip_members(file, select)
            elif path.suffix == ".deb":
                yield from tar_members(_deb_data(file), select)
            else:
                yield from tar_members(file, select)
    except _DAMAGE as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: truncated or damaged archive ({error}); delete the file and run `pitune data pull` again"
        ) from error


def tar_members(file: IO[bytes], select: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yield the regular files of a tar in gzip or xz, without a leading `./` in their names."""
    plain = _decompressed(file)
    with tarfile.open(fileobj=plain, mode="r|") as archive:
        for info in archive:
            name = info.name.removeprefix("./")
            if info.isreg() and select(name):
                content = archive.extractfile(info)
                if content is not None:
                    yield name, content.read()
    while plain.read(_CHUNK):  # the checksum comes last, behind the end of the tar
        pass


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    magic = file.read(2)
    file.seek(-len(magic), 1)
    return cast(IO[bytes], gzip.GzipFile(fileobj=file) if magic == _GZIP_MAGIC else lzma.LZMAFile(file))


def _zip_members(file: IO[bytes], select: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            if not info.is_dir() and select(info.filename):
                yield info.filename, archive.read(info)


def _deb_data(file: IO[bytes]) -> IO[bytes]:
    """Move `file`, a Debian package, to its last member, the `data.tar`, and return it."""
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise ValueError("not a Debian package")
    while header := file.read(_AR_HEADER):
        if len(header) < _AR_HEADER:
            raise EOFError("ends inside a header")
        if header.startswith(b"data.tar"):
            return file
        size = int(header[48:58])
        file.seek(size + size % 2, 1)
    raise ValueError("no data.tar in it")
