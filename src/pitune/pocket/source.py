"""Named tasks: how one is read out of its archives, divided into parts, and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from pitune.archives import fetch
from pitune.pocket.parts import Item, Limits, divide
from pitune.pocket.pinned import ARCHIVES
from pitune.pocket.prepared import prepared
from pitune.tasks.hashing import data_hash
from pitune.tasks.task import SPLITS, Example, Split, Task

_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("split", pa.string()),
        ("text", pa.string()),
        ("image", pa.binary()),
        ("target", pa.string()),
        ("candidates", pa.list_(pa.string())),
        ("references", pa.list_(pa.string())),
    ]
)


@dataclass(frozen=True)
class Source:
    """A named task and where it comes from; `version` rises with every change of what `read` returns."""

    name: str
    about: str
    archives: tuple[str, ...]
    licence: str
    answers: tuple[str, ...] | None
    read: Callable[[], Iterable[Item]]
    template: str = "{}"
    answer_template: str = "{}"
    metric: str = "accuracy"
    balanced: bool = True
    limits: Limits = field(default_factory=Limits)
    version: int = 1

    def provenance(self) -> str:
        """Return the packages the examples come from."""
        pinned = [ARCHIVES[name] for name in self.archives]
        return ", ".join(f"{archive.client} {archive.package} {archive.version}" for archive in pinned)


def load(source: Source) -> Task:
    """Return the task; the first time reads the archives, later times one parquet file.

    Raises `InputError` where `fetch` and `read_members` do, and if the cached file is damaged.
    """
    archives = [ARCHIVES[name] for name in source.archives]
    table = prepared(source.name, archives, source.version, lambda: _build(source))
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for row in table.to_pylist():
        candidates, references = row.pop("candidates"), tuple(row.pop("references", None) or ())
        found = splits[row.pop("split")]
        found.append(Example(candidates=candidates and tuple(candidates), references=references, **row))
    return Task(
        name=source.name,
        splits={split: tuple(examples) for split, examples in splits.items()},
        answers=source.answers,
        template=source.template,
        answer_template=source.answer_template,
        metric=source.metric,
        balanced=source.balanced,
        licence=source.licence,
        provenance=source.provenance(),
        data_hash=data_hash(splits),
    )


def _build(source: Source) -> pa.Table:
    for name in source.archives:
        fetch(ARCHIVES[name])
    parts = divide(source.read(), source.limits)
    rows = [
        {
            "id": example.id,
            "split": split,
            "text": example.text,
            "image": example.image,
            "target": example.target,
            "candidates": example.candidates,
            "references": example.references or None,
        }
        for split, examples in parts.items()
        for example in examples
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)
