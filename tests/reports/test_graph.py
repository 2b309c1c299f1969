from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from pitune.errors import InputError
from pitune.prediction import TaskGraph
from pitune.reports import save_graph_svg, write_graph
from pitune.studies import ExpertScore

OF_PAGES = r"var\(|currentColor|color-mix|paint-order"  # what programs other than browsers do not know
HOSTILE = '<b onclick="x()">&</b>\x00'


def graph_of(count: int) -> TaskGraph:
    points = np.random.default_rng(0).normal(size=(count, 4))
    similarity = np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 20)
    return TaskGraph((*(f"task-{i}" for i in range(count - 1)), HOSTILE), similarity)


@pytest.mark.parametrize("count", [2, 3, 12])
def test_page_has_each_node_each_cell_and_no_resource(tmp_path: Path, count: int) -> None:
    graph = graph_of(count)
    write_graph(graph, tmp_path / "graph.html", k=3)
    html = (tmp_path / "graph.html").read_text("utf-8")
    assert html.count("data-about=") == count
    assert html.count('<td class="above') + html.count('<td class="none"') == count * count
    assert "<b onclick" not in html
    assert "&lt;b onclick=" in html
    assert "http" not in html.replace("http-equiv", "")


def test_svg_is_well_formed_and_names_every_task(tmp_path: Path) -> None:
    save_graph_svg(graph_of(6), tmp_path / "graph.svg", kinds={"task-0": "image", "task-1": "text"})
    root = ElementTree.parse(tmp_path / "graph.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    titles = [title.text or "" for title in root.iter(f"{space}title")]
    assert [title.split(" ")[0].rstrip(".") for title in titles[:5]] == [f"task-{i}" for i in range(5)]
    assert titles[0].startswith("task-0 (image)")
    assert titles[5].startswith('<b onclick="x()">&</b>\ufffd')
    assert root.attrib["aria-label"]
    assert not list(root.iter(f"{space}script"))


def test_svg_has_colours_that_any_program_draws(tmp_path: Path) -> None:
    save_graph_svg(graph_of(3), tmp_path / "graph.svg")
    svg = (tmp_path / "graph.svg").read_text("utf-8")
    assert ".kind-0 { fill: #0072b2; }" in svg
    assert not re.findall(OF_PAGES, svg)


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "docs").rglob("*.svg")), ids=lambda path: path.name
)
def test_figures_of_the_docs_are_drawn_by_any_program(path: Path) -> None:
    assert not re.findall(OF_PAGES, path.read_text("utf-8"))


def test_many_tasks_are_drawn_as_groups_of_alike_ones_and_listed_all(tmp_path: Path) -> None:
    graph = graph_of(100)
    scores = {"task-7": ExpertScore(metric="accuracy", value=0.5)}
    write_graph(graph, tmp_path / "graph.html", kinds={"task-7": "image"}, scores=scores)
    html = (tmp_path / "graph.html").read_text("utf-8")
    assert "100 tasks in 40 groups of alike ones" in html
    assert html.count("data-about=") == 40
    assert html.count("<tr data-node=") == 100
    assert "accuracy 50.0%" in html


def test_equal_graphs_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_graph(graph_of(9), tmp_path / f"{name}.html")
        save_graph_svg(graph_of(9), tmp_path / f"{name}.svg")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("similarity", [np.eye(3), np.full((2, 2), np.nan)])
def test_refuses_a_graph_that_is_not_square_or_not_finite(tmp_path: Path, similarity: np.ndarray) -> None:
    with pytest.raises(InputError, match="task graph"):
        write_graph(TaskGraph(("a", "b"), similarity), tmp_path / "graph.html")
    assert list(tmp_path.iterdir()) == []


def test_refuses_zero_neighbours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="k is 0"):
        save_graph_svg(graph_of(3), tmp_path / "graph.svg", k=0)
