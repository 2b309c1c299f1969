"""Templates, and the page around what they hold: styles, script, and a policy that forbids any network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pitune.reports.markup import tag
from pitune.reports.text import clean


def render(template: str, **values: Any) -> bytes:
    """Return one self-contained page; all text is escaped, and the browser may run only this page's own script."""
    style = "".join(map(resource, ("palette.css", "figure.css", "page.css")))
    script = resource("page.js")
    policy = (
        f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'; img-src data:"
    )
    page = _environment().get_template(template)
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **values).encode()


def still(drawing: Markup) -> bytes:
    """Return an SVG element as a file for a document.

    Its colours are plain ones, which any program draws that knows SVG; a browser follows the reader's scheme.
    """
    light, dark = (_plain(resource("figure.css"), scheme) for scheme in _schemes())
    style = f"{light}@media (prefers-color-scheme: dark) {{\n{dark}}}\n"
    inside = tag("style", Markup(style)) + tag("rect", width="100%", height="100%", class_="back")
    head, body = str(drawing).split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{inside}{body}\n'.encode()


def _schemes() -> list[dict[str, str]]:
    """Return the colours of the light and of the dark scheme, by name."""
    return [dict(re.findall(r"--([\w-]+): ([^;]+);", block)) for block in resource("palette.css").split("@media")]


def _plain(css: str, colours: Mapping[str, str]) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda found: colours[found[1]], css)


def resource(name: str) -> str:
    """Return the text of a file that the templates inline."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pitune.reports"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _finalize(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
