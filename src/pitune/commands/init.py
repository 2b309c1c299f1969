"""`pitune init`: the YAML of a task, to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from pitune.commands import options
from pitune.commands.output import note, report
from pitune.commands.set_up import check_file, read_columns
from pitune.errors import InputError


def init(
    source: Annotated[str, Argument(metavar="DATA", help="A file or folder of data.")],
    *,
    out: Annotated[
        Path | None, Option(metavar="FILE", help="The YAML to write, which must be free; as the data is called.")
    ] = None,
    data: options.Data,
    common: options.Common,
) -> None:
    """Write a YAML that declares a task of your data, every field of it explained; change it, then fit it."""
    from pitune.files import write_atomic
    from pitune.tasks import sketch
    from pitune.tasks.formats.declaration import SUFFIXES

    file = Path(f"{Path(source).stem}.yaml") if out is None else out
    if file.suffix.lower() not in SUFFIXES:
        raise InputError(f"{file}: expected a name that ends in .yaml")
    check_file(file)
    if file.exists():
        raise InputError(f"{file}: exists; choose another name with --out")
    text = sketch(source, file, read_columns(data.columns), note, **data.own)
    write_atomic(file, text.encode())
    told = {"file": str(file), "source": source}
    report(common.as_json, told, [f"wrote {file}; next: pitune tasks check {file}"])
