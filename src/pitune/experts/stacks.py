"""Learned vectors among the hidden states of a stack of transformer layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from pitune.errors import InputError
from pitune.experts.insertion import Arguments, Insertion

_MASK = "attention_mask"
_ROTARY = "position_embeddings"


def stacks_of(layers: Sequence[str]) -> list[list[str]]:
    """Group names of layers, such as `encoder.layer.0`, by the stack that they number."""
    stacks: dict[str, list[str]] = {}
    for layer in layers:
        stacks.setdefault(layer.rsplit(".", 1)[0], []).append(layer)
    return list(stacks.values())


def route(
    insertion: Insertion, layers: Sequence[str], vectors: Callable[[int], Tensor | None], length: int, position: int
) -> None:
    """Insert `vectors(0)` (length, D) at a position before the first layer and take them out after the last.

    Before each later layer i they are replaced by `vectors(i)`, unless that is None. They carry no positions
    of their own; in causal stacks they see what a token at their place would see.
    """
    modules = [insertion.find(layer) for layer in layers]
    for i, layer in enumerate(modules):
        insertion.before(layer, _entering(layer, i, vectors, length, position))

    def leave(given: Tensor, output: Tensor) -> Tensor:
        return torch.cat([output[:, :position], output[:, position + length :]], 1)

    insertion.after(modules[-1], leave)


def _entering(
    layer: nn.Module, i: int, vectors: Callable[[int], Tensor | None], length: int, position: int
) -> Callable[[Arguments], None]:
    causal = any(getattr(module, "is_causal", False) for module in layer.modules())

    def enter(arguments: Arguments) -> None:
        name = next(iter(arguments))
        hidden: Tensor = arguments[name]
        cache = arguments.get("past_key_values")
        if i == 0 and cache is not None and cache.get_seq_length() > 0:
            raise InputError("prompts cannot join a sequence half-way; generate with use_cache=False")
        chosen = vectors(i)
        if chosen is not None:
            after = position if i == 0 else position + length
            own = chosen.to(hidden.dtype).expand(hidden.shape[0], -1, -1)
            arguments[name] = torch.cat([hidden[:, :position], own, hidden[:, after:]], 1)
        if arguments.get(_MASK) is not None:
            is_causal = arguments.get("is_causal", causal)
            arguments[_MASK] = _widen(arguments[_MASK], length, position, is_causal)
        if arguments.get(_ROTARY) is not None:
            cosine, sine = arguments[_ROTARY]
            still = (_insert(cosine, -2, length, position, 1.0), _insert(sine, -2, length, position, 0.0))
            arguments[_ROTARY] = still

    return enter


def _insert(states: Tensor, dimension: int, length: int, position: int, value: float) -> Tensor:
    size = list(states.shape)
    size[dimension] = length
    parts = (states.narrow(dimension, 0, position), states.new_full(size, value))
    return torch.cat([*parts, states.narrow(dimension, position, states.shape[dimension] - position)], dimension)


def _widen(mask: Tensor, length: int, position: int, causal: bool) -> Tensor:
    """Add columns that all see, and rows, to a mask (B, 1, T, T), boolean or added to scores; (B, 1, 1, T) has none."""
    if mask.ndim != 4:
        raise InputError(f"prompts need attention by sdpa or eager; found a mask of {mask.ndim} dimensions")
    seen, hidden = (1.0, 0.0) if mask.dtype == torch.bool else (0.0, float(torch.finfo(mask.dtype).min))
    wide = _insert(mask, -1, length, position, seen)
    if mask.shape[-2] == 1 and mask.shape[-1] != 1:
        return wide
    row = wide[:, :, max(position - 1, 0)]
    if causal and position == 0:
        row = torch.full_like(row, hidden)
        row[..., :length] = seen
    rows = row[:, :, None].expand(-1, -1, length, -1).clone()
    if causal:
        later = torch.ones(length, length, dtype=torch.bool, device=mask.device).triu(1)
        rows[..., position : position + length].masked_fill_(later, hidden)
    return torch.cat([wide[:, :, :position], rows, wide[:, :, position:]], 2)
