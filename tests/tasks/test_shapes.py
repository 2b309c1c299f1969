"""Every shape that data comes in, in one small copy each, and what is said of a broken one."""

from __future__ import annotations

import json
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import tarred

from pitune.errors import InputError
from pitune.tasks import Task, few_shot, load_task
from pitune.tasks.formats import unpack as _unpack
from pitune.tasks.formats.registry import FORMATS

Png = Callable[[int], bytes]
EACH = 6


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def write_images(folder: Path, png: Png, start: int = 0, count: int = 2 * EACH) -> list[str]:
    return [write(folder / f"{i}.png", png(start + i)).name for i in range(count)]


def sizes(task: Task) -> dict[str, int]:
    return {split: len(found) for split, found in task.splits.items()}


def refuse(path: Path | str, said: str, **columns: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_task(path, columns)
    assert "\n" not in str(caught.value)


def test_a_folder_with_parts(tmp_path: Path, png: Png) -> None:
    for part, start in (("train", 0), ("val", 100), ("test", 200)):
        for offset, name in enumerate(("cat", "dog")):
            write_images(tmp_path / part / name, png, start + 20 * offset, 3)
    task = load_task(tmp_path)
    assert task.answers == ("cat", "dog")
    assert sizes(task) == {"train": 6, "validation": 6, "test": 6}
    assert task.examples("test")[0].id.startswith("test/")


def test_the_same_image_in_two_parts(tmp_path: Path, png: Png) -> None:
    for part, start in (("train", 0), ("test", 100)):
        for offset, name in enumerate(("cat", "dog")):
            write_images(tmp_path / part / name, png, start + 20 * offset, 3)
    write(tmp_path / "test" / "dog" / "leak.png", png(1))
    refuse(tmp_path, r"test/dog/leak.png \(test\) and train/cat/1.png \(train\) hold the same input")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_tables(tmp_path: Path, suffix: str) -> None:
    rows = [{"review": f"text {i}, of some\nlength", "stars": i % 3} for i in range(24)]
    path = tmp_path / f"reviews.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == "jsonl":
        write(path, "\n".join(map(json.dumps, rows)))
    else:
        mark = "\t" if suffix == "tsv" else ","
        lines = [f'"{row["review"]}"{mark}{row["stars"]}' for row in rows]
        write(path, "\n".join([f"review{mark}stars", *lines]))
    heard: list[str] = []
    refuse(path, "found columns review, stars; expected label")
    task = load_task(path, {"label": "stars"}, heard.append)
    assert task.answers == ("0", "1", "2")
    assert sum(sizes(task).values()) == 24
    assert heard == [f"{path}: reading text from column 'review'; say otherwise with --column ROLE=NAME"]
    refuse(path, "has no column 'nothing' for label; found review, stars", label="nothing")
    refuse(path, "no such role; expected one of: text, image", colour="stars")


def test_pairs_parts_and_candidates(tmp_path: Path) -> None:
    rows = ["premise,hypothesis,label,split"]
    rows += [f"it rains {i},it is wet {i},{'yes' if i % 2 else 'no'},{'dev' if i > 15 else 'train'}" for i in range(20)]
    task = load_task(write(tmp_path / "nli.csv", "\n".join(rows)))
    assert sizes(task) == {"train": 16, "validation": 4}
    assert task.examples("train")[0].text.startswith("premise: it rains")
    lines = [
        json.dumps({"question": f"which of {i}?", "choices": [f"a{i}", f"b{i}"], "answer": f"a{i}"}) for i in range(9)
    ]
    task = load_task(write(tmp_path / "quiz.jsonl", "\n".join(lines)))
    assert task.examples("train")[0].candidates is not None
    assert len(few_shot(task, 4, 0).train) == len(task.examples("train"))
    refuse(write(tmp_path / "quiz.jsonl", lines[0].replace('"a0"}', '"c"}')), "row 1: the answer 'c' is not among")


def test_questions_about_images(tmp_path: Path, png: Png) -> None:
    names = write_images(tmp_path / "pictures", png)
    rows: list[dict[str, Any]] = [
        {"image": f"pictures/{name}", "question": "which?", "answer": f"number {i}", "answers": [f"number {i}"] * 10}
        for i, name in enumerate(names)
    ]
    path = write(tmp_path / "vqa.jsonl", "\n".join(map(json.dumps, rows)))
    task = load_task(path)
    assert task.metric == "vqa-accuracy"
    assert not task.balanced
    assert len(task.answers or ()) == len(names)
    assert task.examples("test")[0].references == (task.examples("test")[0].target,) * 10
    rows[3]["image"] = "../away.png"
    refuse(write(path, "\n".join(map(json.dumps, rows))), r"vqa.jsonl, row 4: image '\.\./away\.png' is outside")
    rows[3] |= {"image": rows[2]["image"], "answer": None}
    refuse(write(path, "\n".join(map(json.dumps, rows))), "vqa.jsonl, row 4: the answer is empty")
    refuse(write(path, json.dumps(rows[0]) + "\n[]\n"), "row 2: a JSON list; expected one object a line")
    refuse(write(path, json.dumps(rows[0]) + "\n{\n"), "row 2: not JSON")


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    table = pa.table({"text": [f"t{i}" for i in range(9)], "label": [float(i % 2) for i in range(8)] + [float("nan")]})
    pq.write_table(table, tmp_path / "t.parquet")
    refuse(tmp_path / "t.parquet", "t.parquet, row 9: the label is empty")
    pq.write_table(table.slice(0, 8), tmp_path / "t.parquet")
    assert load_task(tmp_path / "t.parquet").answers == ("0", "1")
    refuse(write(tmp_path / "no.parquet", b"PAR1"), "no.parquet: not a readable parquet file")


@pytest.fixture
def coop(tmp_path: Path, png: Png) -> Path:
    names = write_images(tmp_path / "textures" / "images" / "some", png)
    entries = [[f"some/{name}", i % 2, ("b_two", "a_one")[i % 2]] for i, name in enumerate(names)]
    parts = {"train": entries[:6], "val": entries[6:8], "test": entries[8:]}
    return write(tmp_path / "textures" / "split_zhou_Textures.json", json.dumps(parts))


def test_coop(coop: Path) -> None:
    task = load_task(coop)
    assert task == load_task(coop.parent)
    assert (task.name, task.answers) == ("Textures", ("b two", "a one"))
    assert sizes(task) == {"train": 6, "validation": 2, "test": 4}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not a CoOp split file"),
        ('{"train": [[1, 2]]}', "not a CoOp split file"),
        ('{"train": [["../../x.png", 0, "a"]]}', "train entry 1: image '../../x.png' is outside"),
        ('{"train": [["x.png", 0, "a"]]}', "train entry 1: .*x.png: cannot be read"),
        ('{"more": [["x.png", 0, "a"]]}', "found a part named 'more'"),
    ],
)
def test_coop_broken(coop: Path, text: str, said: str) -> None:
    refuse(write(coop, text), said)


