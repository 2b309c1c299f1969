"""Any table, any folder, any JSON or YAML: a task, or one printable line; and every row is accounted for."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pitune.errors import InputError
from pitune.tasks import inspect, load_task, read_task

FEW = settings(max_examples=25, deadline=None)
CELLS = st.text(max_size=6) | st.sampled_from(["a", "b", "0", "-1", "nan", "x;y", "\x1b[0m"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=8,
)


def read_any(name: str, data: bytes | None = None, files: dict[str, bytes] | None = None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if data is not None:
            path.write_bytes(data)
        for one, held in (files or {}).items():
            (path / one).parent.mkdir(parents=True, exist_ok=True)
            (path / one).write_bytes(held)
        for what in (load_task, lambda path: inspect(read_task(path))):
            try:
                what(path)
            except InputError as error:
                assert str(error).isprintable()  # noqa: PT017  a task is as good


@FEW
@given(st.lists(st.lists(CELLS, max_size=4), max_size=8), st.sampled_from([",", ";", "\t"]))
def test_any_table(rows: list[list[str]], mark: str) -> None:
    sink = io.StringIO()
    csv.writer(sink, delimiter=mark).writerows([["text", "label"], *rows])
    read_any("t.csv", sink.getvalue().encode(errors="surrogatepass"))


@FEW
@given(st.binary(max_size=60), st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.json", "t.yaml", "t.zip", "t.tar"]))
def test_any_bytes(data: bytes, name: str) -> None:
    read_any(name, data)


@FEW
@given(st.lists(st.fixed_dictionaries({"text": VALUES, "label": VALUES}) | VALUES, max_size=6))
def test_any_objects(values: list[Any]) -> None:
    read_any("t.jsonl", "\n".join(map(json.dumps, values)).encode())


@FEW
@given(VALUES | st.fixed_dictionaries({"images": VALUES, "annotations": VALUES, "categories": VALUES}))
def test_any_json(value: Any) -> None:
    for name in ("t.json", "split_zhou_t.json", "t.yaml"):
        read_any(name, json.dumps(value).encode())


@FEW
@given(
    st.dictionaries(
        st.lists(
            st.sampled_from(["train", "test", "a", "b", "._x", "x.png", "labels.txt", "t.json"]), min_size=1, max_size=3
        )
        .map("/".join)
        .map(lambda one: f"{one}/0.png"),
        st.sampled_from([b"", b"junk", b"\x89PNG\r\n\x1a\n"]),
        max_size=5,
    )
)
def test_any_folder(files: dict[str, bytes]) -> None:
    read_any("folder", files={**files, "a/1.png": b""})


@FEW
@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["a", "b", "", "-1"]), st.booleans()), max_size=20))
def test_every_row_is_read_or_refused(rows: list[tuple[int, str, bool]]) -> None:
    lines = [f"text {number},{label}{',more' if more else ''}" for number, label, more in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
        found = list(read_task(path).items)
    assert len(found) == len(rows)
    for one, (_, label, more) in zip(found, rows, strict=True):
        assert (one.example is not None) == (label in ("a", "b") and not more)
        assert one.example is not None or one.problem
