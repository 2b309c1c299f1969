"""Prefix tuning (arXiv 2101.00190): learned keys and values in front of those that every attention layer computes.

They join inside the attention function, after positions and key caches: generation with a cache sees them
once, relative positions between tokens stay what they were, and no query is added.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pitune.backbones import Backbone
from pitune.compat import attention_of, eager_attention, set_attention
from pitune.errors import InputError
from pitune.experts.insertion import Insertion, Values
from pitune.experts.kind import Attachment, Kind, KindSettings, Names, Size, normal

_WITH_PREFIX = "pitune_prefix"
_KEY_LAYERS = ("key", "k_proj", "k")


class PrefixSettings(KindSettings):
    """Target modules are the attention modules of transformers' models, run by `sdpa` or `eager`."""

    length: Size = Field(default=16, description="keys and values at every layer")
    target_modules: Names


class Prefix(Kind):
    """Keys and values (length, width) for each attention layer."""

    name = "prefix"
    settings = PrefixSettings
    roles = ("attention_modules",)
    sizes = ("length",)
    adds_input = True

    def attach(self, backbone: Backbone, settings: PrefixSettings) -> Attachment:
        """Let each target attend to `length` keys and values more; `InputError` unless it attends by sdpa or eager."""
        ALL_ATTENTION_FUNCTIONS.register(_WITH_PREFIX, _attend)
        with Insertion(backbone.module) as insertion:
            for target in settings.target_modules:
                attention = insertion.find(target)
                keys = next((getattr(attention, name) for name in _KEY_LAYERS if hasattr(attention, name)), None)
                if keys is None or not hasattr(attention, "config"):
                    raise InputError(f"{target!r} is a {type(attention).__name__}; expected an attention module")
                shape = (settings.length, keys.out_features)
                insertion.add(target, self.name, Values(key=shape, value=shape), keys.weight)
                changed: Any = copy.copy(attention.config)
                found = attention_of(changed)
                if found not in ("eager", "sdpa"):
                    raise InputError(f"prefixes need attention by sdpa or eager; the backbone uses {found}")
                changed.pitune_attention = found
                set_attention(changed, _WITH_PREFIX)
                insertion.set(attention, "config", changed)
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return values of N(0, 0.02²): keys and values (length, width) that are seen from the start."""
        return normal(shape, generator)


def _attend(
    attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **rest: Any
) -> tuple[Tensor, Tensor | None]:
    """Attend over the prefix and the keys (B, H, T, D); every query sees the whole prefix."""
    settings: Any = attention.config
    kind = settings.pitune_attention
    mask, rest = _with_mask(attention, kind, query, key, attention_mask, rest)
    prefix = attention.get_submodule("pitune_prefix")
    key, value = _before(prefix.key, key), _before(prefix.value, value)  # type: ignore[arg-type]
    function = eager_attention(attention) if kind == "eager" else ALL_ATTENTION_FUNCTIONS["sdpa"]
    found: tuple[Tensor, Tensor | None] = function(attention, query, key, value, mask, **rest)
    return found


def _with_mask(
    attention: nn.Module, kind: str, query: Tensor, key: Tensor, mask: Tensor | None, rest: dict[str, Any]
) -> tuple[Tensor | None, dict[str, Any]]:
    prefix: Tensor = attention.get_submodule("pitune_prefix").key  # type: ignore[assignment]
    length, queries, keys = prefix.shape[0], query.shape[-2], key.shape[-2]
    causal = rest.get("is_causal")
    causal = getattr(attention, "is_causal", False) if causal is None else causal
    if mask is None and causal and queries > 1 and kind == "sdpa":  # sdpa alone takes no mask to mean causal
        mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)[None, None]
    if mask is not None:
        seen = mask.new_ones(()) if mask.dtype == torch.bool else mask.new_zeros(())
        mask = torch.cat([seen.expand(*mask.shape[:-1], length), mask], -1)
    if rest.get("position_bias") is not None:
        bias = rest["position_bias"]
        rest = {**rest, "position_bias": torch.cat([bias.new_zeros(*bias.shape[:-1], length), bias], -1)}
    return mask, rest


def _before(prefix: Tensor, states: Tensor) -> Tensor:
    batch, heads, _, width = states.shape
    own = prefix.to(states.dtype).view(-1, heads, width).transpose(0, 1)
    return torch.cat([own.expand(batch, -1, -1, -1), states], 2)


PREFIX = Prefix()
