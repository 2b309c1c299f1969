"""The options that all commands share, and the YAML file that may hold any of them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from pitune.defaults import BACKBONE as BACKBONE


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
            near = difflib.get_close_matches(str(field), fields, n=1) or sorted(fields)
            raise typer.BadParameter(f"{file}: unknown field {field!r}; expected {' or '.join(near)}")
        many = parameter.nargs != 1 or getattr(parameter, "multiple", False)
        if isinstance(value, dict) or (isinstance(value, list) and not many):
            raise typer.BadParameter(f"{file}: field {field!r} is a {type(value).__name__}; expected one plain value")
        if value is not None:
            values = [str(one) for one in value] if isinstance(value, list) else [str(value)]
            found[parameter.name] = values if many else values[0]  # read as the flag's own text would be
    context.default_map = found
    return file


def _load(file: Path) -> dict[Any, Any]:
    import yaml

    try:
        data = yaml.safe_load(file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{file}: cannot be read ({error.strerror}); expected a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file}: not a YAML file ({error})") from error
    if not isinstance(data, dict):
        raise typer.BadParameter(f"{file}: holds a {type(data).__name__}; expected `field: value` lines")
    return data


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Decides every draw.")]
Device = Annotated[str | None, typer.Option(help="Such as cpu or cuda; cuda where there is one.", show_default=False)]
Config = Annotated[
    Path | None,
    typer.Option(
        is_eager=True,
        callback=read_config,
        metavar="YAML",
        help="A file with these fields; flags win.",
        show_default=False,
    ),
]
BackboneName = Annotated[str, typer.Option(help="Name, checkpoint folder or hub id, such as OWNER/NAME@REVISION.")]
Dtype = Annotated[
    Literal["float32", "bfloat16", "float16"] | None,
    typer.Option(help="Number format of the backbone; float32 unless given.", show_default=False),
]
TASK_HELP = "A named task, a YAML that declares one, or a file or folder of data."
TaskName = Annotated[str, typer.Argument(metavar="TASK", help=TASK_HELP)]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="ROLE=NAME", help="Which column of a table is the label, text, image, …; repeatable."
    ),
]
Conflicts = Annotated[
    Literal["refuse", "drop", "keep"],
    typer.Option(help="What becomes of one input with two labels or in two parts."),
]
Limit = Annotated[
    int | None, typer.Option(min=1, help="Entries of a part to try with, evenly from its classes.", show_default=False)
]
AtMost = Annotated[
    bool, typer.Option("--at-most", help="Let classes with fewer examples than --shots give what they have.")
]
PoolFolder = Annotated[Path, typer.Option("--pool", metavar="DIR", help="The pool's folder.")]
MaybePool = Annotated[
    Path | None,
    typer.Option("--pool", metavar="DIR", help="Where the expert is, if it is given by name.", show_default=False),
]
Method = Annotated[str, typer.Option(help="Kind of expert, such as lora or adapter.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A setting of this kind of expert, the value in YAML; repeatable."
    ),
]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="EXPERT", help="Start from this expert: its folder, or its name in the pool.", show_default=False
    ),
]
Shots = Annotated[int | None, typer.Option(help="Examples a class; all of them unless given.", show_default=False)]
By = Annotated[str, typer.Option(help="The score that finds neighbours, such as probe or trial.")]
Neighbours = Annotated[int, typer.Option("-k", "--k", min=1, help="How many neighbours.")]
RunFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Keeps the run's state; a run stopped half-way goes on from there.", show_default=False
    ),
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Save the expert here.", show_default=False)]
ExpertName = Annotated[str | None, typer.Option("--name", help="Name of the expert.", show_default=False)]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps at most.", show_default=False)]
LearningRate = Annotated[float | None, typer.Option(help="Highest learning rate.", show_default=False)]
BatchSize = Annotated[int | None, typer.Option(help="Examples a forward pass.", show_default=False)]
