"""JSON of strangers: deep, with a field twice, with numbers that nothing holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.answers import answered, refused

from pitune.errors import InputError
from pitune.studies import CompareResults, DemoResults, PredictorsResults, TransferResults
from pitune.studies.rows import Rows

ODD = {
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "closed deep lists": "[" * 100_000 + "]" * 100_000,
    "twice": '{"text": "a", "text": "b", "label": "a"}',
    "twice inside": '{"images": [{"id": 1, "id": 2}]}',
    "long number": f'{{"text": "a", "label": {"9" * 5_000}}}',
    "large number": '{"text": "a", "label": 1e999}',
    "not a number": '{"text": "a", "label": NaN}',
    "infinity": '{"text": "a", "label": -Infinity}',
    "null byte": '{"text": "a\0", "label": "b"}',
    "written null byte": '{"text": "a\\u0000", "label": "b\\u0000"}',
    "half a pair": '{"text": "\\ud800", "label": "\\udfff"}',
    "escapes": '{"text": "a", "\\u001b[31m": "b", "label": "\\u001b[2J"}',
    "cut": '{"text": "a", "lab',
    "nothing": "",
    "null": "null",
    "text": '"text"',
    "number": "3",
    "empty": "{}",
    "prototype": '{"__proto__": {"a": 1}, "constructor": 1, "__class__": "os", "label": "a"}',
    "no JSON": "{'text': __import__('os').system('touch made')}",
}


@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
@pytest.mark.parametrize("name", ODD)
def test_odd_json_is_read_or_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"data{suffix}").write_text(ODD[name])
    said = answered(tmp_path / f"data{suffix}")
    assert str(tmp_path / f"data{suffix}") in said
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["deep lists", "twice", "long number", "cut", "no JSON", "half a pair"])
def test_odd_json_as_names_of_classes(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(12)))
    (tmp_path / "names.json").write_text(ODD[name])
    (tmp_path / "task.yaml").write_text("source: data.csv\nclasses: names.json")
    refused(tmp_path / "task.yaml")


COCO = {
    "images": [{"id": i, "file_name": f"{i}.png"} for i in (1, 2)],
    "annotations": [{"image_id": i, "category_id": i} for i in (1, 2)],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
}
VALUES: list[Any] = [
    None,
    True,
    -1,
    10**400,
    1.5,
    "",
    "../../etc/hostname",
    "/etc/hostname",
    "a\0b",
    "\x1b[2J",
    "a" * 5000,
    [],
    {},
    [[]],
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:16])
@pytest.mark.parametrize(
    "place",
    [
        *("images", "annotations", "images.0", "images.0.file_name", "images.0.id", "images.0.zip_file"),
        *("annotations.0.image_id", "annotations.0.category_id", "annotations.0.caption"),
        *("categories.0.name", "categories.0.id"),
    ],
)
def test_any_value_in_a_coco_file_is_read_or_one_line(tmp_path: Path, png: Any, place: str, value: Any) -> None:
    found = json.loads(json.dumps(COCO))
    inside = found
    *way, last = (int(part) if part.isdecimal() else part for part in place.split("."))
    for part in way:
        inside = inside[part]
    inside[last] = value
    for i in (1, 2):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    (tmp_path / "data.json").write_text(json.dumps(found))
    answered(tmp_path / "data.json")


@pytest.mark.parametrize("kind", [CompareResults, DemoResults, PredictorsResults, TransferResults])
@pytest.mark.parametrize("name", ODD)
def test_results_of_strangers_are_refused(tmp_path: Path, kind: Any, name: str) -> None:
    (tmp_path / "results.json").write_text(ODD[name])
    with pytest.raises(InputError) as error:
        kind.read(tmp_path / "results.json")
    assert str(error.value).isprintable()


@pytest.mark.parametrize("name", [name for name in ODD if name != "nothing"])
def test_rows_of_strangers_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.jsonl").write_text(ODD[name] + "\n")
    with pytest.raises(InputError, match="line 1 is not a row") as error:
        Rows(tmp_path / "rows.jsonl")
    assert str(error.value).isprintable()
