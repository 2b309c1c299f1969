"""What a careful colleague would tell of a data set before anybody trains on it."""

from __future__ import annotations

import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pitune.errors import InputError, one_line
from pitune.files import sha256_bytes
from pitune.tasks.formats.labelled import check_text, content_key, joined_labels, settled
from pitune.tasks.formats.reading import Conflicts, Found, Reading, templates_for
from pitune.tasks.formats.unpack import as_members
from pitune.tasks.images import FORMATS, image_bytes, is_deep, open_image
from pitune.tasks.task import Example

_USUAL_MODES = ("RGB", "L")
_NEAR = 3  # bits of 64 that two pictures of one thing may differ in
_PREVIEW = 3
_FEW = 3
_TOLD = 3  # remarks of a kind, beside how many there are


@dataclass(frozen=True)
class Inspection:
    """What was found: `problems` keep the data from being used, `remarks` are worth a look."""

    name: str
    parts: Mapping[str, int]
    classes: Mapping[str, Mapping[str, int]]
    problems: tuple[str, ...]
    remarks: tuple[str, ...]
    modes: Mapping[str, int]
    sizes: tuple[str, ...]
    preview: tuple[Mapping[str, Any], ...]
    content: str
    templates: tuple[str, ...] = ()


@dataclass
class _Seen:
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    problems: list[str] = field(default_factory=list)
    modes: Counter[str] = field(default_factory=Counter)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    exact: dict[str, list[tuple[str, Found]]] = field(default_factory=lambda: defaultdict(list))
    pictures: list[tuple[int, str, Found]] = field(default_factory=list)
    preview: list[dict[str, Any]] = field(default_factory=list)


def inspect(reading: Reading, conflicts: Conflicts = "refuse") -> Inspection:
    """Read everything of a data set, and go on past whatever is wrong with it.

    One input with two labels or in two parts is a problem, or a remark where `conflicts` says what becomes of it. Of
    remarks of one kind there are a few, and how many more.
    """
    seen, blank = _Seen(), list[str]()
    for found in reading.items:
        part = found.split or "all"
        if found.example is None:
            if found.problem:
                seen.problems.append(found.problem)
            else:
                blank.append(found.where)
            continue
        try:
            check_text(found)
            _look(seen, part, found, found.example, reading.several)
        except InputError as error:
            said = str(error)
            seen.problems.append(said if found.where in said else f"{found.where}: {said}")
    copies, clashes = _copies(seen, reading, conflicts)
    classes = {target: dict(counts) for target, counts in sorted(seen.counts.items())}
    parts = Counter[str]()
    for counts in seen.counts.values():
        parts.update(counts)
    problems = [*seen.problems, *(clashes if conflicts == "refuse" else ()), *_few(classes, reading)]
    remarks = [
        *reading.remarks,
        *([f"{len(blank)} entries have no label and are left out, such as {blank[0]}"] if blank else ()),
        *(_some(clashes, "inputs in conflict") if conflicts != "refuse" else ()),
        *_some(copies, "copies"),
        *_some(_alike(seen), "pairs of images in different parts look alike"),
        *joined_labels(reading, reading.answers or tuple(classes)),
        *_names(reading.answers or tuple(classes)),
        *_odd(seen),
        *_skewed(classes, reading),
    ]
    return Inspection(
        reading.name,
        dict(parts),
        classes,
        tuple(one_line(as_members(problem)) for problem in problems),
        tuple(one_line(as_members(remark)) for remark in remarks),
        dict(seen.modes),
        tuple(f"{width}×{height}" for width, height in (min(seen.sizes), max(seen.sizes))) if seen.sizes else (),
        tuple(seen.preview),
        sha256_bytes("\n".join(sorted(seen.exact)).encode()),
        templates_for(reading, [found.example for same in seen.exact.values() for _, found in same if found.example]),
    )


def _look(seen: _Seen, part: str, found: Found, example: Example, several: bool) -> None:
    if example.image is not None:
        picture = open_image(example)
        seen.modes[_mode(example)] += 1
        seen.sizes.append(picture.size)
        seen.pictures.append((difference_hash(picture), part, found))
    seen.exact[content_key(example)].append((part, found))
    all_count = several or len(set(example.right)) < _FEW or not example.text
    for answer in example.right if all_count else (example.target,):
        seen.counts[answer][part] += 1
    if len(seen.preview) < _PREVIEW and all(shown["target"] != example.target for shown in seen.preview):
        image = (
            str(example.image) if isinstance(example.image, Path) else example.image and f"{len(example.image):,} bytes"
        )
        image = as_members(image) if isinstance(image, str) else image
        seen.preview.append(
            {"where": as_members(found.where), "text": example.text, "image": image, "target": example.target}
        )


def _mode(example: Example) -> str:
    with Image.open(io.BytesIO(image_bytes(example)), formats=FORMATS) as image:
        return image.mode


def difference_hash(image: Image.Image) -> int:
    """Return 64 bits that tell whether grey rises from each point of an 8×9 grid to its right neighbour."""
    grey = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BILINEAR), np.int16)
    return int.from_bytes(np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes())