@pytest.fixture
def elevater(tmp_path: Path, png: Png) -> Path:
    folder = tmp_path / "voc"
    with zipfile.ZipFile(write(folder / "train.zip", b""), "w") as archive:
        for i in range(8):
            archive.writestr(f"in/{i}.png", png(i))
    write_images(folder, png, 100, 4)
    write(folder / "labels.txt", "aero_plane\nbird\nboat\n")
    write(folder / "train.txt", "\n".join(f"train.zip@in/{i}.png {i % 3}" for i in range(8)))
    write(folder / "test_images.txt", "\n".join(f"{i}.png {i % 2},2" for i in range(4)))
    return folder


def test_elevater(elevater: Path) -> None:
    task = load_task(elevater)
    assert task.answers == ("aero plane", "bird", "boat")
    assert sizes(task) == {"train": 5, "validation": 3, "test": 4}
    assert task.examples("test")[0].right == ("aero plane", "boat")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("0.png 3", "train.txt, row 1: the label is '3'; expected a number from 0 to 2"),
        ("0.png", "train.txt, row 1: the label is '0.png'"),
        ("../x.png 0", "train.txt, row 1: '../x.png' is outside"),
        ("train.zip@../x.png 0", "train.txt, row 1: '../x.png' is outside"),
        ("none.zip@x.png 0", "train.txt, row 1: .*none.zip: cannot be read"),
    ],
)
def test_elevater_broken(elevater: Path, line: str, said: str) -> None:
    write(elevater / "train.txt", line)
    refuse(elevater, said)


def coco(names: list[str], **more: object) -> dict[str, object]:
    images = [{"id": i, "file_name": name, "width": 8} for i, name in enumerate(names)]
    return {"images": images, "categories": [{"id": 7, "name": "a_cat"}, {"id": 9, "name": "dog"}], **more}


def test_coco_categories(tmp_path: Path, png: Png) -> None:
    names = write_images(tmp_path / "images", png)
    labels = [{"image_id": i, "category_id": (7, 9)[i % 2], "bbox": [0, 0, 1, 1]} for i in range(len(names))]
    path = write(tmp_path / "pets.json", json.dumps(coco(names, annotations=labels)))
    task = load_task(path)
    assert (task.answers, task.metric, task.balanced) == (("a cat", "dog"), "accuracy", True)
    labels.append({"image_id": 0, "category_id": 9})
    write(path, json.dumps(coco(names, annotations=labels)))
    assert load_task(path).metric == "11-point-map"
    labels[2]["category_id"] = 1
    write(path, json.dumps(coco(names, annotations=labels)))
    refuse(path, "annotation 3: no category has the id 1")
    refuse(write(path, "{}"), "not COCO JSON, at images")
    refuse(write(path, "{"), "cannot be read as JSON")
    refuse(write(path, json.dumps(coco(names, annotations=[]))), "not COCO JSON, at annotations")


