"""Folders of images and CSV files become tasks; what is wrong with them is said with file and row."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pitune.errors import InputError
from pitune.tasks import Example, few_shot, load_task
from pitune.tasks.formats.reading import Format, Found, Options, Reading
from pitune.tasks.formats.registry import FORMATS

Png = Callable[[int], bytes]


@pytest.fixture
def images(tmp_path: Path, png: Png) -> Path:
    folder = tmp_path / "shapes"
    for offset, name in enumerate(("round_one", "square")):
        (folder / name).mkdir(parents=True)
        for i in range(8):
            (folder / name / f"{i}.png").write_bytes(png(100 * offset + i))
    return folder


def write_csv(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [f"sentence number {i} here,{'good' if i % 2 else 'bad'}" for i in range(20)]
    return write_csv(tmp_path / "mine.csv", ["text,label", *rows])


def test_a_folder_is_a_task(images: Path) -> None:
    task = load_task(images)
    assert task.name == "shapes"
    assert task.answers == ("round one", "square")
    assert {split: len(found) for split, found in task.splits.items()} == {"train": 10, "validation": 2, "test": 4}
    assert task == load_task(str(images))
    assert {example.target for example in task.splits["test"]} == set(task.answers)


def test_copies_of_an_image_are_in_one_part(images: Path) -> None:
    for i in range(8):
        (images / "square" / f"copy{i}.png").write_bytes((images / "square" / f"{i}.png").read_bytes())
    assert sum(map(len, load_task(images).splits.values())) == 16


def test_parts_follow_content_not_names(images: Path) -> None:
    before = {example.image.read_bytes() for example in load_task(images).splits["test"]}
    for i in range(8):
        (images / "square" / f"{i}.png").rename(images / "square" / f"renamed{7 - i}.png")
    assert {example.image.read_bytes() for example in load_task(images).splits["test"]} == before


def test_a_table_is_a_task(table: Path) -> None:
    task = load_task(table)
    assert task.answers == ("bad", "good")
    assert {split: len(found) for split, found in task.splits.items()} == {"train": 14, "validation": 2, "test": 4}
    assert task.data_hash == load_task(table).data_hash


def test_a_table_may_hold_images_and_text(tmp_path: Path, png: Png) -> None:
    for i in range(8):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    path = write_csv(tmp_path / "both.csv", ["image,text,label", *(f"{i}.png,which?,{i % 2}" for i in range(8))])
    example = load_task(path).splits["train"][0]
    assert example.text == "which?"
    assert isinstance(example.image, Path)


def refuse(path: Path, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_task(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_without_classes(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refuse(tmp_path / "none", "no sub-folders")


def test_an_empty_class(images: Path) -> None:
    (images / "blank").mkdir()
    refuse(images, "class 'blank' is empty")


def test_a_class_too_small_for_three_parts(images: Path, png: Png) -> None:
    (images / "few").mkdir()
    for i in range(2):
        (images / "few" / f"{i}.png").write_bytes(png(200 + i))
    refuse(images, r"class 'few' has 2 distinct example\(s\), expected at least 3")


@pytest.mark.parametrize("data", [b"", b"not an image", "truncated"])
def test_a_corrupt_image(images: Path, png: Png, data: bytes | str) -> None:
    spoiled = images / "square" / "3.png"
    spoiled.write_bytes(data if isinstance(data, bytes) else png(3)[:-30])
    refuse(images, "square/3.png: not a readable image")


def test_one_image_in_two_classes(images: Path) -> None:
    (images / "square" / "x.png").write_bytes((images / "round_one" / "0.png").read_bytes())
    refuse(images, "hold the same input")


def test_a_link_out_of_the_folder(images: Path, tmp_path: Path, png: Png) -> None:
    (tmp_path / "secret.png").write_bytes(png(999))
    (images / "square" / "link.png").symlink_to(tmp_path / "secret.png")
    refuse(images, "leads out of")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["text,kind", "a,b"], "found columns text, kind; expected label"),
        (["label", "b"], "found columns label; expected label, and text or image"),
        ([""], "found columns none"),
        (["text,label", "one,good", "a, b,bad"], "row 2: more fields than the header names"),
        (["text,label", "one,"], "row 1: the label is empty"),
        (["text,label", "one"], "row 1: the label is empty"),
        (["text,label", ",good"], "row 1: neither text nor image"),
        (["image,label", "../away.png,good"], r"row 1: image '\.\./away\.png' is outside"),
        (["image,label", "/etc/hostname,good"], "row 1: image '/etc/hostname' is outside"),
        (["image,label", "absent.png,good"], "row 1: .*absent.png: cannot be read"),
        (["image,label", "table.csv,good"], "row 1: .*table.csv: not a readable image"),
        (["text,label", *(f"some words {i}x,good" for i in range(9))], "found 1 class"),
        (["text,label", '"open,good'], "not a readable CSV"),
    ],
)
def test_a_bad_table(tmp_path: Path, lines: list[str], said: str) -> None:
    refuse(write_csv(tmp_path / "table.csv", lines), said)


def test_an_absent_or_undecodable_table(tmp_path: Path) -> None:
    refuse(tmp_path / "absent.csv", "no such file")
    (tmp_path / "latin.csv").write_bytes("text,label\ncafé,good\n".encode("latin-1"))
    refuse(tmp_path / "latin.csv", "not a readable CSV file in UTF-8")


@pytest.mark.parametrize("seed", range(3))
def test_what_is_drawn_of_a_table_does_not_depend_on_the_order_of_its_rows(tmp_path: Path, seed: int) -> None:
    rows = [f"text {i},{'ab'[i % 2]}" for i in range(40)]
    shuffled = random.Random(seed).sample(rows, len(rows))
    drawn = []
    for name, lines in (("one", rows), ("two", shuffled)):
        (tmp_path / name).mkdir()
        path = tmp_path / name / "texts.csv"
        path.write_text("\n".join(["text,label", *lines]), encoding="utf-8")
        task = load_task(path)
        draw = few_shot(task, 4, seed)
        drawn.append((task.data_hash, draw.train, draw.validation, sorted(e.id for e in task.examples("test"))))
    assert drawn[0] == drawn[1]


def test_several_answers_to_one_question_are_the_same_in_any_order(tmp_path: Path) -> None:
    rows = [*(f"q{i},a{i % 3}" for i in range(12)), "q0,a2", "q0,a2", "q0,a1"]
    tasks = []
    for number, lines in enumerate((rows, rows[::-1])):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "asked.csv"
        path.write_text("\n".join(["question,answer", *lines]), encoding="utf-8")
        tasks.append(load_task(path))
    assert tasks[0].data_hash == tasks[1].data_hash
    (asked,) = [e for part in tasks[0].splits.values() for e in part if e.text == "q0"]
    assert asked.references == ("a0", "a1", "a2")
    assert asked.target == "a0"


def test_a_format_of_ones_own_is_asked_before_the_folder_of_images(tmp_path: Path, images: Path) -> None:
    def read(path: Path, options: Options) -> Reading:
        items = (Found(f"{path}, {i}", Example(str(i), "ab"[i % 2], text=f"note {i}")) for i in range(12))
        return Reading(path, path.name, items)

    FORMATS.register("notes", Format("notes", "folder of notes", lambda path: (path / "NOTES").exists(), read))
    try:
        (images / "NOTES").write_text("")
        assert load_task(images).answers == ("a", "b")
        (images / "NOTES").unlink()
        assert load_task(images).answers == ("round one", "square")
    finally:
        FORMATS.forget("notes")


@pytest.mark.parametrize("rest", ["test1", "models", "eval"])
def test_folders_beside_the_parts_are_no_classes(tmp_path: Path, png: Png, rest: str) -> None:
    for i, name in enumerate(("train/cat", "train/dog", f"{rest}/cat", f"{rest}/dog")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for j in range(6):
            (tmp_path / "pets" / name / f"{j}.png").write_bytes(png(100 * i + j))
    told: list[str] = []
    task = load_task(tmp_path / "pets", tell=told.append)
    assert task.answers == ("cat", "dog")
    assert any(f"leaving out {rest}" in line for line in told)
    assert sum(map(len, task.splits.values())) == 12


def test_a_class_may_be_called_train(tmp_path: Path, png: Png) -> None:
    for i, name in enumerate(("train", "car")):
        (tmp_path / "vehicles" / name).mkdir(parents=True)
        for j in range(6):
            (tmp_path / "vehicles" / name / f"{j}.png").write_bytes(png(100 * i + j))
    assert load_task(tmp_path / "vehicles").answers == ("car", "train")


def test_what_systems_leave_behind_is_no_data(images: Path) -> None:
    before = load_task(images)
    (images / "__MACOSX" / "square").mkdir(parents=True)
    (images / "__MACOSX" / "square" / "._0.png").write_bytes(b"\0")
    (images / ".ipynb_checkpoints").mkdir()
    for name in ("._0.png", ".DS_Store", "Thumbs.db"):
        (images / "square" / name).write_bytes(b"\0\1")
    (images / "square" / ".ipynb_checkpoints").mkdir()
    (images / "square" / ".ipynb_checkpoints" / "0-checkpoint.png").write_bytes(b"\0")
    assert load_task(images) == before


@pytest.mark.parametrize("name", ["none", "null", "nan", "NA", "None"])
def test_a_class_may_be_called_as_programs_call_a_gap(tmp_path: Path, name: str) -> None:
    path = write_csv(tmp_path / "codes.csv", ["text,label", *(f"text {i},{('other', name)[i % 2]}" for i in range(16))])
    task = load_task(path)
    assert set(task.answers or ()) == {"other", name}
    assert sum(map(len, task.splits.values())) == 16


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_the_separator_of_a_table_is_found_and_told(tmp_path: Path, separator: str) -> None:
    rows = [f"a, text {i}{separator}{'ab'[i % 2]}" for i in range(16)]
    path = write_csv(tmp_path / "export.csv", [f"text{separator}label", *rows])
    told: list[str] = []
    task = load_task(path, tell=told.append)
    assert task.answers == ("a", "b")
    assert any(f"divided by {separator!r}" in line for line in told)
    assert {e.text for part in task.splits.values() for e in part} == {f"a, text {i}" for i in range(16)}
