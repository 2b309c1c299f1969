"""From what a format found to a task with fixed parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks.formats.reading import Found, Options, Reading, templates_for, told_templates
from pitune.tasks.hashing import data_hash
from pitune.tasks.images import image_hash, open_image
from pitune.tasks.metrics import METRICS
from pitune.tasks.task import SPLITS, Example, Split, Task

_FEWEST = 3  # one example for every part
_SEED = "pitune parts 1"
_MOST_ANSWERS = 1000  # more distinct answers than this are not a list to choose from
_Keyed = dict[str, Example]
_Parts = Mapping[Split | None, _Keyed]


def build_task(reading: Reading, options: Options | None = None) -> Task:
    """Return a task; where an example goes depends on its content alone, unless the data says where.

    Exact copies within a part are dropped. Raises `InputError` at the first entry that is no example, an
    unreadable image, one input in two parts or with two classes (unless `options.conflicts` says otherwise), fewer
    than two classes, or a class with fewer than three distinct examples to divide. `options.tell` hears what was
    doubtful and what was left out.
    """
    options = options or Options()
    for remark in reading.remarks:
        options.tell(remark)
    if reading.several and not METRICS.get(reading.metric).several:
        known = ", ".join(one.name for one in METRICS.all() if one.several)
        raise InputError(
            f"{reading.path}: entries have several labels, and {reading.metric} looks at one; expected one of: {known}"
        )
    parts = _limited(_distinct(reading, options), options.limit)
    told = reading.answers or _answers(parts)
    for remark in joined_labels(reading, told):
        options.tell(remark)
    choice = reading.answers or (reading.listed and (reading.balanced or len(told) <= _MOST_ANSWERS))
    answers = told if choice else None
    if answers is not None and len(answers) < 2:
        raise InputError(f"{reading.path}: found {len(answers)} class(es), expected two or more to choose from")
    splits = _divided(reading, parts) if None in parts else _given(parts)
    examples = [example for found in parts.values() for example in found.values()]
    templates = options.templates or templates_for(reading, examples)
    if templates != ("{}",):
        options.tell(f"{reading.path}: {told_templates(templates)}")
    return Task(
        name=reading.name,
        splits={split: tuple(found) for split, found in splits.items()},
        answers=answers,
        template=reading.template if any(example.text is not None for example in examples) else "{}",
        answer_template=templates[0],
        more_templates=templates[1:],
        metric="exact-match" if answers is None and reading.metric == "accuracy" else reading.metric,
        provenance=reading.provenance or str(reading.path),
        balanced=reading.balanced,
        data_hash=data_hash(splits),
    )


def joined_labels(reading: Reading, answers: Sequence[str]) -> tuple[str, ...]:
    """Return a remark if classes look like several labels in one cell: taken apart they are fewer, or others."""
    if not reading.balanced or not reading.listed:
        return ()
    for mark in (";", "|", ",", "/"):
        joined = [one for one in answers if mark in one]
        pieces = {piece.strip() for one in joined for piece in one.split(mark)}
        if joined and (len(pieces.union(answers).difference(joined)) < len(answers) or not pieces.isdisjoint(answers)):
            how = f"--label-separator '{mark}' (`label_separator` in a YAML task)"
            return (f"{reading.path}: {joined[0]!r} is read as one class; if it is several labels, say {how}",)
    return ()


def sound_example(found: Found) -> Example:
    """Return the example; raise `InputError` if there is none or its image cannot be read."""
    if found.example is None:
        raise InputError(found.problem or f"{found.where}: has no label")
    check_text(found)
    if found.example.image is not None:
        try:
            open_image(found.example)
        except InputError as error:
            raise InputError(str(error) if found.where in str(error) else f"{found.where}: {error}") from error
    return found.example


def check_text(found: Found) -> None:
    """Raise `InputError` if an entry holds half of a character (a lone surrogate), which no file can hold as UTF-8."""
    example = found.example
    if example is None:
        return
    held = [example.id, example.text or "", *example.right, *(example.candidates or ())]
    if any("\ud800" <= one <= "\udfff" for text in held if not text.isascii() for one in text):
        raise InputError(f"{found.where}: holds text that is no UTF-8; correct it or remove the entry")


def content_key(example: Example) -> str:
    """Return a hash of what an example shows, whatever its name and target."""
    image = "" if example.image is None else image_hash(example)
    return sha256_bytes(f"{_SEED}\n{image}\n{example.text or ''}".encode())


def _distinct(reading: Reading, options: Options) -> _Parts:
    """Return the examples by part and content, without those in conflict that are not wanted."""
    parts: dict[Split | None, _Keyed] = defaultdict(dict)
    first: dict[str, tuple[Split | None, str]] = {}
    clashes: dict[str, list[Found]] = {}
    seen: dict[str, list[Found]] = defaultdict(list)
    blank: list[str] = []
    strict = reading.balanced or reading.several
    for found in reading.items:
        if found.example is None and not found.problem:
            blank.append(found.where)
            continue
        example = sound_example(found)
        key = content_key(example)
        split, where = first.setdefault(key, (found.split, found.where))
        if options.conflicts != "refuse":
            seen[key].append(found)
            if split != found.split or (strict and _right(seen[key][0]) != set(example.right)):
                clashes[key] = seen[key]
                continue
        if split != found.split:
            raise InputError(
                f"{reading.path}: {where} ({split or 'no part'}) and {found.where} ({found.split or 'no part'}) hold "
                "the same input; remove one, or scores on it will flatter (--conflicts drop or keep does)"
            )
        if not example.id:  # rows have no names; one that follows from the content does not depend on their order
            example = replace(example, id=key[:16])
        same = parts[split].setdefault(key, example)
        if same is not example and Counter(same.right) != Counter(example.right):
            if strict and set(same.right) != set(example.right):
                one, other = (", ".join(map(repr, example.right)) for example in (same, example))
                raise InputError(
                    f"{reading.path}: {where} and {found.where} hold the same input, but one is labelled {one} and the "
                    f"other {other}; correct one, or --conflicts drop or keep"
                )
            parts[split][key] = _merged(same, example)
        elif example.id < same.id:  # of copies the first by name, in whatever order they come
            parts[split][key] = example
    if blank:
        options.tell(f"{reading.path}: {len(blank)} without a label are left out, such as {blank[0]}")
    for key, same_input in clashes.items():
        _settle(parts, key, same_input, options)
    if None in parts and len(parts) > 1:
        raise InputError(f"{reading.path}: some entries name their part and some do not; expected all or none")
    return parts


def _right(found: Found) -> set[str]:
    return set(found.example.right) if found.example else set()


def _settle(parts: _Parts, key: str, clash: Sequence[Found], options: Options) -> None:
    """Leave an input in conflict out of all parts, or keep it once, and tell which it was."""
    for held in parts.values():
        held.pop(key, None)
    wheres = " and ".join(found.where for found in clash)
    split, labels, said = settled(clash)
    if options.conflicts == "drop":
        every = ", ".join(repr(", ".join(one)) for one in _labels_of(clash))
        options.tell(f"{wheres} hold the same input, labelled {every}; left out")
        return
    same = (found.example for found in clash if found.example and tuple(sorted(found.example.right)) == labels)
    kept = min(same, key=lambda one: one.id)
    parts[split][key] = kept if kept.id else replace(kept, id=key[:16])
    options.tell(f"{wheres} hold the same input; {said}")


def settled(clash: Sequence[Found]) -> tuple[Split | None, tuple[str, ...], str]:
    """Return in which part and with which labels one of the same inputs is kept, and both in words.

    That is where it harms scores least, with the commonest labels.
    """
    labels = _labels_of(clash)
    commonest = max(labels, key=labels.count)
    order: tuple[Split | None, ...] = ("test", "validation", "train", None)
    split = next(one for one in order if any(found.split == one for found in clash))
    return split, commonest, f"kept once as {', '.join(commonest)!r} in {split or 'the whole'}"


def _labels_of(clash: Sequence[Found]) -> list[tuple[str, ...]]:
    return sorted(tuple(sorted(found.example.right)) for found in clash if found.example)


def _limited(parts: _Parts, limit: int | None) -> _Parts:
    """Return at most `limit` examples of every part, evenly from its classes and whatever their order."""
    if limit is None:
        return parts
    limited: dict[Split | None, _Keyed] = {}
    for split, found in parts.items():
        places: Counter[str] = Counter()
        ranked = []
        for key in sorted(found):
            ranked.append((places[found[key].target], key))
            places[found[key].target] += 1
        limited[split] = {key: found[key] for _, key in sorted(ranked)[:limit]}
    return limited


def _merged(same: Example, example: Example) -> Example:
    """Return an input with the right answers of two entries; it learns the commonest, whatever their order."""
    right = sorted((Counter(same.right) | Counter(example.right)).elements())
    return replace(
        min(same, example, key=lambda one: one.id), target=max(right, key=right.count), references=tuple(right)
    )


def _answers(parts: _Parts) -> tuple[str, ...]:
    examples = [example for found in parts.values() for example in found.values()]
    return tuple(sorted({answer for example in examples for answer in (*example.right, *(example.candidates or ()))}))


def _divided(reading: Reading, parts: _Parts) -> dict[Split, Sequence[Example]]:
    """Cut every class, or the whole where classes may be rare, to 1/4 test, 3/20 validation and the rest to train."""
    splits: dict[Split, list[Example]] = {"train": [], "validation": [], "test": []}
    for target, found in _by_class(parts[None], reading.balanced).items():
        if len(found) < _FEWEST:
            what = f"class {target!r} has" if reading.balanced else "found"
            raise InputError(
                f"{reading.path}: {what} {len(found)} distinct example(s), expected at least {_FEWEST} "
                "(one each for train, validation and test)"
            )
        test, validation = max(1, len(found) // 4), max(1, len(found) * 3 // 20)
        splits["test"] += found[:test]
        splits["validation"] += found[test : test + validation]
        splits["train"] += found[test + validation :]
    return {**splits}


def _given(parts: _Parts) -> dict[Split, Sequence[Example]]:
    """Keep the parts as they are; where there is training data but no validation part, cut 3/20 of it off."""
    splits: dict[Split, list[Example]] = {split: list(parts.get(split, {}).values()) for split in SPLITS}
    if splits["train"] and not splits["validation"]:
        splits["train"] = []
        for found in _by_class(parts["train"], True).values():
            validation = max(1, len(found) * 3 // 20) if len(found) > 1 else 0
            splits["validation"] += found[:validation]
            splits["train"] += found[validation:]
    return {split: found for split, found in splits.items() if found}


def _by_class(found: _Keyed, balanced: bool) -> dict[str, list[Example]]:
    """Return the examples of every class in the order of their content's hash."""
    classes: dict[str, list[Example]] = defaultdict(list)
    for key in sorted(found):
        classes[found[key].target if balanced else ""].append(found[key])
    return dict(sorted(classes.items()))
