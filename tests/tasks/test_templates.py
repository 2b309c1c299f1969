"""What answers are matched as: images' classes as CLIP's by default, whatever the shape of the data, or as said."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from PIL import Image

from pitune.errors import InputError
from pitune.tasks import Task, asked_of, asked_task, inspect, load_task, outlook, read_task

PHOTO = "a photo of a {}."
CLASSES = ("cat", "dog")


def pictures(folder: Path) -> list[tuple[str, str]]:
    """Write twelve images and return their names with their classes."""
    found = []
    for n in range(12):
        place = folder / "images" / f"{n}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (n * 20, 9, 9)).save(place)
        found.append((f"images/{n}.png", CLASSES[n % 2]))
    return found


def folder(path: Path) -> Path:
    for name, label in pictures(path / "raw"):
        place = path / "pets" / label / Path(name).name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((path / "raw" / name).read_bytes())
    return path / "pets"


def written(path: Path, lines: Iterable[str]) -> Path:
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def csv(path: Path) -> Path:
    return written(path / "pets.csv", ["image,label", *(",".join(row) for row in pictures(path))])


def jsonl(path: Path) -> Path:
    rows = (json.dumps({"image": name, "label": label}) for name, label in pictures(path))
    return written(path / "pets.jsonl", rows)


def several(path: Path) -> Path:
    rows = [f"{name},{label};{CLASSES[n % 3 % 2]}" for n, (name, label) in enumerate(pictures(path))]
    (path / "pets.csv").write_text("\n".join(["image,label", *rows]), encoding="utf-8")
    (path / "pets.yaml").write_text("source: pets.csv\nlabel_separator: ';'", encoding="utf-8")
    return path / "pets.yaml"


def metadata(path: Path) -> Path:
    rows = [f"{Path(name).name},{label}" for name, label in pictures(path)]
    (path / "images" / "metadata.csv").write_text("\n".join(["file_name,label", *rows]), encoding="utf-8")
    return path / "images"


def coco(path: Path) -> Path:
    found = pictures(path)
    said = {
        "images": [{"id": n, "file_name": name} for n, (name, _) in enumerate(found)],
        "annotations": [{"image_id": n, "category_id": n % 2} for n in range(len(found))],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CLASSES)],
    }
    (path / "pets.json").write_text(json.dumps(said), encoding="utf-8")
    return path / "pets.json"


def coop(path: Path) -> Path:
    entries = [[name, CLASSES.index(label), label] for name, label in pictures(path)]
    parts = {"train": entries[:4], "val": entries[4:8], "test": entries[8:]}
    (path / "split_zhou_Pets.json").write_text(json.dumps(parts), encoding="utf-8")
    return path / "split_zhou_Pets.json"


def elevater(path: Path) -> Path:
    lines = [f"{name} {CLASSES.index(label)}" for name, label in pictures(path)]
    (path / "labels.txt").write_text("\n".join(CLASSES), encoding="utf-8")
    (path / "train.txt").write_text("\n".join(lines[:8]), encoding="utf-8")
    (path / "test.txt").write_text("\n".join(lines[8:]), encoding="utf-8")
    return path


def shards(path: Path) -> Path:
    with tarfile.open(path / "pets.tar", "w") as tar:
        for name, label in pictures(path):
            image = path / name
            (image.with_suffix(".cls")).write_text(label, encoding="utf-8")
            for file in (image, image.with_suffix(".cls")):
                tar.add(file, file.name)
    return path / "pets.tar"


SHAPES: tuple[Callable[[Path], Path], ...] = (folder, csv, jsonl, several, metadata, coco, coop, elevater, shards)


@pytest.mark.parametrize("shape", SHAPES)
def test_classes_of_images_are_matched_as_photos(shape: Callable[[Path], Path], tmp_path: Path) -> None:
    said: list[str] = []
    path = shape(tmp_path)
    task = load_task(path, tell=said.append)
    assert task.answer_templates == (PHOTO,)
    assert any(f"answers are matched as '{PHOTO}'" in one for one in said)
    assert inspect(read_task(path)).templates == (PHOTO,)
    assert outlook(task).line.endswith(f"answers are matched as '{PHOTO}'")


def texts(path: Path) -> Path:
    rows = (f"some words {n},{CLASSES[n % 2]}" for n in range(12))
    return written(path / "texts.csv", ["text,label", *rows])


def questions(path: Path) -> Path:
    rows = (f"{name},what is it?,{label}" for name, label in pictures(path))
    return written(path / "asked.csv", ["image,question,answer", *rows])


def captions(path: Path) -> Path:
    rows = (f"{name},a {label} number {n}" for n, (name, label) in enumerate(pictures(path)))
    return written(path / "said.csv", ["image,caption", *rows])


def choices(path: Path) -> Path:
    rows = [f"{name},{label}|bird,{label}" for name, label in pictures(path)]
    (path / "chosen.csv").write_text("\n".join(["image,candidates,answer", *rows]), encoding="utf-8")
    return path / "chosen.csv"


@pytest.mark.parametrize("shape", [texts, questions, captions, choices])
def test_what_is_no_class_of_images_is_matched_as_it_is(shape: Callable[[Path], Path], tmp_path: Path) -> None:
    path = shape(tmp_path)
    assert load_task(path).answer_templates == ("{}",)
    assert inspect(read_task(path)).templates == ("{}",)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("template: 'a sketch of a {}.'", ("a sketch of a {}.",)),  # images have no text that it could be for
        ("answer_template: 'a sketch of a {}.'", ("a sketch of a {}.",)),
        ("answer_template: '{}'", ("{}",)),
        ("templates: ['a {}.', 'art of the {}.']", ("a {}.", "art of the {}.")),
        ("", (PHOTO,)),
    ],
)
def test_yaml_says_otherwise(said: str, expected: tuple[str, ...], tmp_path: Path) -> None:
    csv(tmp_path)
    (tmp_path / "own.yaml").write_text(f"source: pets.csv\n{said}", encoding="utf-8")
    task = load_task(tmp_path / "own.yaml")
    assert task.answer_templates == expected
    assert task.template == "{}"
    assert inspect(read_task(tmp_path / "own.yaml")).templates == expected


def test_a_template_of_texts_stays_one_of_texts(tmp_path: Path) -> None:
    texts(tmp_path)
    (tmp_path / "own.yaml").write_text("source: texts.csv\ntemplate: 'It says: {}'", encoding="utf-8")
    task = load_task(tmp_path / "own.yaml")
    assert (task.template, task.answer_templates) == ("It says: {}", ("{}",))


@pytest.mark.parametrize("shape", [folder, texts])
def test_templates_may_be_given(shape: Callable[[Path], Path], tmp_path: Path) -> None:
    path, own = shape(tmp_path), ("a {}.", "the {}.")
    assert load_task(path, templates=own).answer_templates == own
    assert load_task(path, templates="only {}").answer_templates == ("only {}",)
    assert inspect(read_task(path, templates=own)).templates == own
    assert load_task(path, templates=own).answer_text("cat") == "a cat."


@pytest.mark.parametrize("template", ["no gap", "{} and {}", "{0}", "{}{"])
def test_a_template_without_one_gap_is_refused(template: str, tmp_path: Path) -> None:
    path = csv(tmp_path)
    with pytest.raises(InputError, match=r"expected exactly one \{\} and no other braces"):
        load_task(path, templates=[template])
    (tmp_path / "own.yaml").write_text(json.dumps({"source": "pets.csv", "templates": [template]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"own.yaml: templates.0: .*expected exactly one \{\}"):
        load_task(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text("source: pets.csv\nanswer_template: '{}'\ntemplates: ['{}']", encoding="utf-8")
    with pytest.raises(InputError, match="answer_template and templates say the same; leave one out"):
        load_task(tmp_path / "own.yaml")


def test_a_task_made_by_hand_keeps_its_own() -> None:
    task = Task("own", {}, CLASSES, more_templates=("the {}",))
    assert task.answer_templates == ("{}", "the {}")
    assert task.wording("cat").texts == ("cat", "the cat")


def test_a_card_keeps_all_templates(tmp_path: Path) -> None:
    task = load_task(csv(tmp_path), templates=("a {}.", "the {}."))
    kept, _ = asked_task(task.name, asked_of(task)["asked"]) or (None, None)
    assert kept is not None
    assert kept.answer_templates == ("a {}.", "the {}.")
    broken = {**asked_of(task)["asked"], "more_templates": ["{} {}"]}
    assert asked_task(task.name, broken) is None
