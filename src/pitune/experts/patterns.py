"""Which modules a name, its ending or a regular expression means, in bounded time, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TypeVar

import regex

from pitune.errors import InputError

Value = TypeVar("Value")
_LONGEST = 2_000  # characters of a pattern; those that people write have some hundreds
_SECONDS = 0.5  # for one pattern and one name; usual ones take microseconds
_MOST = 1_000  # patterns that are no plain names
ALL_LINEAR = "all-linear"  # PEFT's word, not a pattern


def modules_matching(targets: str | Sequence[str], names: Sequence[str]) -> str | list[str]:
    """Return the modules among `names` that PEFT's `target_modules` means: full names, endings, or one pattern.

    A target that is a module's full name means that module alone, also where it ends another's. Raise `InputError`
    naming a target that is nowhere, or a pattern that is none or takes too long.
    """
    if targets == ALL_LINEAR:
        return ALL_LINEAR
    if isinstance(targets, str):
        found = [name for name in names if _fits(targets, targets, name)]
        if not found:
            raise InputError(f"the expert cannot attach: no module of the backbone matches {targets!r:.200}")
        return found
    ending: dict[str, list[str]] = {}
    for name in names:
        for end in endings(name):
            ending.setdefault(end, []).append(name)
    known, found = set(names), []
    for target in dict.fromkeys(targets):
        if target not in known and target not in ending:
            raise InputError(f"the expert cannot attach: the backbone has no submodule {target!r:.200}")
        found += [target] if target in known else ending[target]
    return list(dict.fromkeys(found))


def endings_of_others(names: Iterable[str], among: Iterable[str]) -> list[str]:
    """Return those of `among` that are not in `names` but end like one of them: PEFT would take them for targets."""
    wanted = set(names)
    return [name for name in among if name not in wanted and any(end in wanted for end in endings(name))]


@lru_cache(maxsize=1 << 14)
def pattern_key(keys: tuple[str, ...], name: str) -> str:
    """Return the first key of `rank_pattern` or `alpha_pattern` that PEFT reads as meaning a module, or its name.

    A key means modules that it names, whose names it ends, or whose end it matches as a regular expression.
    """
    ends = {name, *endings(name)}
    tried = 0
    for key in keys:
        if key in ends:
            return key
        if re.fullmatch(r"[\w.-]*", key):  # a plain name, and not this one
            continue
        tried += 1
        if tried > _MOST:
            raise InputError(f"has more than {_MOST} patterns of modules; name the modules instead")
        if _fits(rf"(?:.*\.)?(?:{key})", key, name):
            return key
    return name


def full_names(values: Mapping[str, Value], sites: Iterable[str]) -> dict[str, Value]:
    """Return settings by full names as keys that mean these alone, also where one name ends another."""
    known = list(sites)
    short = {end for name in known for end in endings(name)}
    return {f"^{re.escape(name)}" if name in short else name: value for name, value in values.items()}


def endings(name: str) -> list[str]:
    """Return what a module's name ends in, such as `attention.query` and `query` of `layer.attention.query`."""
    parts = name.split(".")
    return [".".join(parts[i:]) for i in range(1, len(parts))]


def _fits(pattern: str, written: str, name: str) -> bool:
    try:
        return _compiled(pattern).fullmatch(name, timeout=_SECONDS) is not None
    except (re.error, regex.error, RecursionError, OverflowError) as error:
        reason = f"{written!r:.200} is no regular expression ({error})"
        raise InputError(f"the expert cannot attach: {reason}; name the modules instead") from error
    except TimeoutError as error:
        raise InputError(
            f"the expert cannot attach: the pattern {written!r:.200} takes too long; name the modules instead"
        ) from error


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> regex.Pattern[str]:
    if len(pattern) > _LONGEST:
        raise InputError(f"the pattern {pattern!r:.60} has {len(pattern)} characters; expected at most {_LONGEST}")
    re.compile(pattern)  # PEFT reads it so
    return regex.compile(pattern)
