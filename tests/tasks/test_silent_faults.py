"""What once ended well with a wrong result: each is right now, or refused by name."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from pitune.errors import InputError
from pitune.tasks import Task, inspect, load_task, read_task

Png = Callable[[int], bytes]


def table(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pictures(folder: Path, png: Png, start: int, count: int = 4) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        (folder / f"{i}.png").write_bytes(png(start + i))


def total(task: Task) -> int:
    return sum(map(len, task.splits.values()))


@pytest.mark.parametrize("beside", ["test1", "models", "eval"])
def test_folders_named_as_parts_are_parts(tmp_path: Path, png: Png, beside: str) -> None:
    for n, name in enumerate(("cat", "dog")):
        pictures(tmp_path / "train" / name, png, 10 * n)
    pictures(tmp_path / beside, png, 100)
    heard: list[str] = []
    task = load_task(tmp_path, tell=heard.append)
    assert task.answers == ("cat", "dog")
    assert set(task.splits) == {"train", "validation"}
    assert any(beside in one for one in heard)
    assert any(beside in one for one in inspect(read_task(tmp_path)).remarks)


def test_a_class_may_be_called_train(tmp_path: Path, png: Png) -> None:
    for n, name in enumerate(("bus", "train")):
        pictures(tmp_path / name, png, 10 * n)
    assert load_task(tmp_path).answers == ("bus", "train")


def test_hidden_and_system_files_are_no_data(tmp_path: Path, png: Png) -> None:
    for n, name in enumerate(("x", "y")):
        pictures(tmp_path / "set" / name, png, 10 * n)
    junk = ["x/._0.png", "x/.ipynb_checkpoints/0-checkpoint.png", "x/Thumbs.db", "__MACOSX/x/._0.png", ".DS_Store"]
    for one in junk:
        (tmp_path / "set" / one).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / one).write_bytes(b"junk")
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for file in sorted((tmp_path / "set").rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
    for path in (tmp_path / "set", tmp_path / "set.zip"):
        task = load_task(path)
        assert (total(task), task.answers) == (8, ("x", "y"))
        assert inspect(read_task(path)).problems == ()


def test_two_folders_of_one_readable_name_stay_two(tmp_path: Path, png: Png) -> None:
    for n, name in enumerate(("a_b", "a b", "c")):
        pictures(tmp_path / name, png, 10 * n)
    assert load_task(tmp_path).answers == ("a b (a b)", "a b (a_b)", "c")


def test_a_row_with_more_fields_than_the_header_is_refused(tmp_path: Path) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(12)]
    path = table(tmp_path / "t.csv", "text,label", *rows, "one, two,a")
    with pytest.raises(InputError, match="row 13: more fields than the header names"):
        load_task(path)
    with pytest.raises(InputError, match="two columns are named 'text'"):
        load_task(table(tmp_path / "u.csv", "text,text,label", "a,b,c"))


@pytest.mark.parametrize("label", ["-1", "-100", "-1.0"])
def test_a_number_that_means_no_label_is_no_class(tmp_path: Path, label: str) -> None:
    rows = [f"text {i},{i % 2}" for i in range(12)]
    path = table(tmp_path / "t.csv", "text,label", *rows, f"other,{label}")
    with pytest.raises(InputError, match="row 13: the label is -1"):
        load_task(path)
    number = label.removesuffix(".0")
    task = table(tmp_path / "t.yaml", "source: t.csv", f"unlabelled: ['{number}']")
    heard: list[str] = []
    assert load_task(task, tell=heard.append).answers == ("0", "1")
    assert any("1 without a label are left out, such as" in one for one in heard)
    rows += [f"bad {i},{label}" for i in range(3)]
    table(tmp_path / "t.csv", "text,label", *rows)
    named = table(tmp_path / "n.yaml", "source: t.csv", "classes: {'0': no, '1': 'yes', '" + number + "': odd}")
    named.write_text(named.read_text().replace("no,", "'no',"))
    assert load_task(named).answers == ("no", "yes", "odd")


def test_class_labels_of_a_saved_set_without_a_gold_label_are_left_out(tmp_path: Path) -> None:
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"text": [f"t{i}" for i in range(14)], "label": [i % 2 for i in range(12)] + [-1, -1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "d")
    heard: list[str] = []
    task = load_task(tmp_path / "d", tell=heard.append)
    assert (task.answers, total(task)) == (("no", "yes"), 12)
    assert any("2 without a label are left out" in one for one in heard)


def test_one_class_written_in_two_ways_is_one(tmp_path: Path) -> None:
    rows = [f"text {i},{('0', '0.0', '1', '1.00')[i % 4]}" for i in range(12)]
    assert load_task(table(tmp_path / "n.csv", "text,label", *rows)).answers == ("0", "1")
    names = ("caf\u00e9", "cafe\u0301", "bar")
    rows = [f"text {i},{names[i % 3]}" for i in range(18)]
    assert load_task(table(tmp_path / "a.csv", "text,label", *rows)).answers == ("bar", "caf\u00e9")


@pytest.mark.parametrize("name", ["none", "null", "nan", "NA"])
def test_only_an_empty_cell_is_missing(tmp_path: Path, name: str) -> None:
    rows = [f"text {i},{(name, 'x')[i % 2]}" for i in range(12)]
    path = table(tmp_path / "t.csv", "text,label", *rows)
    assert name in (load_task(path).answers or ())
    assert any("reads as if the label were missing" in one for one in inspect(read_task(path)).remarks)


def test_ids_with_one_name_stay_apart(tmp_path: Path, png: Png) -> None:
    pictures(tmp_path, png, 0, 16)
    classes = ["crane", "heron", "crane", "stork"]
    entries = [[f"{i}.png", i % 4, classes[i % 4]] for i in range(16)]
    split = tmp_path / "split_zhou_Birds.json"
    split.write_text(json.dumps({"train": entries[:12], "test": entries[12:]}))
    assert load_task(split).answers == ("crane (0)", "heron", "crane (2)", "stork")
    split.unlink()
    labels = [{"image_id": i, "category_id": i % 4} for i in range(16)]
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(16)]
    named = [{"id": i, "name": name} for i, name in enumerate(classes)]
    path = tmp_path / "birds.json"
    path.write_text(json.dumps({"images": images, "annotations": labels, "categories": named}))
    heard: list[str] = []
    assert load_task(path, tell=heard.append).answers == ("crane (0)", "heron", "crane (2)", "stork")
    assert any("several classes are named 'crane'" in one for one in heard)


def test_the_separator_is_found_and_named(tmp_path: Path) -> None:
    for mark, name in ((";", "half"), ("\t", "tab")):
        rows = [f"one, two {i}{mark}{'ab'[i % 2]}" for i in range(12)]
        heard: list[str] = []
        task = load_task(table(tmp_path / f"{name}.csv", f"text{mark}label", *rows), tell=heard.append)
        assert total(task) == 12
        assert any(repr(mark) in one for one in heard)


def test_windows_paths_and_ids_without_a_suffix(tmp_path: Path, png: Png) -> None:
    pictures(tmp_path / "images", png, 0, 12)
    rows = [f"images\\{i}.png,{'ab'[i % 2]}" for i in range(12)]
    assert total(load_task(table(tmp_path / "w.csv", "image,label", *rows))) == 12
    rows = [f"{i},{'ab'[i % 2]}" for i in range(12)]
    assert total(load_task(table(tmp_path / "i.csv", "image,label", *rows))) == 12


def test_what_becomes_of_conflicts(tmp_path: Path) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(12)]
    path = table(tmp_path / "t.csv", "text,label", *rows, "text 0,b", "text 0,b")
    with pytest.raises(InputError, match="--conflicts drop or keep"):
        load_task(path)
    heard: list[str] = []
    assert total(load_task(path, tell=heard.append, conflicts="drop")) == 11
    assert any("row 1 and " in one and "row 13" in one for one in heard)
    kept = load_task(path, conflicts="keep")
    assert [e.target for part in kept.splits.values() for e in part if e.text == "text 0"] == ["b"]
    with pytest.raises(InputError, match="expected one of: refuse, drop, keep"):
        load_task(path, conflicts="lose")  # type: ignore[arg-type]


def test_a_limit_takes_evenly_from_the_classes(tmp_path: Path) -> None:
    rows = [f"text {i},{'ab'[i > 20]}" for i in range(200)]
    task = load_task(table(tmp_path / "t.csv", "text,label", *rows), limit=40)
    assert total(task) == 40
    assert sum(e.target == "a" for part in task.splits.values() for e in part) == 20


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("deep.jsonl", "[" * 100_000),
        ("deep2.jsonl", '{"text": ' * 100_000),
        ("deep.json", '{"images": ' + "[" * 100_000),
        ("split_zhou_x.json", "[" * 100_000),
        ("twice.jsonl", '{"text": "a", "text": "b", "label": "x"}'),
        ("half.jsonl", '{"text": "\\ud800", "label": "x"}\n{"text": "b", "label": "y"}'),
        ("deep.yaml", "a: " + "[" * 50_000),
        ("huge.yaml", "name: " + "9" * 6000),
        ("sixty.yaml", "name: 190:20:30"),
        ("date.yaml", "name: 2024-13-45"),
        ("bomb.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"),
        ("twice.yaml", "name: a\nname: b"),
        ("keys.yaml", "? [a]\n: b"),
        ("colour.yaml", '"\\e[31mred": 1'),
        ("colour.csv", "te\x1b[31mxt,label\na,b"),
        ("null.csv", "text,label\n\0,b"),
        ("null.json", '{"images": [{"id": 1, "file_name": "a\\u0000.png"}], "annotations": [{"image_id": 1, '
                      '"category_id": 1}], "categories": [{"id": 1, "name": "x"}]}'),
    ],
)  # fmt: skip
def test_hostile_text_is_one_line(tmp_path: Path, name: str, data: str) -> None:
    (tmp_path / name).write_text(data, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_task(tmp_path / name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["hf:", "hf:a b", "x" * 5000, "x" * 5000 + ".csv", "/proc", "/dev/zero", "a\0b.csv"])
def test_hostile_names_are_one_line(name: str) -> None:
    with pytest.raises(InputError) as caught:
        load_task(name)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["t.csv", "t.json", "t.yaml", "t.zip", "t.parquet", "pipe"])
def test_a_pipe_is_no_data(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError):
        load_task(tmp_path / name)


def test_an_image_folder_with_metadata_is_read_from_its_top(tmp_path: Path, png: Png) -> None:
    for part, start in (("train", 0), ("test", 50)):
        for top in ("one", "two/data"):
            pictures(tmp_path / top / part, png, start, 6)
            rows = [f"{i}.png,{'ab'[i % 2]}" for i in range(6)]
            table(tmp_path / top / part / "metadata.csv", "file_name,label", *rows)
    for name in ("one", "two"):
        task = load_task(tmp_path / name)
        assert task.answers == ("a", "b")
        assert {part: len(found) for part, found in task.splits.items()} == {"train": 4, "validation": 2, "test": 6}


def test_a_number_of_a_class_has_one_name(tmp_path: Path, png: Png) -> None:
    pictures(tmp_path, png, 0, 12)
    split = tmp_path / "split_zhou_Pets.json"
    split.write_text(json.dumps({"train": [[f"{i}.png", i % 2, ("cat", "dog", "cow")[i % 3]] for i in range(12)]}))
    with pytest.raises(InputError, match="the class 0 is named 'cat' and 'cow'"):
        load_task(split)
    split.unlink()
    for part, names in (("train", ("cat", "dog")), ("val", ("dog", "cat"))):
        held = {
            "images": [{"id": i, "file_name": f"{i}.png"} for i in range(*((6, 12) if part == "val" else (0, 6)))],
            "annotations": [
                {"image_id": i, "category_id": i % 2} for i in range(*((6, 12) if part == "val" else (0, 6)))
            ],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        }
        (tmp_path / f"{part}.json").write_text(json.dumps(held))
    with pytest.raises(InputError, match="the class 0 is named 'cat' and 'dog'"):
        load_task(tmp_path)


def test_two_coco_images_of_one_id_are_refused(tmp_path: Path, png: Png) -> None:
    pictures(tmp_path, png, 0, 12)
    images = [{"id": i // 2 * 2, "file_name": f"{i}.png"} for i in range(12)]
    labels = [{"image_id": i, "category_id": i % 4} for i in range(0, 12, 2)]
    held = {"images": images, "annotations": labels, "categories": [{"id": i, "name": f"n{i}"} for i in (0, 2)]}
    (tmp_path / "t.json").write_text(json.dumps(held))
    with pytest.raises(InputError, match="image 0: two images have this id"):
        load_task(tmp_path / "t.json")


def test_parts_of_a_saved_set_number_their_classes_alike(tmp_path: Path) -> None:
    parts = {}
    for part, names in (("train", ["no", "yes"]), ("test", ["yes", "no"])):
        kind = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        rows = {"text": [f"{part} {i}" for i in range(8)], "label": [i % 2 for i in range(8)]}
        parts[part] = datasets.Dataset.from_dict(rows, features=kind)
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "d")
    with pytest.raises(InputError, match="the part 'test' has another column 'label'"):
        load_task(tmp_path / "d")
