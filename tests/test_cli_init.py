"""`pitune init` writes a YAML that is the same task, says all fields, and stays so whatever field is taken in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.conftest import Command

from pitune.tasks import load_task
from pitune.tasks.formats.declaration import Declaration


@pytest.mark.parametrize("name", ["taste", "colour"])
def test_the_yaml_is_the_task_it_was_made_of(
    name: str, command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    command("init", tiny_task_paths[name], "--out", file)
    task = load_task(tiny_task_paths[name])
    text = file.read_text(encoding="utf-8")
    assert re.findall(r"^(?:# )?(\w+): ", text, re.MULTILINE) == list(Declaration.model_fields)
    for field in ("", *Declaration.model_fields):
        file.write_text(
            re.sub(rf"^# ({field}: )", r"\1", text, flags=re.MULTILINE) if field else text, encoding="utf-8"
        )
        again = load_task(file)
        assert (again.data_hash, again.answers, again.metric) == (task.data_hash, task.answers, task.metric), field
        assert again.answer_templates == task.answer_templates, field


def test_what_flags_say_is_in_the_yaml(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("learn", "judge"):
        rows = [f"{part} number {n},{n % 2}" for n in range(12)]
        Path(f"{part}.csv").write_text("\n".join(["review,stars", *rows]), encoding="utf-8")
    line = ["init", "learn.csv", "--column", "label=stars", "--test", "judge.csv", "--weight", "1=3", "--cap", "5"]
    assert command(*line)["file"] == "learn.yaml"
    said = yaml.safe_load(Path("learn.yaml").read_text(encoding="utf-8"))
    assert said == {
        "name": "learn",
        "source": {"train": "learn.csv", "test": "judge.csv"},
        "columns": {"text": "review", "label": "stars"},
        "cap": 5,
        "weights": {"1": 3.0},
    }
    assert len(load_task("learn.yaml").examples("train")) <= 10


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--out", "taken.yaml"), "taken.yaml: exists; choose another name with --out"),
        (("--out", "mine.txt"), "mine.txt: expected a name that ends in .yaml"),
        (("--column", "label=stars"), "no column 'stars'"),
    ],
)
def test_refused(
    more: tuple[str, ...],
    says: str,
    command: Command,
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.yaml").write_text("name: taken", encoding="utf-8")
    assert says in command("init", tiny_task_paths["taste"], *more, fails=True)
    assert not Path("taste.yaml").exists()
    assert Path("taken.yaml").read_text(encoding="utf-8") == "name: taken"
