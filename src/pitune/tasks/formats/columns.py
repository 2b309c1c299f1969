"""Which column of a table plays which part: as told, or guessed from its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from pitune.errors import InputError
from pitune.tasks.formats.reading import Options

_SHOWN = 30  # columns that an error lists
ROLES = ("text", "image", "label", "answer", "candidates", "references", "split")
_PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("question", "context"),
)
_GUESSES: Mapping[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "question", "review", "content", "document", "message", "comment", "tweet", "title"),
    "image": ("image", "image_path", "img_path", "filepath", "file_name", "filename", "file", "path", "img", "photo"),
    "label": ("label", "labels", "class", "category", "target", "sentiment", "gold_label", "label_name"),
    "answer": ("answer", "caption", "output", "response", "summary"),
    "candidates": ("candidates", "choices", "options"),
    "references": ("references", "answers", "captions"),
    "split": ("split", "part", "fold", "subset"),
}


@dataclass(frozen=True)
class Columns:
    """The columns that are read; `text` may be several, shown with their names one after the other.

    A row has `several` labels where they stand in one cell, as a list or divided by `separator`, or where each of the
    columns `labels` says with 0 or 1 whether it is right.
    """

    target: str
    is_label: bool
    text: tuple[str, ...] = ()
    image: str | None = None
    candidates: str | None = None
    references: str | None = None
    split: str | None = None
    labels: tuple[str, ...] = ()
    separator: str | None = None
    several: bool = False


def find_columns(path: Path, names: Sequence[str], options: Options) -> Columns:
    """Return the columns by role; raise `InputError` that lists what was found if a role cannot be filled."""
    _check(path, names, options.columns)
    lower = {name.lower(): name for name in reversed(names)}
    found = dict(options.columns)
    labels = _labels(path, names, found)
    for role, guesses in _GUESSES.items():
        if role not in found and role != "text":
            taken = {*found.values(), *labels}
            known = [lower[guess] for guess in guesses if guess in lower and lower[guess] not in taken]
            found |= {role: known[0]} if known else {}
    if "label" in found and "label" not in options.columns and "answer" in options.columns:
        del found["label"]
    text = _text(lower, {**found, **{f"label {name}": name for name in labels}})
    target = found.get("label") or found.get("answer") or found.get("references")
    if target is None or not (text or "image" in found):
        hint = "; name them as in --column label=NAME --column text=NAME"
        raise InputError(f"{path}: found columns {_listed(names)}; expected label, and text or image or both{hint}")
    several = bool(labels or options.label_separator)
    if several and "label" not in found:
        raise InputError(f"{path}: several labels a row, but no column of labels; name it with --column label=NAME")
    columns = Columns(
        target=labels[0] if labels else target,
        is_label="label" in found,
        text=text,
        image=found.get("image"),
        candidates=found.get("candidates"),
        references=found.get("references"),
        split=found.get("split"),
        labels=labels,
        separator=options.label_separator,
    )
    columns = with_several(path, columns, options) if several else columns
    _tell(path, columns, options)
    return columns


def roles_of(path: Path, names: Sequence[str], options: Options) -> dict[str, str]:
    """Return the columns that are read by role, as `--column` and a YAML task name them."""
    found = find_columns(path, names, options)
    role = "label" if found.is_label else "answer" if found.target != found.references else ""
    target = {role: options.columns.get(role, found.target)} if role else {}
    others = {"image": found.image, "candidates": found.candidates, "references": found.references}
    named = {"text": ",".join(found.text), **others, **target, "split": found.split}
    return {role: name for role, name in named.items() if name}


def find_inputs(path: Path, names: Sequence[str], options: Options) -> Columns:
    """Return the columns of a table of new inputs, which needs no label; other roles may be given and are not read."""
    given = {role: name for role, name in options.columns.items() if role in ("text", "image", "candidates")}
    _check(path, names, {role: name for role, name in options.columns.items() if role in given or role not in ROLES})
    lower = {name.lower(): name for name in reversed(names)}
    found = dict(given)
    for role in ("image", "candidates"):
        known = [lower[guess] for guess in _GUESSES[role] if guess in lower and lower[guess] not in found.values()]
        found |= {role: known[0]} if known and role not in found else {}
    text = _text(lower, found)
    columns = Columns("", False, text, found.get("image"), found.get("candidates"))
    _tell(path, columns, options)
    return columns


def with_several(path: Path, columns: Columns, options: Options) -> Columns:
    """Return columns whose rows have several labels; raise `InputError` if other columns say what is right, too."""
    for role in ("candidates", "references"):
        if role in options.columns:
            raise InputError(f"{path}: several labels a row, and a column of {role}; expected one of both")
    return replace(columns, several=True, candidates=None, references=None)


def _labels(path: Path, names: Sequence[str], given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the columns of 0 and 1 that `label=a,b,c` or `label=tag_*` names, if it names several."""
    said = given.get("label", "")
    if said in names or not ("," in said or "*" in said):
        return ()
    found = [
        name for one in said.split(",") for name in names if name == one or ("*" in one and fnmatchcase(name, one))
    ]
    if len(set(found)) < 2:
        raise InputError(
            f"{path}: {said!r} names {len(set(found))} column(s); expected two or more, one for each class"
        )
    return tuple(dict.fromkeys(found))


def _listed(names: Sequence[str]) -> str:
    """Return names as an error lists them."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN]) or 'none'}{more}"


def _check(path: Path, names: Sequence[str], given: Mapping[str, str]) -> None:
    for role, name in given.items():
        if role not in ROLES:
            raise InputError(f"--column {role}={name}: no such role; expected one of: {', '.join(ROLES)}")
        for one in (name,) if name in names else name.split(","):
            pattern = role == "label" and "*" in one and any(fnmatchcase(known, one) for known in names)
            if one not in names and not pattern:
                raise InputError(f"{path}: has no column {one!r} for {role}; found {_listed(names)}")


def _text(lower: Mapping[str, str], found: Mapping[str, str]) -> tuple[str, ...]:
    if "text" in found:
        return (found["text"],) if found["text"] in lower.values() else tuple(found["text"].split(","))
    taken = set(found.values())
    for pair in _PAIRS:
        if all(name in lower and lower[name] not in taken for name in pair):
            return tuple(lower[name] for name in pair)
    return tuple(lower[name] for name in _GUESSES["text"] if name in lower and lower[name] not in taken)[:1]


def _tell(path: Path, columns: Columns, options: Options) -> None:
    """Say what was guessed, unless the columns have the plain names."""
    role = "label" if columns.is_label else "answer"
    used = {"text": ",".join(columns.text), "image": columns.image or "", role: columns.target}
    guessed = {role: name for role, name in used.items() if name and role not in options.columns and name != role}
    if guessed:
        said = ", ".join(f"{role} from column {name!r}" for role, name in guessed.items())
        options.tell(f"{path}: reading {said}; say otherwise with --column ROLE=NAME")
