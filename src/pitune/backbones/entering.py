"""Go on from what the lower layers of a decoder made of inputs, where nothing trains below a layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PROMPT, ANSWERS, TARGET = "prompt_states", "answer_states", "target_states"  # among a batch's inputs
STATES = (PROMPT, ANSWERS, TARGET)


def without_states(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a batch's inputs without what lower layers made of them."""
    return {name: value for name, value in inputs.items() if name not in STATES}


@contextmanager
def seen_entering(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Give the states (B, T, D) that enter a layer within it, call by call."""
    seen: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        seen.append(args[0] if args else named["hidden_states"])

    handle = layer.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def standing_in(layers: Sequence[nn.Module], states: Tensor) -> Iterator[None]:
    """Let states (B, T, D) come out of some layers, whatever these are given; caches count their tokens alone."""

    def forward(number: int) -> Any:
        def give(hidden_states: Tensor, *_: Any, past_key_values: Any = None, **rest: Any) -> Tensor:
            if past_key_values is not None:
                nothing = states.new_zeros(len(states), 1, states.shape[1], 1)
                past_key_values.update(nothing, nothing, number)
            return states

        return give

    own = [vars(layer).get("forward") for layer in layers]  # there already where layers are computed again
    for number, layer in enumerate(layers):
        vars(layer)["forward"] = forward(number)
    try:
        yield
    finally:
        for layer, before in zip(layers, own, strict=True):
            del vars(layer)["forward"]
            if before is not None:
                vars(layer)["forward"] = before


def on_the_left(rows: Sequence[Tensor]) -> Tensor:
    """Return rows (T, D) as one tensor (B, T, D), zeros before the shorter ones."""
    longest = max(map(len, rows))
    return torch.stack([F.pad(row, (0, 0, longest - len(row), 0)) for row in rows])


def fitted(rows: Sequence[Tensor], length: int) -> Tensor:
    """Return rows (N, T, D) as one tensor (B, N, `length`, D), zeros behind the shorter ones, the longer cut."""
    return torch.stack([F.pad(row, (0, 0, 0, length - row.shape[1])) for row in rows])
