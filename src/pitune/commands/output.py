"""What a command prints: one JSON object, or a few lines and tables; progress goes to stderr."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pitune.files import json_text
from pitune.processes import team

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from rich.table import Table

VERBOSITY, QUIET, VERBOSE = "PITUNE_VERBOSITY", "quiet", "verbose"  # in the environment, so that workers know it too
_FILED = 160  # characters a line where no terminal says how many
_GAP = 3  # characters between columns


def report(as_json: bool, result: Mapping[str, Any] | DataclassInstance, lines: Iterable[str | Table]) -> None:
    """Print a command's result, as JSON or for reading; of the processes of one run the first does."""
    if not team().first:
        return
    if as_json:
        result = result if isinstance(result, Mapping) else asdict(result)
        print(json_text(result))
        return
    from rich.console import Console

    console = Console(width=_width(), markup=False, highlight=False, emoji=False)
    for line in lines:
        console.print(printable(line) if isinstance(line, str) else line, soft_wrap=isinstance(line, str))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, spare: Sequence[str] = ()) -> Table:
    """Return a table; numbers stand to the right, and words are whole where the screen has room for them.

    Where it has not, columns that can be spared are left out, the first named first, and a line below says so.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    values = [list(row) for row in rows]
    texts = [[column, *(shown(row[i]) for row in values)] for i, column in enumerate(columns)]
    least = {i: max((len(word) for text in of for word in text.split()), default=1) for i, of in enumerate(texts)}
    gone: list[str] = []
    for column in spare:
        if sum(least.values()) + _GAP * len(least) > _width():
            del least[columns.index(column)]
            gone.append(column)
    note = f"no room here for {', '.join(gone)}; --json has all" if gone else None
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=note, caption_justify="left")
    whole = [max(map(len, of)) for of in texts]
    for i, width in _shares(least, whole, _width() - _GAP * len(least)).items():
        number = all(_is_number(row[i]) for row in values)
        made.add_column(columns[i], justify="right" if number else "left", overflow="fold", width=width)
    for j in range(len(values)):
        made.add_row(*(Text(texts[i][j + 1]) for i in least))
    return made


def _shares(least: Mapping[int, int], whole: Sequence[int], room: int) -> dict[int, int]:
    """Return the width of each column: what it would have, or its longest word and a share of what is left."""
    widths = dict(least)
    while sum(widths.values()) > max(room, len(widths)):
        widths[max(widths, key=widths.__getitem__)] -= 1
    while sum(widths.values()) < room:
        short = [column for column in widths if widths[column] < whole[column]]
        if not short:
            break
        widths[min(short, key=widths.__getitem__)] += 1
    return widths


def _width() -> int:
    """Return how many characters a line has: those of the terminal, or many where what is printed is kept."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _FILED


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, int | float) or _is_signed(value)


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


def changing_nothing(experts: Iterable[tuple[str, bool]]) -> list[str]:
    """Return a line for each expert, of names and whether they are untouched, that is the backbone itself."""
    return [f"{name} changes nothing: it is the untouched backbone" for name, untouched in experts if untouched]


def note(text: str) -> None:
    """Tell on stderr what is going on, unless told to be quiet."""
    if is_told():
        print(printable(text), file=sys.stderr, flush=True)


def watched() -> bool:
    """Return whether somebody looks at stderr, so that a moving bar makes sense."""
    return sys.stderr.isatty() and is_told()


def is_verbose() -> bool:
    """Return whether libraries may warn and errors show where they were raised."""
    return os.environ.get(VERBOSITY) == VERBOSE


def is_told() -> bool:
    """Return whether what goes on is told on stderr; of the processes of one run the first does."""
    return os.environ.get(VERBOSITY) != QUIET and team().first
