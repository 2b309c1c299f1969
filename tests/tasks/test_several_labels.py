"""Several labels from one column, a list, or columns of 0 and 1; and what may be said of own data beside its path."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pitune import cli
from pitune.errors import InputError
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task, few_shot, inspect, load_task, read_task

Png = Callable[[int], bytes]
MOODS = ("calm", "glad", "odd")


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def moods(i: int) -> list[str]:
    """Return the labels of the i-th text; each third is of two, the others of one."""
    return [MOODS[i % 3], MOODS[(i + 1) % 3]] if i % 3 == 0 else [MOODS[i % 3]]


def right(task: Task) -> dict[str, set[str]]:
    return {str(e.text): set(e.right) for part in task.splits.values() for e in part}


EXPECTED = {f"text {i}": set(moods(i)) for i in range(24)}


def check(task: Task) -> None:
    assert task.answers == MOODS
    assert task.metric == "11-point-map"
    assert not task.balanced
    assert right(task) == EXPECTED


def test_one_column_and_what_stands_between(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label", *(f"text {i},{'; '.join(moods(i))};" for i in range(24)))
    check(load_task(path, label_separator=";"))
    check(load_task(write(tmp_path / "t.yaml", "source: t.csv", "label_separator: ';'")))
    assert inspect(read_task(path, label_separator=";")).classes.keys() == set(MOODS)


def test_columns_of_0_and_1(tmp_path: Path) -> None:
    rows = [f"text {i},{','.join(str(int(mood in moods(i))) for mood in MOODS)}" for i in range(24)]
    path = write(tmp_path / "t.csv", f"text,{','.join(MOODS)}", *rows)
    check(load_task(path, {"label": "calm,glad,odd"}))
    path = write(tmp_path / "u.csv", "text,is calm,is glad,is odd", *rows)
    names = {f"is {mood}": mood for mood in MOODS}
    check(load_task(path, {"label": "is *"}, classes=names))
    check(load_task(write(tmp_path / "u.yaml", "source: u.csv", "columns: {label: 'is *'}", f"classes: {names}")))


def test_lists(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"text": f"text {i}", "labels": moods(i)} for i in range(24)]
    check(load_task(write(tmp_path / "t.jsonl", *map(json.dumps, rows))))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    check(load_task(tmp_path / "t.parquet"))
    kind = datasets.Sequence(datasets.ClassLabel(names=list(MOODS)))
    features = datasets.Features({"text": datasets.Value("string"), "labels": kind})
    numbers = {"text": [row["text"] for row in rows], "labels": [[*map(MOODS.index, row["labels"])] for row in rows]}
    datasets.Dataset.from_dict(numbers, features=features).save_to_disk(tmp_path / "d")
    check(load_task(tmp_path / "d"))


def test_a_cell_that_does_not_say_is_refused_and_a_row_without_a_label_is_told(tmp_path: Path) -> None:
    rows = [f"text {i},{int(i % 2)},{int(i % 2 == 0)}" for i in range(12)]
    path = write(tmp_path / "t.csv", "text,a,b", *rows, "other,,1")
    with pytest.raises(InputError, match="row 13: column 'a' holds 'nothing'; expected 0 or 1"):
        load_task(path, {"label": "a,b"})
    path = write(tmp_path / "t.csv", "text,a,b", *rows, "other,0,0")
    heard: list[str] = []
    assert len(right(load_task(path, {"label": "a,b"}, heard.append))) == 12
    assert any("1 without a label are left out" in one and "row 13" in one for one in heard)
    path = write(tmp_path / "t.jsonl", '{"text": "a", "label": ["x", "y"]}', '{"text": "b", "label": "x"}')
    with pytest.raises(InputError, match="row 2: the label is 'x'; expected a list"):
        load_task(path)


@pytest.mark.parametrize(
    ("column", "said"),
    [
        ("label=a,no", "has no column 'no' for label"),
        ("label=no*", "has no column 'no"),
        ("label=a*", "names 1 column"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, column: str, said: str) -> None:
    path = write(tmp_path / "t.csv", "text,a,b", "x,0,1")
    with pytest.raises(InputError, match=said):
        load_task(path, dict([column.split("=")]))


def test_a_metric_that_looks_at_one_label_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "t.csv", "text,label", *(f"text {i},{';'.join(moods(i))}" for i in range(24)))
    path = write(tmp_path / "t.yaml", "source: t.csv", "label_separator: ';'", "metric: accuracy")
    with pytest.raises(InputError, match="accuracy looks at one; expected one of: 11-point-map, elevater-map"):
        load_task(path)
    write(tmp_path / "one.csv", "text,label", *(f"text {i},{MOODS[i % 3]}" for i in range(24)))
    assert load_task(write(tmp_path / "o.yaml", "source: one.csv", "kind: multi-label")).metric == "11-point-map"


def test_labels_in_one_cell_that_nobody_took_apart_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label", *(f"text {i},{';'.join(moods(i))}" for i in range(36)))
    heard: list[str] = []
    load_task(path, tell=heard.append)
    assert any("'calm;glad' is read as one class" in one and "--label-separator ';'" in one for one in heard)
    assert any("'calm;glad' is read as one class" in one for one in inspect(read_task(path)).remarks)


def test_an_input_with_two_sets_of_labels_is_a_conflict(tmp_path: Path) -> None:
    rows = [f"text {i},{';'.join(moods(i))}" for i in range(24)]
    path = write(tmp_path / "t.csv", "text,label", *rows, "text 0,odd", "text 0,odd")
    with pytest.raises(InputError, match="one is labelled 'calm', 'glad' and the other 'odd'"):
        load_task(path, label_separator=";")
    assert right(load_task(path, label_separator=";", conflicts="keep"))["text 0"] == {"odd"}
    assert "text 0" not in right(load_task(path, label_separator=";", conflicts="drop"))


def test_a_shot_of_a_class_is_one_that_has_it_as_its_rarest(tmp_path: Path) -> None:
    rows = [f"text {i},often{';seldom' if i < 12 else ''}" for i in range(60)]
    path = write(tmp_path / "t.csv", "text,label", *rows)
    drawn = few_shot(load_task(path, label_separator=";"), 3).train
    assert sorted(e.target for e in drawn) == ["often"] * 3 + ["seldom"] * 3


def test_elevater_lines_with_several_labels_are_all_looked_at(tmp_path: Path, png: Png) -> None:
    write(tmp_path / "labels.txt", "a", "b", "c")
    for part, start in (("train", 0), ("test", 20)):
        for i in range(8):
            (tmp_path / f"{start + i}.png").write_bytes(png(start + i))
        write(tmp_path / f"{part}.txt", *(f"{start + i}.png {i % 3},{(i + 1) % 3}" for i in range(8)))
    assert load_task(tmp_path).metric == "11-point-map"


def coco(folder: Path, png: Png, chance: random.Random) -> Task:
    images = [{"id": i, "file_name": f"{i}.png"} for i in range(16)]
    labels = [{"image_id": i, "category_id": (i + j) % 3} for i in range(15) for j in range(1 + i % 2)]
    names = [{"id": i, "name": name} for i, name in enumerate(MOODS)]
    folder.mkdir()
    for i in range(16):
        (folder / f"{i}.png").write_bytes(png(i))
    held = {"images": chance.sample(images, 16), "annotations": chance.sample(labels, len(labels)), "categories": names}
    (folder / "t.json").write_text(json.dumps(held))
    return load_task(folder / "t.json")


def test_the_order_of_coco_annotations_does_not_matter_and_an_image_may_have_none(tmp_path: Path, png: Png) -> None:
    one, other = coco(tmp_path / "one", png, random.Random(0)), coco(tmp_path / "other", png, random.Random(1))
    assert one.data_hash == other.data_hash
    assert [e.id for e in few_shot(one, 2).train] == [e.id for e in few_shot(other, 2).train]
    assert sum(map(len, one.splits.values())) == 15


def parts(folder: Path) -> dict[str, Path]:
    return {
        name: write(folder / f"{name}.csv", "text,label", *(f"{name} {i},{i % 2}" for i in range(8)))
        for name in ("train", "val", "test")
    }


def test_files_of_their_own_for_parts_and_names_for_numbers(tmp_path: Path) -> None:
    files = parts(tmp_path)
    for name, text in {"n.txt": "quiet\nloud\n", "n.json": '["quiet", "loud"]', "n.yaml": "0: quiet\n1: loud"}.items():
        names = write(tmp_path / name, text)
        task = load_task(files["train"], validation=files["val"], test=str(files["test"]), classes=names)
        assert (task.name, task.answers) == ("train", ("quiet", "loud"))
        assert {part: len(found) for part, found in task.splits.items()} == {"train": 8, "validation": 8, "test": 8}
        assert {e.target for e in task.examples("test") if str(e.text).endswith("1")} == {"loud"}
    path = write(tmp_path / "t.yaml", "source: {train: train.csv, test: test.csv}", "classes: n.txt")
    assert load_task(path).answers == ("quiet", "loud")
    assert len(load_task(path, validation=files["val"]).examples("validation")) == 8
    assert load_task(path, classes=["one", "two"]).answers == ("one", "two")


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("quiet", "row 2: '1' is not among the declared classes"),
        ("quiet\n\nloud", "line 2: empty"),
        ("a\na", "'a' is listed twice"),
        ("1\n2", "row 1: '0' is not among the declared classes"),
    ],
)
def test_names_that_do_not_fit(tmp_path: Path, held: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_task(parts(tmp_path)["train"], classes=write(tmp_path / "n.txt", held))


def test_a_part_is_named_once(tmp_path: Path) -> None:
    files = parts(tmp_path)
    rows = [f"x {i},{i % 2},{('train', 'test')[i > 9]}" for i in range(12)]
    path = write(tmp_path / "whole.csv", "text,label,split", *rows)
    with pytest.raises(InputError, match="row 11: is of the test part, but its source is given as train"):
        load_task(path, validation=files["val"])


def test_two_folders_with_equal_names_inside_have_ids_of_their_own(tmp_path: Path, png: Png) -> None:
    for n, part in enumerate(("one", "two")):
        for m, name in enumerate(("cat", "dog")):
            for i in range(4):
                file = tmp_path / part / name / f"{i}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(png(100 * n + 10 * m + i))
    draw = few_shot(load_task(tmp_path / "one", validation=tmp_path / "two"), 2)
    assert len({e.id for e in draw.labels}) == len(draw.labels)


def test_labels_that_mean_none_are_left_out_of_any_shape(tmp_path: Path, png: Png) -> None:
    for m, name in enumerate(("cat", "dog", "unsure")):
        for i in range(4):
            file = tmp_path / "pets" / name / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(10 * m + i))
    heard: list[str] = []
    assert load_task(tmp_path / "pets", tell=heard.append, unlabelled=["unsure", "none"]).answers == ("cat", "dog")
    assert any("4 without a label are left out" in one for one in heard)
    assert any("no entry is labelled 'none'" in one for one in heard)
    path = write(tmp_path / "t.csv", "text,label", *(f"text {i},{i % 3 - 1}" for i in range(12)))
    assert load_task(path, unlabelled=["-1"]).answers == ("0", "1")


def test_nothing_is_said_of_a_named_task() -> None:
    with pytest.raises(InputError, match="is a named one, whose data is as it is; leave out --unlabelled"):
        load_task("elevater/dtd", unlabelled=["x"])


def test_all_of_it_by_flags(tmp_path: Path, pocket_is_tiny: Pocket, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"text {i},{('0', '1', '0;1', '-1')[i % 4]}" for i in range(40)]
    path = write(tmp_path / "t.csv", "text,label", *rows)
    other = write(tmp_path / "v.csv", "text,label", *(f"other {i},{i % 2}" for i in range(8)))
    names = write(tmp_path / "n.txt", "quiet", "loud")
    said = ["--validation", other, "--classes", names, "--unlabelled=-1", "--label-separator", ";", "--cap", "7"]
    said += ["--weight", "loud=2"]

    def run(*words: object) -> Any:
        assert cli.main([*map(str, (*words, *said)), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    checked = run("tasks", "check", path, "--shots", "9", "--backbone", "pocket")
    assert checked["outlook"]["parts"] == {"train": 14, "validation": 8}
    assert checked["outlook"]["short"] == []
    assert checked["outlook"]["expected"]["steps"] == 60
    shown = run("tasks", "show", path)
    assert (shown["answers"], shown["metric"]) == (["quiet", "loud"], "11-point-map")
    fitted = run("fit", path, "--steps", "2", "--out", tmp_path / "e")
    assert fitted["metric"] == "11-point-map"
    assert run("eval", tmp_path / "e", path, "--split", "validation")["n"] == 8
    answer = run("predict", tmp_path / "e", "text 1", "--task", path)["predictions"][0]
    assert set(answer["probabilities"]) == {"quiet", "loud"}
    assert cli.main(["predict", str(tmp_path / "e"), "text 1", "--classes", str(names)]) == 2
    assert "--classes says how a task's data is read" in capsys.readouterr().err
    assert cli.main(["fit", str(path), "--weight", "loud"]) == 2
    assert "--weight loud: expected CLASS=NUMBER" in capsys.readouterr().err
    assert cli.main(["multitask", str(path), str(other), "--pool", str(tmp_path / "p"), *map(str, said)]) == 2
    assert "--validation and --test are of one task" in capsys.readouterr().err


def test_classes_shorter_than_the_shots_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "t.csv", "text,label", *(f"text {i},{'ab'[i > 30]}" for i in range(40)))
    assert cli.main(["tasks", "check", str(path), "--shots", "16"]) == 0
    assert "fewer than 16 to learn from: 'b'" in capsys.readouterr().out
    write(path, "text,label", *(f"text {i},{'ab'[i > 30]}" for i in range(40)), "text 0,b")
    assert cli.main(["tasks", "check", str(path)]) == 2
    capsys.readouterr()
    assert cli.main(["tasks", "check", str(path), "--conflicts", "keep", "--limit", "10"]) == 0
    assert "fit will use: 6 train" in capsys.readouterr().out
