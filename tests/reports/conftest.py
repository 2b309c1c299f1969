"""A small `results.json`, and a reader of pages that collects what a browser would see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import apart

from pitune import cli
from pitune.pocket.backbone import Pocket
from pitune.reports import write_report
from pitune.studies import (
    PI,
    SINGLE,
    STAGES,
    ComparePlan,
    CompareResults,
    DemoResults,
    Environment,
    PredictorsResults,
    PromptPlan,
    PromptsResults,
    Results,
    Row,
    SettingsResults,
    Summary,
    TransferPlan,
    TransferResults,
    method_means,
    summed_gains,
)

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
def studies(results: dict[str, Any]) -> dict[str, Results]:
    """Results of every study but the demo's, by its name."""
    environment = Environment.model_validate(results["environment"])
    tasks = [f"pocket/a-task-with-a-longer-name-{i}" for i in range(12)]
    methods = (PI, SINGLE, "zero-shot", "uniform mix", "start from a multitask source")

    def measured(names: Sequence[str], **more: Any) -> list[Row]:
        return [
            Row(**row(task, name, seed, 0.4 + (i + 3 * j + seed) % 5 / 10), untouched=j == 1 and i == seed, **more)
            for i, task in enumerate(tasks)
            for j, name in enumerate(names)
            for seed in range(2)
        ]

    def of(kind: type[Results], rows: Sequence[Row], **rest: Any) -> Results:
        return kind(schema=1, environment=environment, rows=tuple(rows), **rest)

    rows = measured(methods)
    gains = [gain for name in methods[1:] for gain in summed_gains(rows, PI, name)]
    prompts = ("text_prompt from multitask", "text_prompt alone", "zero-shot")
    over = summed_gains(measured(prompts), *prompts[:2])
    spread = {"mean": 0.3, "low": 0.1, "high": 0.5}
    summary = dict.fromkeys(("spearman", "regret", "recall", "gain"), spread)
    told = [
        Summary.model_validate({"predictor": name, "targets": 12, "seeds": 2, "by_target": {}, **summary})
        for name in ("probe-fisher", "trial")
    ]
    values = [[None if i == j else (i - j) / 12 for j in range(12)] for i in range(12)]
    asked = {"tasks": tasks, "shots": 4}
    return {
        "compare": of(CompareResults, rows, plan=ComparePlan(), means=method_means(rows, methods), gains=gains),
        "settings": of(SettingsResults, rows, means=method_means(rows, methods), gains=gains),
        "prompts": of(
            PromptsResults,
            measured(prompts),
            study="coop",
            plan=PromptPlan(protocol="coop", sources=tuple(tasks), targets=tuple(tasks)),
            means=method_means(measured(prompts), prompts),
            gains=over,
        ),
        "predictors": of(
            PredictorsResults,
            measured([f"trial {task}" for task in tasks]),
            plan=ComparePlan(),
            predictors={"unchanged": told, "unchanged-loss": told},
            reliability={},
        ),
        "transfer": of(
            TransferResults,
            measured([f"from {task} (test)" for task in tasks]),
            study="transfer",
            plan=TransferPlan.model_validate(asked),
            tasks=tuple(tasks),
            transfer={half: dict.fromkeys(STAGES, values) for half in ("validation", "test")},
            similarity={},
            correlations={stage: {} for stage in STAGES},
        ),
    }


@pytest.fixture
def page(tmp_path: Path) -> Callable[[dict[str, Any]], Page]:
    def write(results: dict[str, Any]) -> Page:
        write_report(DemoResults.of(results), tmp_path / "report.html")
        return Page((tmp_path / "report.html").read_text("utf-8"))

    return write


@pytest.fixture(scope="session")
def made(tiny_backbone: Pocket, tiny_task_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the pool of two tasks, and the run, the expert and two pages of a third that is tuned with it."""
    folder = tmp_path_factory.mktemp("made")
    with apart(tiny_backbone, folder):
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
        page = ["report", folder / "expert", "--task", tiny_task_paths["colour"], "--html", folder / "evaluated.html"]
        assert cli.main([str(one) for one in page]) == 0
    return folder
