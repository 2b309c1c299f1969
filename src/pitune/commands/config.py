"""The YAML file that may hold any of a command's options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from pitune.registry import unknown


def read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take what no flag says from a YAML file with the same field names; runs before any other option is read.

    Raise `typer.BadParameter` that names the field if one is unknown or is not a plain value.
    """
    if file is None:
        return None
    found: dict[str, Any] = {}
    fields = {
        spelling.lstrip("-").replace("-", "_"): parameter
        for parameter in context.command.params
        for spelling in (*parameter.opts, *([parameter.name] if parameter.param_type_name == "argument" else []))
        if parameter.name not in ("config", "help")
    }
    fields = {name.lower() if name.isupper() else name: parameter for name, parameter in fields.items()}
    for field, value in _load(file).items():
        parameter = fields.get(str(field).replace("-", "_"))
        if parameter is None or parameter.name is None:
            raise typer.BadParameter(f"{file}: {unknown('field', str(field), fields, all_of=True)}")
        many = parameter.nargs != 1 or getattr(parameter, "multiple", False)
        if isinstance(value, dict) or (isinstance(value, list) and not many):
            raise typer.BadParameter(f"{file}: field {field!r} is a {type(value).__name__}; expected one plain value")
        if value is not None:
            values = [str(one) for one in value] if isinstance(value, list) else [str(value)]
            found[parameter.name] = values if many else values[0]  # read as the flag's own text would be
    context.default_map = found
    return file


def _load(file: Path) -> dict[Any, Any]:
    from pitune.tasks.formats.parsing import yaml_value

    data = yaml_value(file, "a YAML file of options")
    if not isinstance(data, dict):
        raise typer.BadParameter(f"{file}: holds a {type(data).__name__}; expected `field: value` lines")
    return data
