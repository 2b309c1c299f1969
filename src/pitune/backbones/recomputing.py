"""Compute parts of a model again in the backward pass, so that until then they need no memory (arXiv 1604.06174)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint
from transformers import Cache, EncoderDecoderCache

from pitune.backbones.base import Backbone

_Context = Callable[[], AbstractContextManager[None]]
_AROUND: ContextVar[tuple[_Context, ...]] = ContextVar("around", default=())


@contextmanager
def around(context: _Context) -> Iterator[None]:
    """Enter a context now, and again around whatever of its inside is computed again in the backward pass."""
    before = _AROUND.set((*_AROUND.get(), context))
    try:
        with context():
            yield
    finally:
        _AROUND.reset(before)


class Called(nn.Module):
    """A function of a module's parameters as a module itself, so that `functional_call` can put tensors in."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self._function = function

    def forward(self, *args: Any, **named: Any) -> Any:
        """Return what the function does of these."""
        return self._function(*args, **named)


def recomputed(module: nn.Module, function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    """Return `function(*args, **named)`, to be computed again in the backward pass with the tensors that are in now.

    By then the caller has taken an expert's tensors out of the module again, so they are kept here and put back. Keys
    and values that were read before are kept as they are now: the function adds its own to them each time.
    """
    held: dict[str, Tensor] = {
        f"module.{name}": value for name, value in module.named_parameters() if value.requires_grad
    }
    called = Called(module, function)
    before = [_kept(value) for value in (*args, *named.values())]
    contexts, first = _AROUND.get(), [True]

    def compute() -> Any:
        if first:
            first.clear()
            return functional_call(called, held, args, named)
        again = [_kept(value) for value in before]
        with ExitStack() as entered:
            for context in contexts:
                entered.enter_context(context())
            words = dict(zip(named, again[len(args) :], strict=True))
            return functional_call(called, held, tuple(again[: len(args)]), words)

    return checkpoint(compute, use_reentrant=False)


def _kept(value: Any) -> Any:
    """Return keys and values to which others can be added without adding to these; anything else is itself."""
    if isinstance(value, EncoderDecoderCache):
        made = copy.copy(value)
        made.self_attention_cache = _kept(value.self_attention_cache)
        made.cross_attention_cache = _kept(value.cross_attention_cache)
        made.is_updated = dict(value.is_updated)
        return made
    if isinstance(value, Cache):
        kept = copy.copy(value)
        kept.layers = [copy.copy(layer) for layer in value.layers]
        return kept
    return value


def _stacked(module: nn.Module) -> Iterator[nn.Module]:
    """Return the members of a model's lists of modules, such as the layers of its towers, none inside another."""
    for part in module.children():
        if isinstance(module, nn.ModuleList) and not isinstance(part, nn.ModuleList):
            yield part
        else:
            yield from _stacked(part)


@contextmanager
def layers_recomputed(backbone: Backbone) -> Iterator[None]:
    """Within it, a backbone's layers keep what they are given alone, and compute the rest again to learn from it."""
    layers = list(_stacked(backbone.module))
    for layer in layers:
        layer.forward = _Recomputing(layer, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class _Recomputing:
    """What takes the place of a layer's `forward`."""

    def __init__(self, layer: nn.Module, forward: Callable[..., Any]) -> None:
        self._layer, self._forward = layer, forward

    def __call__(self, *args: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **named)
        return recomputed(self._layer, self._forward, *args, **named)
