"""Read JSON and YAML of strangers: whatever they hold, a value or an `InputError`."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from pitune.errors import InputError

_LONGEST_YAML = 1 << 22
_SHOWN = 120


def regular_file(path: Path) -> Path:
    """Return a path; raise `InputError` if it is a pipe, a device or of a system's own folder, which have no end."""
    try:
        real = path.resolve()
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise InputError(f"{path}: a pipe, socket or device; expected a file or folder of data")
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InputError):
            raise
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)[:_SHOWN]}: cannot be read ({why}); expected a file or folder of data") from error
    if any(real.is_relative_to(one) for one in ("/proc", "/sys", "/dev")):
        raise InputError(f"{path}: lies in {real.parts[1]}, which holds no data; expected a file or folder of data")
    return path


def json_value(data: str | bytes) -> Any:
    """Return what JSON text holds; raise `ValueError` if it is none, too deep, or names a field twice."""
    try:
        return json.loads(data, object_pairs_hook=_fields)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(one for one in names if names.count(one) > 1)!r} is there twice")
    return fields


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
    """Plain YAML: no aliases, which can grow without bound, no field twice, and no number that is not written as one.

    YAML 1.1 reads 1:30 as 90, 010 as 8 and 1_000 as 1000; here they are texts, as in YAML 1.2.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("holds an alias (*name); write its value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        fields: dict[Hashable, Any] = super().construct_mapping(node, deep)
        if len(fields) < len(node.value):
            raise yaml.YAMLError(f"a field is there twice, in the lines from {node.start_mark.line + 1}")
        return fields


_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_Loader.yaml_implicit_resolvers = {
    first: [one for one in resolvers if one[0] not in (_INT, _FLOAT)]
    for first, resolvers in _Loader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_INT, re.compile(r"[-+]?(0|[1-9][0-9]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    _FLOAT,
    re.compile(r"([-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)


def yaml_text(data: str | bytes) -> Any:
    """Return what YAML text holds; raise `ValueError` that says in a few words why it is none."""
    try:
        return yaml.load(data, Loader=_Loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError, AttributeError) as error:
        raise ValueError(str(error).splitlines()[0][:_SHOWN]) from error


def yaml_value(path: Path, expected: str = "a task in YAML") -> Any:
    """Return what a YAML file holds; raise `InputError` naming the file if it is none or cannot be read."""
    try:
        if regular_file(path).stat().st_size > _LONGEST_YAML:
            raise InputError(f"{path}: larger than 4 MiB; expected {expected}")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected {expected}") from error
    try:
        return yaml_text(data)
    except ValueError as error:
        raise InputError(f"{path}: not YAML ({error})") from error
