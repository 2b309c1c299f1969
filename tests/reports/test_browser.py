"""Pages in a real browser, opened from disk: what axe-core finds, the keyboard alone, a phone, and paper."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pitune.experts import load_expert
from pitune.prediction import TaskGraph
from pitune.reports import RunReport, write_graph, write_report, write_run, write_study
from pitune.studies import DemoResults, ExpertScore, Results

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
AXE = importlib.util.find_spec("axe_playwright_python")
pytestmark = [
    pytest.mark.skipif(
        not CHROMIUM, reason="no Chromium is installed (`apt-get install chromium`, or name one in CHROMIUM)"
    ),
    pytest.mark.skipif(AXE is None, reason="axe-core is not installed (`pip install -e '.[dev]'`)"),
]
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice", "experimental")
PHONE, PAPER = {"width": 390, "height": 844}, {"width": 703, "height": 1032}  # A4 less its margins, 96 to the inch
Pages = dict[str, Path]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pytest.importorskip("playwright.sync_api").sync_playwright() as library:
        started = library.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def pages(results: dict[str, Any], studies: dict[str, Results], made: Path, tmp_path: Path) -> Pages:
    """Return a page of each sort by its name."""
    pages = {name: tmp_path / f"{name}.html" for name in ("demo", "pool", "clusters", "expert", *studies)}
    write_report(DemoResults.of(results), pages["demo"])
    for name, study in studies.items():
        write_study(study, pages[name])
    write_run(RunReport(load_expert(made / "expert"), "expert"), pages["expert"])
    for name, count in (("pool", 12), ("clusters", 81)):
        write_graph(graph := graph_of(count), pages[name], kinds=kinds(graph), scores=scores(graph))
    return {**pages, "run": made / "tune.html", "evaluated": made / "evaluated.html"}


def graph_of(count: int) -> TaskGraph:
    points = np.random.default_rng(0).normal(size=(count, 4))
    names = tuple(f"a-task-with-a-longer-name-{i}" for i in range(count))
    return TaskGraph(names, np.exp(-((points[:, None] - points[None]) ** 2).sum(-1) / 20))


def kinds(graph: TaskGraph) -> dict[str, str]:
    return {name: ("image", "text")[i % 2] for i, name in enumerate(graph.names)}


def scores(graph: TaskGraph) -> dict[str, ExpertScore]:
    return {name: ExpertScore(metric="accuracy", value=i / len(graph.names)) for i, name in enumerate(graph.names)}


@pytest.fixture
def shown(browser: Any, pages: Pages) -> Iterator[Callable[..., Any]]:
    """Return a function that opens a page; at the end nothing was asked of a network and nothing went wrong."""
    contexts, wrong = [], []

    def show(name: str, **how: Any) -> Any:
        contexts.append(browser.new_context(**how))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: request.url.startswith(("file:", "data:")) or wrong.append(request.url))
        page.goto(pages[name].as_uri())
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(shown: Callable[..., Any], pages: Pages, scheme: str) -> None:
    assert AXE is not None
    script = Path(str(AXE.origin)).with_name("axe.min.js")
    for name in pages:
        page = shown(name, color_scheme=scheme, bypass_csp=True)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        page.add_script_tag(path=script)
        found = page.evaluate("tags => axe.run(document, { runOnly: { type: 'tag', values: tags } })", list(RULES))
        assert len(found["passes"]) > 10
        assert [(one["id"], one["nodes"][0]["target"]) for one in found["violations"]] == [], name


def test_no_page_is_wider_than_a_phone_or_paper(shown: Callable[..., Any], pages: Pages) -> None:
    wider = "document.documentElement.scrollWidth - innerWidth"
    for name in pages:
        page = shown(name, viewport=PHONE)
        assert page.evaluate(wider) <= 0, name
        page.set_viewport_size(PAPER)
        page.emulate_media(media="print")
        cut = f"Math.max({wider}, ...[...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth))"
        assert page.evaluate(cut) <= 1, name
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator("details:not([open])").count() == 0


def test_the_keyboard_alone_searches_sorts_and_lights_a_task(shown: Callable[..., Any]) -> None:
    page = shown("pool", viewport={"width": 1000, "height": 800})
    page.get_by_label("Search tasks").focus()
    page.keyboard.type("name-7")
    assert page.locator("#tasks tbody tr:visible").count() == 1
    page.keyboard.press("Tab")  # over the scrolling region and the heads of the columns, on to the task
    for _ in range(6):
        if page.evaluate("document.activeElement.textContent") == "a-task-with-a-longer-name-7":
            break
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert "Nearest" in page.locator("#about").inner_text()
    lit = page.locator(".node.lit").count()
    assert 3 <= lit < 12
    page.keyboard.press("Escape")
    assert page.locator(".node.lit").count() == 0
    head = page.locator("#tasks thead th", has_text="metric")
    for order, first in (("ascending", "-0"), ("descending", "-11")):
        head.locator("button").focus()
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        assert page.locator("#tasks tbody th").first.text_content().endswith(first)


def test_the_drawing_grows(shown: Callable[..., Any]) -> None:
    page = shown("pool")
    width = page.locator("svg.network").bounding_box()["width"]
    page.get_by_role("button", name="Larger").press("Enter")
    assert page.locator("svg.network").bounding_box()["width"] > 1.3 * width


FOLDED = r"""() => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [], range = document.createRange();
  while (walk.nextNode()) {
    const node = walk.currentNode, cell = node.parentElement.closest('td, th');
    if (!cell || cell.closest('.heat') || !cell.offsetParent) continue;
    for (const word of node.data.matchAll(/[\p{L}\p{N}.]{2,14}/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = [...range.getClientRects()].map(one => Math.round(one.top));
      if (Math.max(...tops) - Math.min(...tops) > 5) found.push(word[0]);
    }
  }
  return found;
}"""


def test_no_short_word_in_a_table_is_folded(shown: Callable[..., Any], pages: Pages) -> None:
    for name in pages:
        page = shown(name, viewport=PHONE)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert page.evaluate(FOLDED) == [], name
        page.set_viewport_size(PAPER)
        page.emulate_media(media="print")
        assert page.evaluate(FOLDED) == [], f"{name} on paper"
