"""The Python blocks of pages run as they stand, one after the other in an empty folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("data.md",)


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, each behind as many empty lines as stand before it in the page."""
    text = page.read_text(encoding="utf-8")
    found = re.finditer(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return ["\n" * text[: one.start(1)].count("\n") + one.group(1) for one in found]


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    found = blocks(DOCS / page, "python")
    assert found
    for block in found:
        exec(compile(block, str(DOCS / page), "exec"), names)
