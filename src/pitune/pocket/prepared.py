"""Tables read out of archives once, then kept as one parquet file each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from pitune.archives import Archive
from pitune.errors import InputError
from pitune.files import home, sha256_bytes, write_atomic


def prepared(name: str, archives: Sequence[Archive], version: int, build: Callable[[], pa.Table]) -> pa.Table:
    """Return the table that `build` makes out of `archives`, from the cache where it is there.

    The file's name holds a hash of the archives and of the builder's `version`, so a change of
    either makes a new file. Raises `InputError` if the cached file is damaged.
    """
    key = sha256_bytes("\n".join([*(archive.sha256 for archive in archives), str(version)]).encode())[:12]
    path = home() / "tasks" / f"{name.replace('/', '-')}-{key}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.exists():
                write_atomic(path, _encode(build()))
    try:
        return pq.read_table(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these two kinds
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged ({reason}); delete the file and load the task again") from error


def _encode(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return bytes(sink.getvalue())
