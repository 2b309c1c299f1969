"""Templates, and the page around what they hold: styles, script, and a policy that forbids any network."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pitune.reports.markup import tag
from pitune.reports.text import clean


def render(template: str, **values: Any) -> bytes:
    """Return one self-contained page; all text is escaped, and the browser may run only this page's own script."""
    style, script = resource("palette.css") + resource("page.css"), resource("page.js")
    policy = f"default-src 'none'; style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    page = _environment().get_template(template)
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **values).encode()


def still(drawing: Markup) -> bytes:
    """Return an SVG element as a file for a document; it follows the reader's light or dark scheme."""
    inside = tag("style", Markup(resource("palette.css"))) + tag("rect", width="100%", height="100%", class_="back")
    head, body = str(drawing).split(">", 1)
    return f'{head} xmlns="http://www.w3.org/2000/svg">{inside}{body}\n'.encode()


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
