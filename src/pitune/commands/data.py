"""The options of a user's own data, which every command that reads a task takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, cast

from typer import Option

from pitune.commands.output import note
from pitune.commands.set_up import read_columns
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.tasks import Inspection, OwnData, Task

Columns = Annotated[
    list[str] | None,
    Option(
        "--column",
        metavar="ROLE=NAME",
        help="Which column of a table is the label, text, image, …; label=a,b,c or label=is_* for columns of 0 and 1.",
    ),
]


@dataclass(frozen=True)
class Data:
    """How a task's data is read; all but the columns has its field in a YAML task, which it replaces."""

    columns: Columns = None
    validation: Annotated[
        str | None, Option(metavar="PATH", help="Validation data of its own, beside TASK's training data.")
    ] = None
    test: Annotated[str | None, Option(metavar="PATH", help="Test data of its own, beside TASK's training data.")] = (
        None
    )
    classes: Annotated[
        str | None,
        Option(metavar="FILE", help="Names of classes: a line each by their numbers, or JSON or YAML by label."),
    ] = None
    unlabelled: Annotated[list[str] | None, Option(metavar="LABEL", help="A label that means none; repeatable.")] = None
    label_separator: Annotated[
        str | None, Option(metavar="TEXT", help="What stands between several labels in one cell.")
    ] = None
    cap: Annotated[int | None, Option(min=1, help="Examples of a class to learn from at most.")] = None
    weights: Annotated[
        list[str] | None,
        Option(
            "--weight", metavar="CLASS=NUMBER", help="How much a class counts in the loss, or balanced; repeatable."
        ),
    ] = None
    templates: Annotated[
        list[str] | None,
        Option(
            "--template",
            metavar="TEXT",
            help="What answers are matched as, as 'a photo of a {}.'; of several the mean.",
        ),
    ] = None
    conflicts: Annotated[
        Literal["refuse", "drop", "keep"], Option(help="What becomes of one input with two labels or in two parts.")
    ] = "refuse"
    limit: Annotated[int | None, Option(min=1, help="Entries of a part to try with, evenly from its classes.")] = None

    @property
    def own(self) -> OwnData:
        """What was said beside the path; raise `InputError` if a weight is none."""
        names = ("validation", "test", "classes", "unlabelled", "label_separator", "cap")
        said = {name: value for name in names if (value := getattr(self, name)) not in (None, [])}
        if self.weights:
            said["weights"] = "balanced" if self.weights == ["balanced"] else dict(map(_weight, self.weights))
        return cast("OwnData", said)

    def open_task(self, name: str, tell: Callable[[str], None] = note) -> Task:
        """Load a task, telling what was guessed, doubtful or left out; raise `InputError` if it cannot be used."""
        from pitune.tasks import load_task

        columns = read_columns(self.columns)
        words = self.templates or ()
        return load_task(name, columns, tell, conflicts=self.conflicts, limit=self.limit, templates=words, **self.own)

    def inspect(self, name: str) -> Inspection:
        """Read all of a task's data, telling what was guessed; raise `InputError` only if there is nothing to read."""
        from pitune.tasks import inspect, read_task

        found = read_task(name, read_columns(self.columns), note, templates=self.templates or (), **self.own)
        return inspect(found, self.conflicts)


def _weight(given: str) -> tuple[str, float]:
    name, _, number = given.rpartition("=")
    try:
        if not name:
            raise ValueError
        return name, float(number)
    except ValueError as error:
        raise InputError(f"--weight {given}: expected CLASS=NUMBER, or balanced alone") from error
