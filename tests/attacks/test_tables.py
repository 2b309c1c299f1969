"""Tables of strangers, and what others' programs make of those that are exported."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.attacks.answers import answered

from pitune.commands.predictions import write_predictions

HEAD = "text,label\n"
ROWS = "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(12))
TABLES = {
    "10 MB cell": HEAD + ROWS + "x" * (10 << 20) + ",a\n",
    "20 MB cell": HEAD + ROWS + "x" * (20 << 20) + ",a\n",
    "10 MB label": HEAD + ROWS + "x," + "y" * (10 << 20) + "\n",
    "open quote": HEAD + ROWS + '"' + "x,a\n" * 1000,
    "null bytes": HEAD + ROWS + "a\0b,a\n",
    "many fields": HEAD + ROWS + "x," * 5000 + "a\n",
    "many columns": ",".join(f"c{i}" for i in range(20_000)) + "\n",
    "one column": "text\n" + "x\n" * 9,
    "no rows": HEAD,
    "nothing": "",
    "twice": "text,text,label\n",
    "escapes in a column": "\x1b[31mtext,\x1b[2Jlabel\n" + ROWS,
    "escapes in a label": HEAD + ROWS + "x,\x1b]0;owned\x07\n" * 2,
    "carriage returns": (HEAD + ROWS).replace("\n", "\r"),
    "turned text": HEAD + ROWS + "x,\u202egnp.exe\n",
    "formulas": HEAD + "".join(f"=cmd|' /C calc'!A{i},{'=+'[i % 2]}1+1\n" for i in range(12)),
    "picture outside": "image,label\n" + "../../../../etc/hostname,a\n/etc/hostname,b\n" * 6,
    "picture in proc": "image,label\n" + "/proc/self/environ,a\n/proc/self/mem,b\n" * 6,
    "picture of a name too long": "image,label\n" + f"{'a' * 5000},a\n{'b/' * 3000},b\n" * 6,
    "picture with a null": "image,label\n" + "a\0b.png,a\nb,b\n" * 6,
    "numbers": HEAD + "".join(f"x{i},{number}\n" for i, number in enumerate(["1e999", "nan", "-inf", "9" * 5000] * 3)),
    "parts": "text,label,split\n" + "x,a,../train\n" * 3,
}


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@pytest.mark.parametrize("name", TABLES)
def test_any_table_is_read_or_one_line(tmp_path: Path, name: str, suffix: str) -> None:
    text = TABLES[name].replace(",", "\t") if suffix == ".tsv" else TABLES[name]
    (tmp_path / f"data{suffix}").write_bytes(text.encode())
    answered(tmp_path / f"data{suffix}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "latin-1", "utf-7"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "data.csv").write_bytes((HEAD + ROWS + "é,a\n").encode(encoding))
    assert answered(tmp_path / "data.csv") or encoding == "utf-7"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    for suffix in ("csv", "tsv", "jsonl", "parquet", "json", "yaml", "zip", "tar"):
        os.mkfifo(tmp_path / f"data.{suffix}")
        assert "pipe" in answered(tmp_path / f"data.{suffix}")


@pytest.mark.parametrize(
    "cell",
    [
        pa.array([{"bytes": b"%!PS", "path": "/etc/passwd"}] * 4),
        pa.array([[["deep"]]] * 4),
        pa.array([b"\xff\xfe"] * 4),
        pa.array([10**30] * 4, pa.decimal128(38)),
        pa.array([float("nan")] * 4),
        pa.array([1 << 62] * 4, pa.timestamp("s")),
        pa.array([None] * 4, pa.null()),
        pa.array([{}] * 4, pa.struct([])),
    ],
    ids=lambda value: str(value.type)[:20],
)
@pytest.mark.parametrize("role", ["text", "image", "label"])
def test_any_type_of_a_parquet_is_read_or_one_line(tmp_path: Path, cell: pa.Array, role: str) -> None:
    other = "label" if role != "label" else "text"
    try:
        pq.write_table(pa.table({role: cell, other: ["a", "b", "a", "b"]}), tmp_path / "data.parquet")
    except pa.ArrowException:
        pytest.skip("parquet cannot hold it")
    answered(tmp_path / "data.parquet")


@pytest.mark.parametrize("at", [0, 4, 9, -9, -5, -1])
def test_a_harmed_parquet_is_one_line_or_read(tmp_path: Path, at: int) -> None:
    pq.write_table(pa.table({"text": ["x"] * 4, "label": ["a", "b"] * 2}), tmp_path / "data.parquet")
    data = bytearray((tmp_path / "data.parquet").read_bytes())
    data[at] ^= 255
    (tmp_path / "data.parquet").write_bytes(data)
    answered(tmp_path / "data.parquet")


@pytest.mark.parametrize(
    ("answer", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-1", "-1"),
        ("+3.5e-2", "+3.5e-2"),
        ("a=b", "a=b"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_no_cell_of_an_exported_table_is_a_formula(tmp_path: Path, answer: str, cell: str, suffix: str) -> None:
    row = {
        "id": answer,
        "input": answer,
        "answer": answer,
        "probability": 0.5,
        "probabilities": {answer: 0.5, "=b": 0.5},
    }
    write_predictions(tmp_path / f"out{suffix}", [row], 5)
    text = (tmp_path / f"out{suffix}").read_bytes().decode()
    (found,) = csv.DictReader(io.StringIO(text), delimiter="," if suffix == ".csv" else "\t")
    assert (found["id"], found["input"], found["answer"], found["answer_2"]) == (cell, cell, cell, "'=b")
