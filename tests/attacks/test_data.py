"""Archives, indexes and saved sets of strangers: one line that names archive and member, and soon."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from tests.attacks.answers import refused
from tests.conftest import tarred

from pitune.tasks import inspect, load_task, read_task

Png = Callable[[int], bytes]


def zipped(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def two_classes(png: Png) -> dict[str, bytes]:
    return {f"pets/{name}/{i}.png": png(50 * n + i) for n, name in enumerate(("cat", "dog")) for i in range(4)}


def test_an_error_in_a_zip_names_the_zip_and_the_member(tmp_path: Path, png: Png, pitune_home: Path) -> None:
    files = {**two_classes(png), "pets/cat/bad.png": b"junk"}
    path = zipped(tmp_path / "pets.zip", files)
    assert refused(path).startswith(f"{path}@pets/cat/bad.png: not a readable image")
    outer = zipped(tmp_path / "outer.zip", {"inner.zip": path.read_bytes()})
    assert refused(outer).startswith(f"{outer}@inner.zip@pets/cat/bad.png: not a readable image")
    rows = "\n".join(["text,label", *(f"text {i},{'ab'[i % 2]}" for i in range(9)), "more,"])
    path = zipped(tmp_path / "t.zip", {"t.csv": rows.encode()})
    assert refused(path).startswith(f"{path}@t.csv, row 10: the label is empty")
    heard: list[str] = []
    review = rows.replace("text,", "review,", 1).removesuffix("\nmore,")
    load_task(zipped(tmp_path / "r.zip", {"r.csv": review.encode()}), tell=heard.append)
    shown = inspect(read_task(tmp_path / "r.zip")).preview[0]["where"]
    assert heard[0].startswith(f"{tmp_path / 'r.zip'}@r.csv: reading text from column 'review'")
    assert shown == f"{tmp_path / 'r.zip'}@r.csv, row 1"


def test_a_member_that_cannot_be_unpacked_is_named(tmp_path: Path, png: Png) -> None:
    for make, name in ((zipped, "z.zip"), (tarred, "t.tar")):
        assert "(File exists at 'a/b.png')" in refused(make(tmp_path / name, {"a": b"x", "a/b.png": png(1)}))
        assert "(File name too long at 'aaaa" in refused(make(tmp_path / name, {"a" * 300 + ".png": png(1)}))
    path = zipped(tmp_path / "crc.zip", {"x/1.png": png(1)})
    data = bytearray(path.read_bytes())
    data[40] ^= 255
    path.write_bytes(data)
    assert "x/1.png" in refused(path)


def test_zips_in_zips_have_an_end(tmp_path: Path, png: Png) -> None:
    path = zipped(tmp_path / "0.zip", {"a/1.png": png(1)})
    for i in range(1, 8):
        path = zipped(tmp_path / f"{i}.zip", {"in.zip": path.read_bytes()})
    assert "archives deep; unpack it yourself" in refused(path)


def test_a_zip_is_drawn_as_its_folder(tmp_path: Path, png: Png) -> None:
    files = two_classes(png)
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    assert load_task(zipped(tmp_path / "z.zip", files)).data_hash == load_task(tmp_path / "pets").data_hash


def test_what_systems_leave_in_a_tar_is_no_data(tmp_path: Path, png: Png) -> None:
    files = {
        f"{i}.{kind}": data for i in range(8) for kind, data in (("png", png(i)), ("cls", b"ab"[i % 2 : i % 2 + 1]))
    }
    rest = {"__MACOSX/._1.png": b"junk", "._1.cls": b"junk", ".DS_Store": b"junk"}
    assert load_task(tarred(tmp_path / "t.tar", {**files, **rest})).answers == ("a", "b")


@pytest.mark.parametrize("name", ["labels.txt", "train.txt", "z.zip"])
def test_a_pipe_among_index_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.txt").write_text("a\nb")
    (tmp_path / "train.txt").write_text("z.zip@x.png 0")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    refused(tmp_path)


@pytest.mark.parametrize("label", ["9" * 30, "9" * 5000, "-1", "1.0", "²"])
def test_a_label_number_without_a_class_is_refused(tmp_path: Path, label: str) -> None:
    (tmp_path / "labels.txt").write_text("a\nb")
    (tmp_path / "train.txt").write_text(f"x.png {label}")
    assert "train.txt, row 1: the label is" in refused(tmp_path)


@pytest.mark.parametrize(
    ("file", "held"),
    [
        ("dataset_dict.json", "[]"),
        ("dataset_dict.json", "[" * 100_000),
        ("dataset_dict.json", '{"splits": ["../../etc"]}'),
        ("dataset_dict.json", '{"splits": 3}'),
        ("state.json", "[" * 100_000),
        ("state.json", '{"_data_files": [{"filename": "../other/data.arrow"}]}'),
        ("state.json", '{"_data_files": 3}'),
        ("state.json", "{}"),
    ],
)
def test_a_saved_set_that_is_none(tmp_path: Path, file: str, held: str) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / file).write_text(held)
    refused(tmp_path)


def test_parts_of_a_saved_set_that_are_left_out_are_told(tmp_path: Path) -> None:
    import datasets

    whole = datasets.Dataset.from_dict(
        {"text": [f"t{i}" for i in range(12)], "label": ["ab"[i % 2] for i in range(12)]}
    )
    datasets.DatasetDict({"train": whole, "unsupervised": whole.select(range(5))}).save_to_disk(tmp_path / "d")
    heard: list[str] = []
    load_task(tmp_path / "d", tell=heard.append)
    assert any("leaving out the parts 'unsupervised' (5 rows)" in one for one in heard)


def test_many_columns_are_read_at_once_and_not_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text(",".join(f"c{i}" for i in range(50_000)))
    assert "and 49,970 more; expected label" in refused(path)


def test_no_name_is_no_task() -> None:
    assert "has no name" in refused("")


def test_a_broken_member_of_a_shard_is_named(tmp_path: Path, png: Png) -> None:
    files = {"1.png": png(1), "1.json": json.dumps({"label": "a"}).encode(), "2.png": png(2), "2.json": b"["}
    assert "t.tar, sample '2': 2.json is not JSON" in refused(tarred(tmp_path / "t.tar", files))
