"""Options in groups: what `typer` sees of them, what a command gets, and that a group names only what its model has."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated

import pytest
import typer
from pydantic import BaseModel

import pitune
from pitune import cli
from pitune.commands.groups import flat
from pitune.commands.options import Training
from pitune.commands.tune import Mix
from pitune.interpolation import TuneSettings


@dataclasses.dataclass(frozen=True)
class Inner:
    words: Annotated[list[str] | None, typer.Option("--word")] = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer:
    number: Annotated[int, typer.Option()]
    inner: Inner


def command(
    name: Annotated[str, typer.Argument()], *, outer: Outer, last: Annotated[bool, typer.Option()] = False
) -> None:
    """Say it."""
    print((name, outer, last))


def test_fields_stand_where_their_group_does(capsys: pytest.CaptureFixture[str]) -> None:
    flags = inspect.signature(flat(command)).parameters
    assert list(flags) == ["name", "number", "words", "last"]
    assert flags["number"].default is inspect.Parameter.empty
    assert flat(command).__doc__ == "Say it."
    app = typer.Typer()
    app.command()(flat(command))
    app(["a", "--number", "3", "--word", "x", "--word", "y"], standalone_mode=False)
    assert capsys.readouterr().out.strip() == str(("a", Outer(number=3, inner=Inner(["x", "y"])), False))


def test_two_flags_of_one_name_are_refused() -> None:
    def twice(words: Annotated[str, typer.Option()], inner: Inner) -> None: ...

    with pytest.raises(ValueError, match="duplicate parameter name: 'words'"):
        flat(twice)


@pytest.mark.parametrize(("group", "model"), [(Training, pitune.TrainingSettings), (Mix, TuneSettings)])
def test_a_group_has_fields_of_the_model_that_it_fills(group: type, model: type[BaseModel]) -> None:
    assert {field.name for field in dataclasses.fields(group)} <= model.model_fields.keys()


def test_no_command_takes_more_than_it_can_show_on_a_screen() -> None:
    for commands in cli.COMMANDS.values():
        for name, function in commands.items():
            assert len(inspect.signature(function).parameters) <= 11, name
