"""What `pitune predict` takes and writes: whatever people have, and never a name of a file as a text."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zipfile import ZipFile

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.conftest import Command

import pitune
from pitune import cli
from pitune.backbones import Backbone
from pitune.pocket.backbone import Pocket
from pitune.tasks import Reader, Task, asked_task


@pytest.fixture(scope="module")
def experts(
    tiny_backbone: Backbone, tiny_tasks: dict[str, Task], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("experts")
    training = pitune.TrainingSettings(steps=3)
    for name in ("taste", "colour"):
        pitune.fit(tiny_backbone, tiny_tasks[name], shots=2, settings=training).save(folder / name)
    return {name: folder / name for name in ("taste", "colour")}


@pytest.fixture
def command(pocket_is_tiny: Pocket, command: Command) -> Command:
    """Run `pitune predict` on the tiny backbone."""
    return partial(command, "predict")


@pytest.fixture
def refused(pocket_is_tiny: object, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*arguments: object) -> str:
        assert cli.main([str(argument) for argument in ("predict", *arguments)]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        *notes, line = printed.err.splitlines()
        assert not any(note.startswith(("pitune: ", "Traceback")) for note in notes)
        return line

    return run


@pytest.fixture
def standard_input(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    return lambda data: monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def answers_of(found: dict[str, Any]) -> dict[str, str]:
    return {row["id"]: row["answer"] for row in found["predictions"]}


def test_an_expert_of_own_data_knows_what_it_was_asked(command: Command, experts: dict[str, Path]) -> None:
    found = command(experts["taste"], "sweet fresh")["predictions"]
    assert set(found[0]["probabilities"]) == {"good", "bad"}


def test_without_what_it_was_asked_an_expert_needs_a_task(
    refused: Callable[..., str], experts: dict[str, Path], tmp_path: Path
) -> None:
    made = pitune.load_expert(experts["taste"])
    plain = made.card.model_copy(update={"hyperparameters": {}})
    replace(made, card=plain).save(tmp_path / "plain")
    assert "was trained for 'taste'; give that task with --task" in refused(tmp_path / "plain", "hello")


def test_a_folder_of_images_at_any_depth(
    command: Command, experts: dict[str, Path], tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    folder = tiny_task_paths["colour"]
    images = sorted(folder.glob("*/*.png"))
    found = command(experts["colour"], folder)["predictions"]
    assert [Path(row["id"]) for row in found] == images
    assert [Path(row["input"]) for row in found] == images
    one_by_one = command(experts["colour"], *images[:3])["predictions"]
    for one, same in zip(one_by_one, found, strict=False):
        assert one["probabilities"] == pytest.approx(same["probabilities"], abs=1e-6)
    assert answers_of(command(experts["colour"], folder / "*" / "0*.png")).keys() == {
        str(image) for image in images if image.name.startswith("0")
    }
    assert len(command(experts["colour"], folder / "**")["predictions"]) == len(images)
    with ZipFile(tmp_path / "colour.zip", "w") as file:
        for image in images[:4]:
            file.write(image, f"colour/{image.parent.name}/{image.name}")
    assert len(command(experts["colour"], tmp_path / "colour.zip")["predictions"]) == 4


def test_a_folder_is_never_a_text(
    refused: Callable[..., str],
    command: Command,
    experts: dict[str, Path],
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "sweet").mkdir()
    monkeypatch.chdir(tmp_path)
    for more in ((), ("--answer", "good"), ("--task", tiny_task_paths["taste"])):
        assert "sweet: a folder without images" in refused(experts["taste"], "sweet", *more)
    assert command(experts["taste"], "sweet fresh")["predictions"]
    folder = tiny_task_paths["colour"]
    assert len(command(experts["taste"], folder, "--answer", "good", "--answer", "bad")["predictions"]) == 72
    assert "task 'taste' reads texts" in refused(experts["taste"], folder)


@pytest.mark.parametrize("more", [(), ("--answer", "red")])
def test_a_text_for_a_task_of_pictures_is_refused(
    more: tuple[str, ...], refused: Callable[..., str], experts: dict[str, Path], tiny_task_paths: dict[str, Path]
) -> None:
    for word in ("a red thing", "flags", "flags/red", "flags/red.png"):
        for task in ((), ("--task", tiny_task_paths["colour"])):
            line = refused(experts["colour"], word, *more, *task)
            assert word in line
            assert "no such file" in line
            assert "reads images" in line


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("out", ["csv", "tsv", "jsonl", "parquet"])
def test_a_table_of_texts(suffix: str, out: str, command: Command, experts: dict[str, Path], tmp_path: Path) -> None:
    texts = ["sweet fresh", "sour, stale", 'so "cold"', "warm", "é ü", "tear"]
    rows = [{"id": f"r{i}", "said": text, "text": "-"} for i, text in enumerate(texts)]
    table = tmp_path / f"new.{suffix}"
    if suffix == "parquet":
        import pyarrow as pa

        pq.write_table(pa.Table.from_pylist(rows), table)
    elif suffix == "jsonl":
        table.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    else:
        with table.open("w", encoding="utf-8", newline="") as sink:
            writer = csv.DictWriter(sink, list(rows[0]), delimiter="\t" if suffix == "tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    expected = command(experts["taste"], *texts)["predictions"]
    file = tmp_path / f"out.{out}"
    told = command(experts["taste"], table, "--column", "text=said", "--out", file, "--top", 2)
    assert (told["n"], told["out"]) == (len(texts), str(file))
    assert sum(told["answers"].values()) == len(texts)
    found = read_out(file)
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert [row["input"] for row in found] == texts
    for row, one in zip(found, expected, strict=True):
        assert row["answer"] == one["answer"]
        assert float(row["probability"]) == pytest.approx(one["probability"], abs=1e-6)
        if out == "jsonl":
            assert row["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
        else:
            other = {"good": "bad", "bad": "good"}[one["answer"]]
            assert row["answer_2"] == other
            assert float(row["probability_2"]) == pytest.approx(one["probabilities"][other], abs=1e-6)


def read_out(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
        return rows
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t" if file.suffix == ".tsv" else ","))


def test_a_table_of_images_beside_it(
    command: Command, refused: Callable[..., str], experts: dict[str, Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        Image.new("RGB", (9, 9), {"a": "red", "b": "blue"}[name]).save(tmp_path / f"{name}.png")
    table = tmp_path / "new.csv"
    table.write_text("image,title\na.png,what\nb.png,ever\n", encoding="utf-8")
    found = command(experts["colour"], table)["predictions"]
    assert [row["id"] for row in found] == [f"{table}, row 1", f"{table}, row 2"]
    assert [Path(row["input"]).name for row in found] == ["a.png", "b.png"]
    assert set(found[0]["probabilities"]) == {"red", "green", "blue"}
    table.write_text("image\na.png\nc.png\n", encoding="utf-8")
    assert f"{table}, row 2: cannot be read (no such file)" in refused(experts["colour"], table)
    table.write_text("words\nsweet\n", encoding="utf-8")
    assert "found columns words; expected image" in refused(experts["colour"], table)
    table.write_text('text\nsweet\n""\n', encoding="utf-8")
    assert "row 2: neither text nor image" in refused(experts["taste"], table)


def test_lines_of_standard_input_and_of_a_text_file(
    command: Command,
    refused: Callable[..., str],
    experts: dict[str, Path],
    standard_input: Callable[[bytes], None],
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
) -> None:
    lines = "sweet fresh\r\n\nsour\u2028stale\nphoto.jpg\n".encode()
    standard_input(lines)
    found = command(experts["taste"], "-")["predictions"]
    assert [row["id"] for row in found] == [f"standard input, line {number}" for number in (1, 3, 4)]
    assert [row["input"] for row in found] == ["sweet fresh", "sour\u2028stale", "photo.jpg"]
    (tmp_path / "lines.txt").write_bytes(lines)
    same = command(experts["taste"], tmp_path / "lines.txt")["predictions"]
    assert [row["answer"] for row in same] == [row["answer"] for row in found]
    images = sorted(tiny_task_paths["colour"].glob("*/0*.png"))[:3]
    standard_input("\n".join(map(str, images)).encode())
    assert list(answers_of(command(experts["colour"], "-"))) == [str(image) for image in images]
    standard_input(b"sweet\n\xff\n")
    assert "standard input: not UTF-8" in refused(experts["taste"], "-")
    standard_input(b"\n \n")
    assert "found no inputs" in refused(experts["taste"], "-")


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    word=st.text(max_size=300)
    | st.text("*?[]/.-~ab\\\x00", max_size=12)
    | st.sampled_from(["", "/", "-", "..", "\udcff", "a" * 5000]),
    reads=st.sampled_from([None, frozenset({"text"}), frozenset({"image"}), frozenset({"image", "text"})]),
)
def test_any_word_is_inputs_or_one_error(word: str, reads: frozenset[str] | None, tmp_path: Path) -> None:
    task = Task("any", {}, answers=("good", "bad"))
    before = Path.cwd()
    below = tmp_path / "a" / "b" / "c"  # so that `..` is empty too
    below.mkdir(parents=True, exist_ok=True)
    os.chdir(below)
    try:
        found = Reader(task, reads, standard_input=lambda _: b"one\ntwo").read([word])
    except pitune.InputError:
        return
    finally:
        os.chdir(before)
    assert [one.text for one in found] == (["one", "two"] if word == "-" else [word])
    assert reads is None or "image" not in reads


def test_a_file_of_answers_is_whole_or_not_there(
    refused: Callable[..., str], experts: dict[str, Path], tmp_path: Path
) -> None:
    table = tmp_path / "new.csv"
    table.write_text("text\nsweet\n", encoding="utf-8")
    assert "is one of the inputs" in refused(experts["taste"], table, "--out", table)
    assert table.read_text(encoding="utf-8") == "text\nsweet\n"
    out = tmp_path / "out.csv"
    out.write_text("before", encoding="utf-8")
    assert "no such file" in refused(experts["colour"], tmp_path / "none.png", "--out", out)
    assert out.read_text(encoding="utf-8") == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv", "out.csv"]


def test_long_inputs_have_a_bar_on_a_terminal(
    command: Command, experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pitune.commands.predict.watched", lambda: True)
    words = [str(experts["taste"]), *(f"sweet word{i}" for i in range(80)), "--json"]
    assert cli.main(["predict", *words]) == 0
    assert "answering" in capsys.readouterr().err
    assert cli.main(["predict", *words[:4], "--json"]) == 0
    assert "answering" not in capsys.readouterr().err


def test_python_takes_what_an_expert_keeps_of_its_task(
    tiny_backbone: Backbone, tiny_tasks: dict[str, Task], experts: dict[str, Path], tiny_task_paths: dict[str, Path]
) -> None:
    expert = pitune.load_expert(experts["colour"])
    image = tiny_task_paths["colour"] / "red" / "00.png"
    kept, given = (
        pitune.predict(tiny_backbone, task, expert, [image, str(image)]) for task in (None, tiny_tasks["colour"])
    )
    assert [one.probabilities for one in kept] == [one.probabilities for one in given]
    with pytest.raises(pitune.InputError, match="reads images"):
        pitune.predict(tiny_backbone, None, expert, ["a red thing"])


@pytest.mark.parametrize(
    "kept",
    [
        None,
        3,
        {},
        {"answers": "red", "template": "{}", "answer_template": "{}"},
        {"answers": [1], "template": "{}", "answer_template": "{}"},
        {"answers": ["a", "a"], "template": "{}", "answer_template": "{}"},
        {"answers": ["a"], "template": "{0.__class__}", "answer_template": "{}"},
        {"answers": ["a"], "template": None, "answer_template": "{}"},
    ],
)
def test_what_a_strangers_card_keeps_is_checked(kept: object) -> None:
    assert asked_task("theirs", kept) is None
