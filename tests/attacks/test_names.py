"""Names of strangers in everything that is shown: the terminal, pages, figures, Markdown, model cards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
import yaml
from tests.reports.conftest import Page, row

from pitune import cli
from pitune.experts import KINDS, Card, Expert
from pitune.experts.kind import read_settings
from pitune.experts.model_card import model_card
from pitune.prediction import TaskGraph
from pitune.reports import save_graph_svg, write_comparison, write_graph
from pitune.studies import ComparePlan, CompareResults

HOSTILE = [
    "<script>made()</script>",
    '"><img src=x onerror=made()>',
    "</svg><script>made()</script>",
    "a | b | c",
    "`code` [link](javascript:made())",
    "line\nof its own\r\n| cell |",
    "---\nlicense: mine\n---",
    "\x1b[31mred\x1b]0;owned\x07",
    "\u202egnp.exe",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &#60;",
    "\\",
    "]]>-->",
    "長い名前" * 90,
]
VERSIONS = dict.fromkeys(("python", "torch", "transformers", "peft", "pitune", "backbone", "fingerprint"), "1")


def compared(name: str) -> CompareResults:
    gain = {"shots": 4, "baseline": "single", "mean": 0.1, "low": None, "high": None, "tasks": {name: 0.1}}
    return CompareResults.of(
        {
            "schema": 1,
            "environment": {**VERSIONS, "threads": 1},
            "plan": ComparePlan().whole().model_dump(mode="json"),
            "rows": [row(name, "single", 0, 0.5), row(name, "pi", 0, 0.6)],
            "means": [{"method": one, "shots": 4, "mean": 0.5, "tasks": 1} for one in ("single", "pi")],
            "gains": [{**gain, "seeds": 1, "wins": 1, "losses": 0}],
        }
    )


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_and_figures_of_a_comparison(tmp_path: Path, name: str) -> None:
    write_comparison(compared(name), tmp_path, f"pitune study compare {name}")
    lines = (tmp_path / "results.md").read_text().splitlines()
    tables = [re.sub(r"\\.", "", line) for line in lines if line.startswith("|")]
    assert {line.count("|") for line in tables} <= {8, 4}  # of the two tables that there are
    assert lines[0].count("`") == 2
    assert not any(re.search(r"(?<!\\)(<script|<img|\[link)", line) for line in lines[1:])
    assert not set("".join(lines)) & set("\x1b\x07\u202e")
    tags = {one.tag.rpartition("}")[2] for one in ElementTree.parse(tmp_path / "gains.svg").iter()}
    assert not tags & {"script", "img", "a", "foreignObject"}


@pytest.mark.parametrize("name", HOSTILE)
def test_pages_and_figures_of_a_graph(tmp_path: Path, name: str) -> None:
    def page(names: tuple[str, ...]) -> Page:
        write_graph(TaskGraph(names, similarity), tmp_path / "graph.html", kinds={names[0]: "image"})
        return Page((tmp_path / "graph.html").read_text("utf-8"))

    similarity = np.array([[1, 0.5, 0.2], [0.5, 1, 0.3], [0.2, 0.3, 1]])
    plain, found = page(("a", "b", "c")), page((name, f"{name} b", "c"))
    assert sorted(tag for tag, _ in plain.elements if tag in ("script", "style")) == sorted(
        tag for tag, _ in found.elements if tag in ("script", "style")
    )
    assert {tag for tag, _ in found.elements} <= {tag for tag, _ in plain.elements} | {"text", "line", "tspan"}
    assert not [key for _, attributes in found.elements for key in attributes if key.startswith("on")]
    assert not set(found.html) & set("\x1b\x07\u202e")
    save_graph_svg(TaskGraph((name, "b", "c"), similarity), tmp_path / "graph.svg")
    ElementTree.parse(tmp_path / "graph.svg")


@pytest.mark.parametrize("name", HOSTILE)
def test_model_cards_and_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    card = Card(name="odd", backbone=name, base_model=name, task=name, metric=name, data_hash=name, validation=0.5)
    how: Any = {"method": "lora", "config": {}, "parameters": 1, "library": "peft", "loads": ("pitune",)}
    text = model_card(card, **how).decode()
    head = yaml.safe_load(text.split("---\n")[1])
    assert set(head) == {"base_model", "library_name"}
    plain = model_card(card.model_copy(update=dict.fromkeys(("backbone", "base_model", "task", "metric"), "a")), **how)
    assert len(text.splitlines()) == len(plain.decode().splitlines())
    kind = KINDS.get("lora")
    settings: Any = read_settings(kind, {"r": 2, "lora_alpha": 4, "target_modules": ["a"]}, "odd")
    tensors = {"a.lora_A.weight": torch.ones(2, 4), "a.lora_B.weight": torch.ones(3, 2)}
    Expert(kind, settings, tensors, card).save(tmp_path / "pool" / "odd")
    for command in (["list"], ["show", "odd"], ["verify"]):
        assert cli.main(["pool", *command, "--pool", str(tmp_path / "pool")]) == 0
        assert not set(capsys.readouterr().out) & set("\x1b\x07\r\u202e")
