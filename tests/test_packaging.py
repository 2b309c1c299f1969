"""What the package's metadata, the files that pin it and the file that cites it say is one thing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

import pitune

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINK = re.compile(r"\]\(([^)\s]+)\)")


def bounds() -> dict[str, str]:
    """Return the lowest release that the project takes of every library it names, as text."""
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    named = [one for group in groups for one in group if not one.startswith("pitune[")]
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", one) for one in named]
    assert None not in found, "each library is named by its lower bound alone"
    return {one[1]: one[2] for one in found if one}


def test_every_library_has_one_lower_bound_and_it_is_tested() -> None:
    lines = (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8").splitlines()
    assert dict(line.split("==") for line in lines if not line.startswith("#")) == bounds()


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == pitune.__version__


def test_the_package_page_links_to_files_that_are_there() -> None:
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    for one in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        page = re.sub(one["pattern"], one["replacement"], page)
    links = [link for link in LINK.findall(page) if not link.startswith("#")]
    assert links
    for link in links:
        assert link.startswith("https://"), link
        found = re.match(r"https://[\w.]+/pitune/pitune/(?:blob/)?main/(.+)", link)
        assert found is None or (ROOT / found[1]).exists(), link
