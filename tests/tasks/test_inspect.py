"""`tasks check` goes on past what is wrong, and tells all of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pitune import cli
from pitune.tasks import Inspection, inspect, load_task, outlook, read_task
from pitune.tasks.inspection import difference_hash


def picture(seed: int, size: int = 32) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, start in (("train", 0), ("test", 100)):
        for offset, name in enumerate(("cat", "dog")):
            where = tmp_path / "pets" / part / name
            where.mkdir(parents=True)
            for i in range(4):
                picture(start + 10 * offset + i).save(where / f"{i}.png")
    return tmp_path / "pets"


def look(path: Path) -> Inspection:
    return inspect(read_task(path))


def test_sound_data(folder: Path) -> None:
    found = look(folder)
    assert found.problems == found.remarks == ()
    assert found.classes == {"cat": {"train": 4, "test": 4}, "dog": {"train": 4, "test": 4}}
    assert found.modes == {"RGB": 16}
    assert [one["target"] for one in found.preview] == ["cat", "dog"]


def test_everything_wrong_is_told_at_once(folder: Path) -> None:
    (folder / "train" / "cat" / "leak.png").write_bytes((folder / "test" / "cat" / "0.png").read_bytes())
    (folder / "train" / "cat" / "copy.png").write_bytes((folder / "train" / "cat" / "0.png").read_bytes())
    (folder / "train" / "dog" / "broken.png").write_bytes(b"no image")
    (folder / "train" / "bird").mkdir()
    picture(110).resize((64, 64)).save(folder / "train" / "dog" / "alike.jpg")
    picture(500).convert("RGBA").save(folder / "train" / "dog" / "clear.png")
    problems, remarks = "\n".join(look(folder).problems), "\n".join(look(folder).remarks)
    assert "test/cat/0.png (test) and train/cat/leak.png (train) hold the same input" in problems
    assert "broken.png: not a readable image" in problems
    assert "class 'bird' is empty" in problems
    assert "train/cat/copy.png is a copy of train/cat/0.png" in remarks
    assert "test/dog/0.png (test) and train/dog/alike.jpg (train) look alike" in remarks
    assert "1 image(s) have mode RGBA" in remarks


def test_what_fit_will_use_is_said_last(tmp_path: Path) -> None:
    rows = [f"some words {i},{'ab'[i > 8]}" for i in range(12)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    said = (
        "fit will use: 7 train, 2 validation, 3 test; 2 classes; to learn from 1 of the rarest 'b' to 6 of the "
        "commonest 'a'; with 2 shots 3 training and 2 validation labels; the longest text of 3 words"
    )
    found = outlook(load_task(tmp_path / "t.csv"), 2)
    assert found.line == said
    assert found.warning == "fewer than 2 to learn from: 'b'; fit takes what they have with --at-most"


def test_remarks_of_one_kind_are_a_few_and_a_count(tmp_path: Path) -> None:
    for part, start in (("train", 0), ("test", 40)):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
        for i in range(40):
            shade = picture(7).point(lambda value, by=start + i: value // 2 + by)
            shade.save(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png")
    remarks = look(tmp_path).remarks
    alike = [one for one in remarks if "alike" in one]
    assert len(alike) == 4
    assert alike[-1].endswith("more pairs of images in different parts look alike")
    rows = [f"some words {i % 9},{i % 3}" for i in range(90)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    remarks = look(tmp_path / "t.csv").remarks
    assert "78 more copies" in remarks
    assert any("class name '0' is a number (and 2 more)" in one for one in remarks)


def test_what_becomes_of_conflicts_is_a_remark(tmp_path: Path) -> None:
    rows = [*(f"some words {i},{'ab'[i % 2]}" for i in range(12)), "some words 0,b"]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    assert look(tmp_path / "t.csv").problems
    found = inspect(read_task(tmp_path / "t.csv"), "drop")
    assert found.problems == ()
    assert any(one.endswith("labelled 'a' and 'b'; left out") for one in found.remarks)
    kept = inspect(read_task(tmp_path / "t.csv"), "keep")
    assert any(one.endswith("labelled 'a' and 'b'; kept once as 'a' in the whole") for one in kept.remarks)


def test_class_names_that_read_badly(tmp_path: Path) -> None:
    names = ["n01440764", "7", "x", "runTogether", "class 3", "fine words"]
    rows = [f"text {i} {name},{name}" for name in names for i in range(3)]
    rows += [f"more {i},7" for i in range(40)]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    told = "\n".join(look(tmp_path / "t.csv").remarks)
    for name, reason in zip(
        names, ("WordNet number", "a number", "one letter", "runs words", "says nothing", None), strict=True
    ):
        assert (f"class name {name!r} " in told) == (reason is not None)
        assert reason is None or reason in told
    assert "class '7' is 14 times as frequent" in told


def test_rows_that_are_wrong_are_all_named(tmp_path: Path) -> None:
    rows = ["a,x", "b,", "c,y", "d,", "a,y"]
    (tmp_path / "t.csv").write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    problems = look(tmp_path / "t.csv").problems
    assert [line.split(":")[0].rsplit(", ", 1)[1] for line in problems[:2]] == ["row 2", "row 4"]
    assert "row 1 and " in problems[2]
    assert "labelled 'x' and 'y'" in problems[2]


def test_the_difference_hash_sees_through_size_and_compression(tmp_path: Path) -> None:
    first = picture(1, 64)
    first.save(tmp_path / "small.jpg", quality=60)
    with Image.open(tmp_path / "small.jpg") as again:
        assert (difference_hash(first) ^ difference_hash(again.resize((40, 40)))).bit_count() <= 3
    assert (difference_hash(first) ^ difference_hash(picture(2))).bit_count() > 10


def test_the_command_tells_everything_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(12):
        place = tmp_path / "pets" / ("cat", "dog")[n % 2] / f"{n}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture(n).save(place)
    assert cli.main(["tasks", "check", str(tmp_path / "pets")]) == 0
    printed = "".join(capsys.readouterr())
    assert printed.count("answers are matched as 'a photo of a {}.'") == 1
    rows = ["review;class", *(f"text {n};{n % 2}" for n in range(30))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    for status, row in ((0, ""), (2, "\ntext 1;0")):  # of data that cannot be used it tells the same
        (tmp_path / "t.csv").write_text("\n".join(rows) + row)
        assert cli.main(["tasks", "check", str(tmp_path / "t.csv")]) == status
        printed = "".join(capsys.readouterr())
        assert printed.count("text from column 'review', label from column 'class'") == 1
        assert printed.count("fields are divided by ';'") == 1


def test_the_command_prints_a_report(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tasks", "check", str(folder)]) == 0
    assert "pets: sound (8 test, 8 train)" in capsys.readouterr().out
    (folder / "train" / "dog" / "0.png").write_bytes(b"broken")
    assert cli.main(["tasks", "check", str(folder), "--json"]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["sound"] is False
    assert len(printed.err.splitlines()) == 1
    assert "0.png: not a readable image" in printed.err
