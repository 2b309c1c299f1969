"""Any table, folder, archive, index, JSON, YAML or saved set: a task, or one printable line; no row is lost."""

from __future__ import annotations

import csv
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pitune.errors import InputError
from pitune.tasks import OwnData, inspect, load_task, read_task

FEW = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
CELLS = st.text(max_size=6) | st.sampled_from(["a", "b", "0", "1", "-1", "nan", "a;b", ";", "a;a", "\x1b[0m"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=8,
)
OWN = st.sampled_from(
    [OwnData(), OwnData(label_separator=";"), OwnData(classes=["a", "b"]), OwnData(unlabelled=["-1"], cap=2)]
)
NAMES = st.sampled_from(["0.png", "1.png", "2.png", "no.png", "../0.png", "/etc/hostname", "a\0", "x" * 300, "", "."])


def png(number: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, 9, 9)).save(sink, "PNG")
    return sink.getvalue()


PICTURES = {f"{i}.png": png(i) for i in range(3)}


def read_any(name: str, files: Mapping[str, bytes], rows: int | None = None, **own: Any) -> None:
    """Read what the files make, in every way: as a task or one printable line, and as many entries as rows."""
    with tempfile.TemporaryDirectory() as folder:
        for one, held in files.items():
            (Path(folder) / one).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / one).write_bytes(held)
        path = Path(folder) / name
        attempt(lambda: load_task(path, **own))
        attempt(lambda: load_task(path, conflicts="keep", limit=3, **own))
        attempt(lambda: inspect(read_task(path, **own)))
        found = attempt(lambda: list(read_task(path, **own).items))
        if found is not None and rows is not None:
            assert len(found) == rows
            assert all(one.example is None or not one.problem for one in found)


def attempt(do: Callable[[], Any]) -> Any:
    """Return what came of it, or None where it was refused in one printable line."""
    try:
        return do()
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017  a task is as good
        return None


def joined(rows: Iterable[object]) -> bytes:
    return "\n".join(map(str, rows)).encode(errors="surrogatepass")


@FEW
@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), max_size=8), st.sampled_from([",", ";", "\t"]), OWN)
def test_any_table(rows: list[list[str]], mark: str, own: OwnData) -> None:
    sink = io.StringIO()
    csv.writer(sink, delimiter=mark).writerows([["text", "label"], *rows])
    read_any("t.csv", {"t.csv": sink.getvalue().encode(errors="surrogatepass")}, len(rows), **own)


@FEW
@given(st.lists(st.lists(CELLS, min_size=4, max_size=4), max_size=8))
def test_any_columns_of_0_and_1(rows: list[list[str]]) -> None:
    sink = io.StringIO()
    csv.writer(sink, delimiter="\t").writerows([["text", "a", "b", "c"], *rows])
    read_any("t.tsv", {"t.tsv": sink.getvalue().encode(errors="surrogatepass")}, len(rows), columns={"label": "a,b,c"})


@FEW
@given(st.lists(st.tuples(CELLS, st.lists(CELLS, max_size=3), CELLS), min_size=1, max_size=8), st.booleans(), OWN)
def test_any_parquet(rows: list[tuple[str, list[str], str]], several: bool, own: OwnData) -> None:
    table = {"text": [row[0] for row in rows], "label": [row[1] if several else row[2] for row in rows]}
    sink = io.BytesIO()
    try:
        pq.write_table(pa.table(table), sink)
    except UnicodeEncodeError:
        return
    read_any("t.parquet", {"t.parquet": sink.getvalue()}, len(rows), **own)


@FEW
@given(st.binary(max_size=60), st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.json", "t.yaml", "t.zip", "t.tar",
                                               "t.parquet", "split_zhou_t.json", "metadata.csv"]))  # fmt: skip
def test_any_bytes(data: bytes, name: str) -> None:
    read_any(name, {name: data})
    read_any("t", {f"t/{name}": data})


@FEW
@given(st.lists(st.fixed_dictionaries({"text": VALUES, "label": VALUES}) | VALUES, max_size=6), OWN)
def test_any_objects(values: list[Any], own: OwnData) -> None:
    objects = sum(isinstance(one, dict) for one in values)
    rows = len(values) if objects == len(values) else None  # what is no object ends the file
    read_any("t.jsonl", {"t.jsonl": joined(map(json.dumps, values))}, rows, **own)


@FEW
@given(VALUES | st.fixed_dictionaries({"images": VALUES, "annotations": VALUES, "categories": VALUES}))
def test_any_json(value: Any) -> None:
    for name in ("t.json", "split_zhou_t.json", "t.yaml"):
        read_any(name, {name: json.dumps(value).encode()})


IDS = st.integers(0, 3) | st.sampled_from(["0", "x"])


@FEW
@given(
    st.lists(st.fixed_dictionaries({"id": IDS, "file_name": NAMES}), max_size=5),
    st.lists(
        st.fixed_dictionaries({"image_id": IDS}, optional={"category_id": IDS | st.none(), "caption": CELLS}),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.fixed_dictionaries({"id": IDS, "name": CELLS}), max_size=4),
)
def test_any_coco(images: list[Any], annotations: list[Any], categories: list[Any]) -> None:
    held = {"images": images, "annotations": annotations, "categories": categories}
    files = {"t.json": json.dumps(held).encode(), **PICTURES}
    read_any("t.json", files)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        found = attempt(lambda: list(read_task(Path(folder) / "t.json").items))
    if found is not None:
        assert sum(", image " in one.where for one in found) == len(images)