def _copies(seen: _Seen, reading: Reading, conflicts: Conflicts) -> tuple[list[str], list[str]]:
    """Return remarks on copies within a part, and on copies in two parts or of two labels, which are in conflict."""
    copies, clashes = [], []
    strict = reading.balanced or reading.several
    for same in seen.exact.values():
        first_part, first = same[0]
        outcome = {"refuse": "", "drop": "; left out", "keep": f"; {settled([one for _, one in same])[2]}"}[conflicts]
        for part, found in same[1:]:
            if part != first_part:
                clashes.append(f"{first.where} ({first_part}) and {found.where} ({part}) hold the same input{outcome}")
            elif strict and first.example and found.example and set(first.example.right) != set(found.example.right):
                labels = " and ".join(repr(", ".join(one.example.right)) for one in (first, found) if one.example)
                clashes.append(f"{first.where} and {found.where} hold the same input, labelled {labels}{outcome}")
            else:
                copies.append(f"{found.where} is a copy of {first.where}; only one is used")
    return copies, clashes


def _alike(seen: _Seen) -> list[str]:
    """Return remarks on pictures of different parts that look the same, though their bytes differ."""
    remarks = []
    keys = {id(found): key for key, same in seen.exact.items() for _, found in same}
    for (first, part, one), (second, other_part, other) in _near_pairs(seen.pictures):
        if part != other_part and keys[id(one)] != keys[id(other)]:
            distance = (first ^ second).bit_count()
            remarks.append(
                f"{one.where} ({part}) and {other.where} ({other_part}) look alike ({distance} of 64 bits differ)"
            )
    return remarks


def _some(remarks: list[str], what: str) -> list[str]:
    """Return the first few remarks of a kind, and how many more there are."""
    more = len(remarks) - _TOLD
    return remarks if more <= 0 else [*remarks[:_TOLD], f"{more:,} more {what}"]


def _near_pairs(
    pictures: list[tuple[int, str, Found]],
) -> Iterator[tuple[tuple[int, str, Found], tuple[int, str, Found]]]:
    """Yield pairs within `_NEAR` bits: of four 16-bit quarters, at least one must then be equal."""
    told: set[tuple[int, int]] = set()
    for shift in (0, 16, 32, 48):
        buckets: dict[int, list[int]] = defaultdict(list)
        for i, (bits, _, _) in enumerate(pictures):
            if 4 <= bits.bit_count() <= 60:  # flat pictures have few edges, and all look alike by this measure
                buckets[bits >> shift & 0xFFFF].append(i)
        for some in buckets.values():
            for at, i in enumerate(some):
                for j in some[at + 1 :]:
                    if (i, j) not in told and (pictures[i][0] ^ pictures[j][0]).bit_count() <= _NEAR:
                        told.add((i, j))
                        yield pictures[i], pictures[j]


def _few(classes: Mapping[str, Mapping[str, int]], reading: Reading) -> list[str]:
    problems = []
    if len(classes) < 2 and reading.balanced:
        problems.append(f"{reading.path}: found {len(classes)} class(es), expected two or more to choose from")
    for target in reading.answers or ():
        if target not in classes:
            problems.append(f"class {target!r} has no examples at all")
    if reading.balanced:
        for target, counts in classes.items():
            if "all" in counts and counts["all"] < _FEW:
                problems.append(f"class {target!r} has {counts['all']} example(s), expected at least {_FEW}")
    return problems


def _skewed(classes: Mapping[str, Mapping[str, int]], reading: Reading) -> list[str]:
    if not reading.balanced or len(classes) < 2:
        return []
    remarks = []
    totals = {target: sum(counts.values()) for target, counts in classes.items()}
    rare, common = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    if totals[common] > 10 * totals[rare]:
        remarks.append(f"class {common!r} is {totals[common] / totals[rare]:.0f} times as frequent as {rare!r}")
    parts = {part for counts in classes.values() for part in counts}
    for part in sorted(parts - {"all"}):
        missing = [target for target, counts in classes.items() if part not in counts]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            remarks.append(f"class {missing[0]!r}{more} has no {part} examples")
    return remarks


_ODD_NAMES: Mapping[str, str] = {
    r"(?i)nan|none|null|n/?a|\?|-": "reads as if the label were missing",
    r"\d+([.,]\d+)?": "is a number",
    r"n\d{8}": "is a WordNet number",
    r".": "is one letter",
    r".*[_/\\|].*": "holds a separator",
    r"[a-z]+([A-Z][a-z]+)+|([A-Z][a-z]+){2,}": "runs words together",
    r".*\.(jpg|png|csv|txt)": "ends like a file",
    r"(class|label|category)[ _-]?\d+": "says nothing",
}


def _names(answers: tuple[str, ...]) -> list[str]:
    """Return a remark for each way in which class names cannot be read in a prompt."""
    odd: dict[str, list[str]] = defaultdict(list)
    for name in answers:
        for pattern, reason in _ODD_NAMES.items():
            if re.fullmatch(pattern, name):
                odd[reason].append(name)
                break
    return [
        f"class name {names[0]!r} {reason}{f' (and {len(names) - 1:,} more)' if len(names) > 1 else ''}; "
        "name it in words with --classes FILE, or `classes` in a YAML task"
        for reason, names in odd.items()
    ]


def _odd(seen: _Seen) -> list[str]:
    return [
        f"{number} image(s) have mode {mode}; they are read as RGB, "
        + ("scaled to 0 to 255 by depth or range" if is_deep(mode) else "transparency on white")
        for mode, number in sorted(seen.modes.items())
        if mode not in _USUAL_MODES
    ]
