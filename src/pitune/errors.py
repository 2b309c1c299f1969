"""The errors that are the reader's to mend; the command line turns each into one line and exit status 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(ValueError):
    """What was given cannot be used.

    The message says in one line what was found, what was expected, and what to do.
    Whoever raises it leaves every file as it was.
    """


def first_problem(error: ValidationError) -> str:
    """Return the first thing that a pydantic model refused, as `field.path: what is wrong (found 3)`, in one line."""
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "the whole"
    plain = first["input"] is None or isinstance(first["input"], str | int | float)
    found = f" (found {first['input']!r:.80})" if plain else ""
    return f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}{found}"
