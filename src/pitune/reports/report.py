"""The report of a run, the page of a task graph, and its figure: each one file that needs no network."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pitune.errors import InputError
from pitune.files import write_atomic
from pitune.reports.comparison import learned_nothing
from pitune.reports.conditions import conditions_of
from pitune.reports.gains import gain_charts, seed_charts, verdict
from pitune.reports.graph_section import describe_graph
from pitune.reports.network import Network, draw_network
from pitune.reports.numbers import unit_of
from pitune.reports.page import render, still
from pitune.reports.table import build_table
from pitune.reports.text import natural_key
from pitune.reports.weights import describe_mix
from pitune.studies import DemoResults, Environment, ExpertScore

if TYPE_CHECKING:
    from pitune.prediction import TaskGraph


def write_report(results: DemoResults, path: Path) -> None:
    """Write the whole of a run's `results.json` as one HTML file; equal results give equal bytes."""
    page = render(
        "report.html",
        environment=results.environment,
        setting=_setting(results.environment),
        verdict=demo_verdict(results),
        conditions=conditions_of(results),
        gains=gain_charts(results.gains, results.rows),
        graph=describe_graph(_network(results)),
        mixes=[describe_mix(task, results.targets[task]) for task in sorted(results.targets, key=natural_key)],
        table=build_table(results.rows),
        seeds=seed_charts(results.rows),
        rows=sorted(results.rows, key=lambda row: (natural_key(row.task), row.method, row.seed)),
        install=_install(results.environment),
        command=results.command,
    )
    write_atomic(path, page)


def demo_verdict(results: DemoResults) -> str:
    """Return what a demo found, in a sentence or two."""
    return verdict(results.gains) + learned_nothing(results.rows)


def write_graph(
    graph: TaskGraph,
    path: Path,
    *,
    kinds: Mapping[str, str] | None = None,
    scores: Mapping[str, ExpertScore] | None = None,
    k: int = 2,
) -> None:
    """Write a task graph and its matrix as one HTML file.

    `kinds` names each task's kind, such as image or text, which gives its node's colour and shape, `scores` how good
    its expert is; each node is joined to its `k` nearest. Raises `InputError` for similarities that are not finite or
    not square.
    """
    write_atomic(path, render("pool.html", graph=describe_graph(_plain_network(graph, kinds, k, scores))))


def save_graph_svg(graph: TaskGraph, path: Path, kinds: Mapping[str, str] | None = None, k: int = 2) -> None:
    """Write a task graph as a still SVG for a document."""
    write_atomic(path, still(draw_network(_plain_network(graph, kinds, k), alone=True)))


def _plain_network(
    graph: TaskGraph, kinds: Mapping[str, str] | None, k: int, scores: Mapping[str, ExpertScore] | None = None
) -> Network:
    if k < 1:
        raise InputError(f"k is {k}; expected 1 or more neighbours")
    count, shape = len(graph.names), graph.similarity.shape
    if count < 2 or shape != (count, count) or not np.isfinite(graph.similarity).all():
        raise InputError(f"task graph: found {count} names and similarities of shape {shape}; expected at least 2 "
                         "names, and a finite similarity for every two of them")  # fmt: skip
    of_each = tuple((kinds or {}).get(name, "") for name in graph.names)
    shown = tuple(_show_score((scores or {}).get(name)) for name in graph.names)
    return Network(graph.names, np.asarray(graph.similarity, dtype=np.float64), of_each, shown, k=k)


def _network(results: DemoResults) -> Network:
    graph, count = results.graph, len(results.graph.names)
    targets = frozenset(i for i in range(count) if {graph.names[i], graph.tasks[i]} & results.targets.keys())
    scores = graph.scores or (None,) * count
    return Network(
        graph.names,
        np.array(graph.similarity, dtype=np.float64),
        graph.kinds or ("",) * count,
        tuple(_show_score(score) for score in scores),
        targets,
    )


def _show_score(score: ExpertScore | None) -> str:
    if score is None:
        return ""
    unit = unit_of([score.value])
    return f"{score.metric} {unit.show(score.value)}{unit.name}"


def _setting(environment: Environment) -> Sequence[tuple[str, str]]:
    """Return what the reader sees of the environment, as names and values."""
    shown = ("pitune", "python", "torch", "transformers", "peft", "threads", "backbone", "fingerprint")
    return [(name, str(getattr(environment, name))) for name in shown]


def _install(environment: Environment) -> str:
    """Return the command that installs the same versions, quoted for a shell."""
    pins = [f"{name}=={getattr(environment, name).split('+')[0]}" for name in ("torch", "transformers", "peft")]
    return f"pip install {shlex.join(pins)} ."
