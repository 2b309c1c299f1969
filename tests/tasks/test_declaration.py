"""Tasks declared in YAML, the reader's own and those of the papers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pitune.errors import InputError
from pitune.tasks import declaration, declared_names, load_task

Png = Callable[[int], bytes]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [f"sentence {i},{i % 2}" for i in range(20)]
    (tmp_path / "data.csv").write_text("\n".join(["words,mark", *rows]), encoding="utf-8")
    return tmp_path


def declare(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


WHOLE = """
name: moods
source: data.csv
columns: {text: words, label: mark}
template: "It says: {}"
answer_template: "The mood is {}."
classes: {"0": gloomy, "1": sunny}
metric: f1
expected_classes: 2
licence: CC0
"""


def test_a_declared_task(data: Path) -> None:
    task = load_task(declare(data, WHOLE))
    assert (task.name, task.answers, task.metric, task.licence) == ("moods", ("gloomy", "sunny"), "f1", "CC0")
    assert task.answer_text("sunny") == "The mood is sunny."
    assert {example.target for example in task.examples("train")} == {"gloomy", "sunny"}


def test_one_file_for_each_part(data: Path) -> None:
    for name, start in (("a", 0), ("b", 100)):
        rows = [f"words {start + i},{'xy'[i % 2]}" for i in range(8)]
        (data / f"{name}.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    task = load_task(declare(data, "source: {train: a.csv, test: b.csv}\nclasses: [y, x]"))
    assert (task.name, task.answers) == ("mine", ("y", "x"))
    assert len(task.examples("test")) == 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "holds a list; expected `field: value` lines"),
        ("a: [", "not YAML"),
        ("nothing: 1", "mine.yaml: unknown field 'nothing'; expected one of: about, answer_template, cap, classes"),
        ("source: 3", "mine.yaml: source"),
        (
            "metric: nothing",
            "mine.yaml: metric: value error, unknown metric 'nothing'; expected one of: 11-point-map, accuracy",
        ),
        ("template: 'no gap'", "mine.yaml: template: value error, expected exactly one {}"),
        ("answer_template: '{} {0.__class__}'", "answer_template: value error, expected exactly one {}"),
        ("name: x", "declares no source"),
        ("source: gone.csv", "gone.csv: no such file"),
        (WHOLE.replace("expected_classes: 2", "expected_classes: 3"), "found 2 classes, expected 3"),
        (WHOLE + "expected_examples: {train: 9}", "found 14 train examples, expected 9"),
        (WHOLE.replace('"1": sunny', '"7": sunny'), "data.csv, row 2: '1' is not among the declared classes"),
        ("a: !!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_wrong_declaration(data: Path, text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        load_task(declare(data, text))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", declared_names())
def test_declarations_of_the_papers_can_be_read(name: str) -> None:
    found = declaration(name)
    assert found.name == name
    assert found.about
    assert found.provenance
    assert found.source is None


def test_the_papers_tasks_are_all_there() -> None:
    sets = [name.split("/")[0] for name in declared_names()]
    assert {name: sets.count(name) for name in sets} == {
        "elevater": 20,
        "language": 7,
        "vision": 8,
        "vision-language": 6,
    }
    classes = [declaration(name).expected_classes or 0 for name in declared_names() if name.startswith("elevater")]
    assert sum(classes) == 1151


def test_a_declared_task_says_where_its_data_belongs(pitune_home: Path, png: Png) -> None:
    name = "elevater/eurosat_clip"
    folder = pitune_home / "data" / name
    with pytest.raises(InputError, match=r"has no data yet; expected .* as ") as caught:
        load_task(name)
    assert str(folder) in str(caught.value)
    for number in range(30):
        path = folder / f"class_{number // 3}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number))
    assert len(load_task(name).answers or ()) == 10
    (folder / "class_0").rename(folder.parent / "away")
    with pytest.raises(InputError, match="found 9 classes, expected 10"):
        load_task(name)
