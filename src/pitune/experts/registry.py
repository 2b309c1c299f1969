"""Every kind of expert, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pitune.registry import Registry

if TYPE_CHECKING:
    from pitune.experts.kind import Kind

_NAMES = (
    "lora",
    "adapter",
    "bitfit",
    "layernorm",
    "ia3",
    "prefix",
    "prompt",
    "deep_prompt",
    "text_prompt",
    "visual_prompt",
    "unified_prompt",
)

KINDS: Registry[Kind] = Registry(
    "method", group="pitune.kinds", known={name: f"pitune.experts.kinds.{name}:{name.upper()}" for name in _NAMES}
)


def register_method(kind: Kind) -> None:
    """Add a kind of expert of your own; raise `InputError` if the name is taken."""
    KINDS.register(kind.name, kind)
