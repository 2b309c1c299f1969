"""The errors that are the reader's to mend; the command line turns each into one line and exit status 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

_LONGEST = 1500  # characters of a message


class InputError(ValueError):
    """What was given cannot be used.

    The message says in one line what was found, what was expected, and what to do.
    Whoever raises it leaves every file as it was. Names that it quotes may be a stranger's: the message is made
    printable, so that none of them reaches the terminal as an escape sequence, and has an end.
    """

    def __init__(self, message: object = "") -> None:
        """Make an error of one printable line."""
        super().__init__(one_line(str(message)))


def one_line(text: str) -> str:
    """Return a message as one printable line, without its middle where what it quotes is very long."""
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST * 2 // 3]} … {shown[-_LONGEST // 3 + 3 :]}"


def printable(text: str) -> str:
    r"""Return text as one line that a terminal shows as it is: what it would act on is written as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def first_problem(error: ValidationError) -> str:
    """Return the first thing that a pydantic model refused, as `field.path: what is wrong (found 3)`, in one line."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    value = first["input"]
    if isinstance(value, int) and value.bit_length() > 64:
        value = f"a number of {value.bit_length()} bits"  # which may be too long to be written out
    plain = value is None or isinstance(value, str | int | float)
    found = f" (found {value!r:.80})" if plain else ""
    return f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}{found}"
