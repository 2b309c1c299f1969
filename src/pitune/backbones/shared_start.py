"""Read what all texts begin with once: CLIP's text tower is causal, so its states there are the same for all of them.

The start token, prompt vectors before the name, and the words of a template are run for one text; their keys and
values serve every other. What stands behind a text's end is not run at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel, PretrainedConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pitune.backbones.recomputing import around
from pitune.compat import attention_of, hook_count, set_attention

_PACKED = "pitune_packed"


@dataclass(frozen=True)
class _Packing:
    """How C texts of T places lie in one row: the `shared` first places, then each text's own S = T − shared.

    `own` (N,) are the places among the C·S that hold a token; `mask` (S, T) says what each of a text's own places sees.
    """

    texts: int
    shared: int
    own: Tensor
    mask: Tensor

    def pack(self, states: Tensor) -> Tensor:
        """Turn states (C, T, D) into one row (1, shared + N, D)."""
        rest = states[:, self.shared :].flatten(0, 1)
        return torch.cat([states[0, : self.shared], rest.index_select(0, self.own)])[None]

    def unpack(self, row: Tensor) -> Tensor:
        """Turn a row back into states (C, T, D), zero where there is no token."""
        start = row[:, : self.shared].expand(self.texts, -1, -1)
        return torch.cat([start, self.spread(row[0, self.shared :])], 1)

    def spread(self, own: Tensor) -> Tensor:
        """Turn own states (N, …) into (C, S, …), zero where there is no token."""
        places = own.new_zeros(self.texts * len(self.mask), *own.shape[1:])
        return places.index_copy(0, self.own, own).reshape(self.texts, -1, *own.shape[1:])


@contextmanager
def shared_start(tower: object) -> Iterator[None]:
    """Within it, a known causal tower reads the texts of a call with their common start computed once.

    Pooled outputs and gradients are the same as without, for experts that work token by token. Other towers, and
    those where something comes between layers or into attention (prompts, prefixes), read texts as ever.
    """
    with ExitStack() as undo:
        if isinstance(tower, CLIPTextModel) and _is_plain(tower):
            _insert(tower, undo)
        yield


def _is_plain(tower: CLIPTextModel) -> bool:
    """Return whether attention is transformers' own, and nothing sees whole texts on their way through the layers."""
    layers: list[Any] = list(tower.encoder.layers)
    parts = [tower.encoder, *layers, *(layer.self_attn for layer in layers)]
    own = all(layer.self_attn.config is tower.config for layer in layers)
    return own and not hook_count(parts) and attention_of(tower.config) in ("sdpa", "eager")


def _insert(tower: CLIPTextModel, undo: ExitStack) -> None:
    ALL_ATTENTION_FUNCTIONS.register(_PACKED, _attend)
    kept: list[Tensor] = []
    made: list[_Packing] = []
    inside = ExitStack()

    def given(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        kept[:] = [named["attention_mask"]]  # behind an expert's own hook, so that its vectors are in

    def enter(encoder: Any, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        states = named["inputs_embeds"]
        packing = _plan(states.detach(), kept.pop().bool())
        made[:] = [packing]
        inside.enter_context(around(partial(_attending_packed, encoder.config)))
        return args, {**named, "inputs_embeds": packing.pack(states), "attention_mask": None, "packing": packing}

    def leave(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        inside.close()
        output.last_hidden_state = made.pop().unpack(output.last_hidden_state)
        return output

    undo.callback(inside.close)
    undo.callback(tower.register_forward_pre_hook(given, with_kwargs=True).remove)
    undo.callback(tower.encoder.register_forward_pre_hook(enter, with_kwargs=True).remove)
    undo.callback(tower.encoder.register_forward_hook(leave, with_kwargs=True).remove)


@contextmanager
def _attending_packed(config: PretrainedConfig) -> Iterator[None]:
    undo = set_attention(config, _PACKED)
    try:
        yield
    finally:
        undo()


def _plan(states: Tensor, kept: Tensor) -> _Packing:
    """Find how many places all texts begin with alike, by what will be read there (C, T, D), and pack the rest."""
    alike = (states == states[:1]).all(-1).all(0)
    shared = min(int(alike.int().cumprod(0).sum()), int(kept.sum(1).min()) - 1)  # each keeps one of its own
    own = kept[:, shared:].flatten().nonzero().squeeze(1)
    mask = kept.new_ones(kept.shape[1] - shared, kept.shape[1]).tril(shared)
    return _Packing(len(states), shared, own, mask)


def _attend(
    attention: nn.Module, query: Tensor, key: Tensor, value: Tensor, _: None, *, packing: _Packing, **rest: Any
) -> tuple[Tensor, None]:
    """Attend within a packed row (1, H, shared + N, D): each text sees the start, and itself up to each token."""
    start, scale = packing.shared, rest["scaling"]
    first = F.scaled_dot_product_attention(
        query[:, :, :start], key[:, :, :start], value[:, :, :start], is_causal=True, scale=scale
    )

    def apart(states: Tensor) -> Tensor:  # (C, H, S, D)
        return packing.spread(states[0, :, start:].transpose(0, 1)).transpose(1, 2)

    def behind(states: Tensor) -> Tensor:  # (C, H, shared + S, D)
        return torch.cat([states[:, :, :start].expand(packing.texts, -1, -1, -1), apart(states)], 2)

    others = F.scaled_dot_product_attention(
        apart(query), behind(key), behind(value), attn_mask=packing.mask, scale=scale
    )
    flat = others.transpose(1, 2).flatten(0, 1).index_select(0, packing.own)
    return torch.cat([first[0].transpose(0, 1), flat])[None], None
