"""The errors that are the reader's to mend; the command line turns each into one line and exit status 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(ValueError):
    """What was given cannot be used.

    The message says in one line what was found, what was expected, and what to do.
    Whoever raises it leaves every file as it was. Names that it quotes may be a stranger's: the message is made
    printable, so that none of them reaches the terminal as an escape sequence.
    """

    def __init__(self, message: object = "") -> None:
        """Make an error of one printable line."""
        super().__init__(printable(str(message)))


def printable(text: str) -> str:
    r"""Return text as one line that a terminal shows as it is: what it would act on is written as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def first_problem(error: ValidationError) -> str:
    """Return the first thing that a pydantic model refused, as `field.path: what is wrong (found 3)`, in one line."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    plain = first["input"] is None or isinstance(first["input"], str | int | float)
    found = f" (found {first['input']!r:.80})" if plain else ""
    return f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}{found}"