def test_coco_captions_in_parts(tmp_path: Path, png: Png) -> None:
    names = write_images(tmp_path, png)
    for part, some in (("train_captions", names[:8]), ("val", names[8:])):
        said = [{"image_id": i, "caption": f"it is {i} {word}"} for i in range(len(some)) for word in ("so", "and so")]
        write(tmp_path / f"{part}.json", json.dumps(coco(some, annotations=said)))
    task = load_task(tmp_path)
    assert (task.metric, task.balanced, sizes(task)) == ("cider", False, {"train": 8, "validation": 4})
    assert len(task.examples("train")[0].references) == 2
    assert len(few_shot(task, 3, 0).train) == 3


def test_saved_to_disk(tmp_path: Path, png: Png) -> None:
    features = datasets.Features({"img": datasets.Image(), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"img": [{"bytes": png(i), "path": None} for i in range(12)], "label": [i % 2 for i in range(12)]}
    whole = datasets.Dataset.from_dict(rows, features=features)
    whole.save_to_disk(tmp_path / "one")
    assert load_task(tmp_path / "one").answers == ("no", "yes")
    parts = datasets.DatasetDict({"train": whole.select(range(8)), "test": whole.select(range(8, 12))})
    parts["unsupervised"] = whole
    parts.save_to_disk(tmp_path / "two")
    assert sizes(load_task(tmp_path / "two")) == {"train": 6, "validation": 2, "test": 4}
    write(tmp_path / "two" / "train" / "state.json", "{}")
    refuse(tmp_path / "two", "not a data set saved to disk")


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def load(name: str, revision: str | None) -> datasets.DatasetDict:
        asked.append((name, revision))
        if name == "no/such":
            raise datasets.exceptions.DatasetNotFoundError("not there")
        rows = {"text": [f"t{i}" for i in range(12)], "label": [str(i % 2) for i in range(12)]}
        return datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows)})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert load_task("hf:some/Set@abc").name == "some-set"
    refuse("hf:no/such", "hf:no/such: cannot be loaded from the hub")
    assert asked == [("some/Set", "abc"), ("no/such", None)]


def test_webdataset(tmp_path: Path, png: Png) -> None:
    for shard, start in (("train-000", 0), ("train-001", 6), ("val-000", 12)):
        files = {}
        for i in range(start, start + 6):
            files[f"{i:04}.png"] = png(i)
            files[f"{i:04}.cls"] = str(i % 2).encode()
        tarred(tmp_path / f"{shard}.tar", files)
    task = load_task(tmp_path)
    assert (sizes(task), task.answers) == ({"train": 12, "validation": 6}, ("0", "1"))
    files = {f"{i}.{suffix}": data for i in range(6) for suffix, data in (("png", png(i)), ("txt", b"a thing %d" % i))}
    task = load_task(tarred(tmp_path / "captions.tar", files))
    assert not task.balanced
    files |= {"7.json": b"{", "7.png": png(7)}
    refuse(tarred(tmp_path / "captions.tar", files), "sample '7': 7.json is not JSON")
    refuse(tarred(tmp_path / "captions.tar", {}), "captions.tar: holds no files")


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_zip_of_a_folder(tmp_path: Path, png: Png) -> None:
    files = {f"mine/{name}/{i}.png": png(9 * n + i) for n, name in enumerate(("x", "y")) for i in range(4)}
    task = load_task(write_zip(tmp_path / "packed.zip", {**files, "__MACOSX/junk": b""}))
    assert (task.name, task.answers) == ("packed", ("x", "y"))


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png", "..\\out.png", "C:/out.png"])
def test_an_archive_that_climbs_out(tmp_path: Path, pitune_home: Path, name: str) -> None:
    for path in (
        write_zip(tmp_path / "z.zip", {"ok/1.png": b"1", name: b"2"}),
        tarred(tmp_path / "t.tar", {name: b"2"}),
    ):
        refuse(path, "leads out of the archive; nothing was unpacked")
    assert not [file for file in pitune_home.rglob("*") if file.is_file() and file.suffix != ".lock"]
    assert not (tmp_path.parent / "out.png").exists()


def test_an_archive_with_a_link(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    refuse(tmp_path / "z.zip", "member 'link' is a link")
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(info)
    refuse(tmp_path / "t.tar", "member 'link' is a link")


def test_an_archive_that_bursts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_unpack, "_FREE_RATIO", 1 << 16)
    refuse(write_zip(tmp_path / "z.zip", {"0.png": bytes(1 << 22)}), "unpacks to more than")
    monkeypatch.setattr(_unpack, "MOST_MEMBERS", 2)
    refuse(write_zip(tmp_path / "y.zip", {f"{i}.png": b"" for i in range(3)}), "holds more than 2 files")
    refuse(write(tmp_path / "x.zip", b"PK\x03\x04"), "x.zip: damaged or unreadable archive")


def test_what_is_no_data(tmp_path: Path) -> None:
    refuse(write(tmp_path / "a.bin", b""), "a.bin: not data of a known form; expected one of: table, CoOp split file")
    refuse(tmp_path / "gone.json", "gone.json: no such file or folder")
    assert tuple(one.name for one in FORMATS.all()) == FORMATS.names()
