"""What a command prints: one JSON object, or a few lines and tables; progress goes to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from rich.table import Table


def report(as_json: bool, result: Mapping[str, Any] | DataclassInstance, lines: Iterable[str | Table]) -> None:
    """Print a command's result, as JSON or for reading."""
    if as_json:
        result = result if isinstance(result, Mapping) else asdict(result)
        print(json.dumps(result, ensure_ascii=False, allow_nan=False))
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, highlight=False, emoji=False)
    for line in lines:
        console.print(printable(line) if isinstance(line, str) else line, soft_wrap=isinstance(line, str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """Return a table; numbers stand to the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    cells = [list(row) for row in rows]
    for i, column in enumerate(columns):
        number = all(row[i] is None or isinstance(row[i], int | float) or _is_signed(row[i]) for row in cells)
        made.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in cells:
        made.add_row(*(Text(shown(cell)) for cell in row))
    return made


def _is_signed(value: object) -> bool:
    """Return whether a text is a number with its sign, such as a gain in points."""
    return isinstance(value, str) and value.lstrip("+−").replace(".", "", 1).isdigit()


def shown(value: object) -> str:
    """Return a value as people read it: four decimals unless it is tiny, and a dash where there is none."""
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or abs(value) >= 0.01 else f"{value:.4g}"
    return printable(str(value))


def printable(text: str) -> str:
    """Return text without control characters: names come out of files that others wrote."""
    return "".join(character if character.isprintable() else "�" for character in text)


def note(text: str) -> None:
    """Tell on stderr what is going on."""
    print(printable(text), file=sys.stderr, flush=True)


def watched() -> bool:
    """Return whether somebody looks at stderr, so that a moving bar makes sense."""
    return sys.stderr.isatty()
