"""A small `results.json`, and a reader of pages that collects what a browser would see."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pitune import cli
from pitune.pocket.backbone import Pocket
from pitune.reports import write_report
from pitune.studies import DemoResults

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, the text outside scripts and styles, and whether every tag was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.html = html
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style") and data.strip():
            self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return "\n".join(self.texts)

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]


def row(task: str, method: str, seed: int, value: float, **other: Any) -> dict[str, Any]:
    found = {"task": task, "method": method, "shots": 4, "seed": seed, "metric": "accuracy", "value": value}
    return {**found, "n": 360, "seconds": 2.0, **other}


@pytest.fixture
def results() -> dict[str, Any]:
    rows = [
        row("pocket/digits", "zero-shot", 0, 0.10),
        *(row("pocket/digits", "single", seed, value) for seed, value in enumerate((0.50, 0.52, 0.54))),
        *(row("pocket/digits", "pi", seed, value) for seed, value in enumerate((0.60, 0.61, 0.62))),
        *(row("pocket/digits", "zz other", seed, 0.3) for seed in range(3)),
        *(row("pocket/nyt", "single", seed, value, n=800) for seed, value in enumerate((0.80, 0.81, 0.82))),
        *(row("pocket/nyt", "pi", seed, value, n=800) for seed, value in enumerate((0.78, 0.80, 0.79))),
    ]
    versions = {"python": "3.11.9", "torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.19.1"}
    return {
        "schema": 1,
        "environment": {**versions, "pitune": "0.1.0", "threads": 2, "backbone": "pocket", "fingerprint": "f" * 64},
        "command": "pitune demo --out demo",
        "graph": {
            "names": ["mnist", "tweets", "digits", "nyt"],
            "tasks": ["pocket/mnist", "pocket/tweets", "pocket/digits", "pocket/nyt"],
            "similarity": [
                [1.0, 0.61, 0.93, 0.6],
                [0.61, 1.0, 0.62, 0.88],
                [0.93, 0.62, 1.0, 0.63],
                [0.6, 0.88, 0.63, 1.0],
            ],
            "kinds": ["image", "text", "image", "text"],
            "scores": [{"metric": "accuracy", "value": 0.951}, None, None, None],
        },
        "targets": {
            "pocket/digits": {
                "shots": 4,
                "neighbours": [["mnist", 0.93], ["tweets", 0.62]],
                "weights": {
                    "encoder.layer.10": {"mnist": 0.5, "digits": 0.25, "tweets": -0.125},
                    "encoder.layer.2": {"mnist": 0.75, "digits": 0.5, "tweets": 0.0},
                },
                "choice": "free",
                "candidates": [
                    {"name": "free", "validation": 0.7, "loss": 1.2345},
                    {"name": "softmax", "validation": 0.6, "loss": 1.5},
                ],
            }
        },
        "rows": rows,
        "gains": [
            {"task": "pocket/nyt", "baseline": "single", "mean": -0.02, "low": -0.06, "high": 0.02, "seeds": 3},
            {"task": "pocket/digits", "baseline": "single", "mean": 0.09, "low": 0.065, "high": 0.115, "seeds": 3},
        ],
    }


@pytest.fixture
def page(tmp_path: Path) -> Callable[[dict[str, Any]], Page]:
    def write(results: dict[str, Any]) -> Page:
        write_report(DemoResults.of(results), tmp_path / "report.html")
        return Page((tmp_path / "report.html").read_text("utf-8"))

    return write


@pytest.fixture(scope="session")
def made(tiny_backbone: Pocket, tiny_task_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pool of two tasks, and the run, the expert and the page of a third that is tuned with it."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PITUNE_HOME", str(folder / "home"))
        patch.setattr("pitune.pocket.backbone.load_pocket", lambda device: tiny_backbone)
        for name in ("mood", "place"):
            fit = ["fit", tiny_task_paths[name], "--pool", folder / "pool", "--steps", "4", "--rank", "2"]
            assert cli.main([str(one) for one in fit]) == 0
        where = ["--out", folder / "expert", "--run", folder / "run", "--html", folder / "tune.html"]
        tune = [
            "tune",
            tiny_task_paths["colour"],
            "--pool",
            folder / "pool",
            "--steps",
            "4",
            "--shots",
            "4",
            "--folds",
            "2",
            *where,
        ]
        assert cli.main([str(one) for one in tune]) == 0
    return folder