@FEW
@given(
    st.dictionaries(
        st.sampled_from(["train", "val", "test", "more"]),
        st.lists(st.tuples(NAMES, st.integers(0, 2), CELLS), max_size=5),
        max_size=4,
    )
)
def test_any_coop(parts: dict[str, list[tuple[str, int, str]]]) -> None:
    data = json.dumps(parts).encode()
    rows = None if "more" in parts else sum(map(len, parts.values()))
    read_any("t", {"t/split_zhou_T.json": data, **{f"t/{name}": one for name, one in PICTURES.items()}}, rows)


@FEW
@given(
    st.lists(st.tuples(NAMES, st.sampled_from(["0", "1", "0,1", "2", "", "x", "-1"])), max_size=6),
    st.lists(CELLS, max_size=3),
)
def test_any_elevater(lines: list[tuple[str, str]], names: list[str]) -> None:
    held = {"t/train.txt": joined(f"{name} {label}" for name, label in lines), "t/labels.txt": joined(names)}
    try:
        number = sum(bool(line.strip()) for line in held["t/train.txt"].decode().splitlines())
    except UnicodeDecodeError:
        return
    read_any("t", {**held, **{f"t/{name}": one for name, one in PICTURES.items()}}, number)


PATHS = st.lists(
    st.sampled_from(["train", "test", "test1", "a", "b", "._x", "x.png", "labels.txt", "t.json"]),
    min_size=1,
    max_size=3,
).map(lambda parts: "/".join((*parts, "0.png")))
FILES = st.dictionaries(PATHS, st.sampled_from([b"", b"junk", *PICTURES.values()]), max_size=6)


@FEW
@given(FILES)
def test_any_folder(files: dict[str, bytes]) -> None:
    read_any("t", {f"t/{name}": data for name, data in {**files, "a/1.png": b""}.items()})


@FEW
@given(FILES | st.dictionaries(st.text(max_size=5) | PATHS, st.binary(max_size=9), max_size=3))
def test_any_archive(files: dict[str, bytes]) -> None:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        for name, data in files.items():
            try:
                archive.writestr(name, data)
            except (UnicodeEncodeError, ValueError, IndexError):
                return
    with tarfile.open(fileobj=tarred, mode="w") as shard:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            shard.addfile(info, io.BytesIO(data))
    read_any("t.zip", {"t.zip": zipped.getvalue()})
    read_any("t.tar", {"t.tar": tarred.getvalue()})


@FEW
@given(st.dictionaries(st.integers(0, 5), st.sampled_from([b"a", b"b", b"", b"\xff", b"-1"]), max_size=6))
def test_any_shard(samples: dict[int, bytes]) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as shard:
        for number, label in samples.items():
            for kind, data in (("png", png(number)), ("cls", label)):
                info = tarfile.TarInfo(f"{number}.{kind}")
                info.size = len(data)
                shard.addfile(info, io.BytesIO(data))
    read_any("t.tar", {"t.tar": sink.getvalue()}, len(samples))


@FEW
@given(st.lists(st.tuples(NAMES.filter(str.isprintable), CELLS), max_size=6))
def test_any_image_folder_with_metadata(rows: list[tuple[str, str]]) -> None:
    sink = io.StringIO()
    csv.writer(sink).writerows([["file_name", "label"], *rows])
    held = sink.getvalue().encode(errors="surrogatepass")
    read_any("t", {"t/metadata.csv": held, **{f"t/{name}": one for name, one in PICTURES.items()}}, len(rows))


@settings(FEW, max_examples=6)
@given(st.lists(st.tuples(st.text(max_size=4), st.integers(-1, 1)), min_size=1, max_size=6), st.booleans())
def test_any_saved_set(rows: list[tuple[str, int]], parts: bool) -> None:
    kind = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    held = {"text": [row[0] for row in rows], "label": [row[1] for row in rows]}
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = datasets.Dataset.from_dict(held, features=kind)
        except UnicodeEncodeError:
            return
        saved = datasets.DatasetDict({"train": made, "test": made}) if parts else made
        saved.save_to_disk(Path(folder) / "d")
        attempt(lambda: load_task(Path(folder) / "d"))
        attempt(lambda: inspect(read_task(Path(folder) / "d")))
        assert len(list(read_task(Path(folder) / "d").items)) == len(rows) * (1 + parts)


FIELDS = ("name", "kind", "source", "columns", "classes", "unlabelled", "label_separator", "cap", "weights", "metric",
          "template", "expected_classes", "expected_examples")  # fmt: skip


@FEW
@given(st.dictionaries(st.sampled_from(FIELDS), VALUES | st.sampled_from(["t.csv", "n.txt", "balanced"]), max_size=4))
def test_any_declaration(fields: dict[str, Any]) -> None:
    rows = joined(["text,label", *(f"text {i},{i % 2}" for i in range(9))])
    held = json.dumps({"source": "t.csv", **fields}).encode()
    read_any("t.yaml", {"t.yaml": held, "t.csv": rows, "n.txt": b"a\nb"})


@FEW
@given(st.binary(max_size=20) | st.lists(CELLS, max_size=4).map(joined), st.sampled_from(["n.txt", "n.json", "n.yaml"]))
def test_any_names(data: bytes, name: str) -> None:
    rows = joined(["text,label", *(f"text {i},{i % 2}" for i in range(9))])
    with tempfile.TemporaryDirectory() as folder:
        names, path = Path(folder) / name, Path(folder) / "t.csv"
        names.write_bytes(data)
        path.write_bytes(rows)
        attempt(lambda: load_task(path, classes=names))


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
