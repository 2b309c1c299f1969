"""Elements of HTML and SVG whose text and attributes are escaped on the way in."""

from __future__ import annotations

from markupsafe import Markup, escape

from pitune.reports.text import clean

Attribute = str | int | float | bool | None


def tag(name: str, *children: str | Markup, **attributes: Attribute) -> Markup:
    """Return one element; children that are not yet `Markup` are text.

    Attributes: `class_` is `class`, `data_tip` is `data-tip`; None and False leave one out; True makes it bare.
    """
    inside = Markup("").join(child if isinstance(child, Markup) else escape(clean(child)) for child in children)
    parts = [_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items()]
    return Markup("<{}{}>{}</{}>").format(Markup(name), Markup("").join(parts), inside, Markup(name))


def _attribute(name: str, value: Attribute) -> Markup:
    if value is None or value is False:
        return Markup("")
    if value is True:
        return Markup(" {}").format(Markup(name))
    text = coordinate(value) if isinstance(value, float) else clean(str(value))
    return Markup(' {}="{}"').format(Markup(name), text)


def coordinate(value: float) -> str:
    """Return a number as short as a figure needs it, in the same characters on every machine."""
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def percent(value: float) -> str:
    """Return a position along a track that fills whatever room the page has."""
    return f"{coordinate(value)}%"
