"""Every kind of expert, by name."""

from __future__ import annotations

from pitune.errors import InputError
from pitune.experts.kind import Method
from pitune.experts.kinds.adapter import ADAPTER
from pitune.experts.kinds.bitfit import BITFIT
from pitune.experts.kinds.deep_prompt import DEEP_PROMPT
from pitune.experts.kinds.ia3 import IA3
from pitune.experts.kinds.layernorm import LAYERNORM
from pitune.experts.kinds.lora import LORA
from pitune.experts.kinds.prefix import PREFIX
from pitune.experts.kinds.prompt import PROMPT
from pitune.experts.kinds.text_prompt import TEXT_PROMPT
from pitune.experts.kinds.unified_prompt import UNIFIED_PROMPT
from pitune.experts.kinds.visual_prompt import VISUAL_PROMPT

_ALL: tuple[Method, ...] = (
    LORA,
    ADAPTER,
    BITFIT,
    LAYERNORM,
    IA3,
    PREFIX,
    PROMPT,
    DEEP_PROMPT,
    TEXT_PROMPT,
    VISUAL_PROMPT,
    UNIFIED_PROMPT,
)
_METHODS: dict[str, Method] = {method.name: method for method in _ALL}


def register_method(method: Method) -> None:
    """Add a kind of expert of your own; raise `InputError` if the name is taken."""
    if _METHODS.setdefault(method.name, method) is not method:
        raise InputError(f"a method named {method.name!r} is registered already; choose another name")


def get_method(name: str) -> Method:
    """Return the kind of expert with this name."""
    if name not in _METHODS:
        raise InputError(f"unknown method {name!r}; expected one of: {', '.join(sorted(_METHODS))}")
    return _METHODS[name]


def method_names() -> tuple[str, ...]:
    """Return the names of all kinds of expert."""
    return tuple(_METHODS)
