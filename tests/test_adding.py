"""The pages for contributors show the very files that the tests run, and what a public host runs is well formed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = ("kind", "backbone", "score", "metric", "format", "baseline")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_the_file_that_is_tested(page: str) -> None:
    text = (ROOT / "docs" / "adding" / f"{page}.md").read_text(encoding="utf-8")
    code = (ROOT / "tests" / "plugin" / "src" / "pitune_example" / f"{page}.py").read_text(encoding="utf-8")
    project = (ROOT / "tests" / "plugin" / "pyproject.toml").read_text(encoding="utf-8")
    shown = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert shown == [code]
    (registered,) = re.findall(r"```toml\n(.*?)```", text, flags=re.S)
    assert registered in project


YAML = (*ROOT.glob(".github/**/*.yml"), ROOT / ".pre-commit-config.yaml", ROOT / "CITATION.cff")


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_what_a_public_host_reads_is_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
