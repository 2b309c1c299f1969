"""YAML of strangers, as a task and as a command's options: no tag makes an object, and no alias grows."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.attacks.answers import answered, refused

from pitune import cli

TAGS = [
    "!!python/object/apply:os.system ['touch made']",
    "!!python/object/new:os.system ['touch made']",
    "!!python/object:pitune.tasks.Task {}",
    "!!python/name:os.system",
    "!!python/module:antigravity",
    "!!python/tuple [1]",
    "!mine x",
    "!<tag:yaml.org,2002:python/object/apply:os.system> ['touch made']",
    "!!binary '%%%'",
    "!!timestamp 'yesterday'",
    "!!int 'x'",
    "!!float 'x'",
    "!!omap 3",
    "!!pairs [1]",
]
BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
ODD = {
    "alias bomb": BOMB,
    "quiet alias": "about: &x a\nname: *x",
    "endless alias": "about: &x [*x]",
    "deep lists": "about: " + "[" * 100_000,
    "deep maps": "about: " + "{a: " * 50_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(2_000)),
    "long number": f"cap: {'9' * 6_000}",
    "sexagesimal": f"cap: 1{':59' * 3_000}",
    "sexagesimal float": f"cap: 1{':59' * 3_000}.5",
    "huge float": "cap: 1.0e+999",
    "not a number": "weights: {a: .nan, b: 1}",
    "infinite": "weights: {a: .inf, b: 1}",
    "negative": "weights: {a: -1, b: 1}",
    "no date": "name: 2020-99-99",
    "no time": "name: 2020-01-01 99:99:99",
    "twice": "name: a\nname: b",
    "field of a map": "? {a: b}\n: c",
    "field of a list": "? [a]\n: c",
    "field of none": "null: 3",
    "field of a number": "1: 2",
    "escape": '"\\e[31mred": 1',
    "escape in a value": 'metric: "\\e[2J"',
    "null byte": "name: a\0b",
    "written null byte": 'source: "a\\0b"',
    "surrogate": 'source: "\\ud800"',
    "tab": "name:\n\t- a",
    "two documents": "name: a\n---\nname: b",
    "long name": f"name: {'a' * 10_000}",
    "outside": "source: ../../../../../etc/hostname",
    "system": "source: /proc/self/mem",
    "device": "source: /dev/zero",
    "itself": "source: task.yaml",
    "hub": "source: 'hf:'",
    "no gap": "template: x",
    "two gaps": "template: '{} {}'",
    "code in a gap": "template: '{0.__class__}'",
    "named gap": "answer_template: '{x}'",
    "many templates": f"templates: [{', '.join(['{}x'] * 3)}, 3]",
    "empty": "",
    "list": "- a",
    "number": "3",
    "hook": "hook: os.system",
    "import": "metric: os.system",
    "separator": "label_separator: ''",
    "classes from outside": "classes: /etc/shadow",
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("field", ["{}", "name: {}", "columns: {{label: {}}}", "classes: [{}]", "? {}\n: 1"])
def test_a_tag_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str, field: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "task.yaml").write_text(field.format(tag))
    assert refused(tmp_path / "task.yaml")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ODD)
def test_an_odd_declaration_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "data.csv").write_text("text,label\n" + "".join(f"t{i},{'ab'[i % 2]}\n" for i in range(12)))
    source = (
        "" if "source" in ODD[name] or name in ("empty", "list", "number", "two documents") else "source: data.csv\n"
    )
    (tmp_path / "task.yaml").write_bytes((source + ODD[name]).encode("utf-8", "surrogatepass"))
    assert answered(tmp_path / "task.yaml")


@pytest.mark.parametrize("data", [b"\xff\xfe\0\0", "name: é".encode("latin-1"), b"# " + b"x" * (5 << 20)])
def test_bytes_that_are_no_yaml(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "task.yaml").write_bytes(data)
    assert refused(tmp_path / "task.yaml").startswith(f"{tmp_path / 'task.yaml'}: ")


@pytest.mark.parametrize("text", ["alias bomb", "quiet alias", "deep lists", "twice", "no date", "long number"])
def test_options_in_yaml_are_read_as_carefully(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "options.yaml").write_text(ODD[text])
    assert cli.main(["tasks", "list", "--config", str(tmp_path / "options.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.isprintable()
