"""A task's YAML as one starts from: what is known of the data, and every other field with what it means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from pitune.tasks.formats import table
from pitune.tasks.formats.columns import roles_of
from pitune.tasks.formats.declaration import Declaration
from pitune.tasks.formats.reading import Tell
from pitune.tasks.formats.rows import columns_of
from pitune.tasks.loading import OwnData, load_task, options_of

_HEAD = """\
# A task of pitune. `pitune tasks check {file}` says whether it is sound, `pitune fit {file}` learns it.
# What stands behind `#` is what holds unless you say otherwise: take the `#` away and change it.
"""
_SHOWN = 100  # classes that are listed


def sketch(
    source: str | Path, file: Path, columns: Mapping[str, str] | None = None, tell: Tell | None = None, **own: Any
) -> str:
    """Return YAML for `file` that declares the data at `source`, read in whole: each field with its meaning.

    `columns` and `own` are what `load_task` takes. Fields that are known are said, all others stand in comments with
    what holds without them. Raise `InputError` if the data cannot be used.
    """
    said: OwnData = own  # type: ignore[assignment]
    task = load_task(source, columns, tell, **said)
    known: dict[str, Any] = {"name": task.name, "source": _place(source, file)}
    parts = {part: _place(own[part], file) for part in ("validation", "test") if part in own}
    if parts:
        known["source"] = {"train": known["source"], **parts}
    if table.recognises(Path(source)):
        known["columns"] = roles_of(Path(source), columns_of(Path(source)), options_of(columns, None))
    known |= {name: value for name, value in own.items() if name not in parts}
    if isinstance(known.get("classes"), str | Path):
        known["classes"] = _place(known["classes"], file)
    found: dict[str, Any] = {"metric": task.metric, "template": task.template, "answer_template": task.answer_template}
    if task.answers and len(task.answers) <= _SHOWN:
        found["classes"] = list(task.answers)
    lines = [_HEAD.format(file=file.name)]
    for name, field in Declaration.model_fields.items():
        default = found.get(name, field.get_default(call_default_factory=True))
        value = known.get(name, default)
        lines.append(f"# {field.description}{_choices(field.annotation)}")
        lines.append(f"{'' if name in known else '# '}{name}: {_flow(value)}\n")
    return "\n".join(lines)


def _place(path: str | Path, file: Path) -> str:
    """Return a path as it is named from a file's folder; what is no path, as `hf:OWNER/NAME`, stays."""
    return os.path.relpath(path, file.parent) if Path(path).exists() else str(path)


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text: str = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, sort_keys=False, width=1 << 20)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _choices(kind: object) -> str:
    return f": {', '.join(map(str, get_args(kind)))}" if get_origin(kind) is Literal else ""
