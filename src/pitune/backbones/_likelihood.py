"""How likely a generative model finds an answer, with what all answers share computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache

IGNORED = -100
_ROWS = 256  # answers times examples in one pass


@dataclass(frozen=True)
class Prefix:
    """What a model has read of B inputs before the answers: the next token's logits (B, V), keys and values, masks."""

    logits: Tensor
    cache: Any
    mask: Tensor
    hidden: Tensor | None = None


Continue = Callable[[Prefix, Tensor, int], Tensor]


def answer_scores(prefix: Prefix, answers: Tensor, proceed: Continue) -> Tensor:
    """Return log p(answer | input) (B, C) of answers' tokens (C, T), `IGNORED` beyond their ends."""
    rows = len(prefix.logits)
    size = max(1, _ROWS // rows)
    parts = [
        log_likelihood(prefix, answers[i : i + size].expand(rows, -1, -1), proceed)
        for i in range(0, len(answers), size)
    ]
    return torch.cat(parts, 1)


def log_likelihood(prefix: Prefix, tokens: Tensor, proceed: Continue) -> Tensor:
    """Return Σ_t log p(token_t | input, tokens before) (B, C) of tokens (B, C, T), `IGNORED` beyond their ends.

    `proceed(prefix, tokens (B·C, T−1), C)` returns logits (B·C, T−1, V) behind each token.
    """
    rows, answers, length = tokens.shape
    total = prefix.logits.float().log_softmax(-1).gather(1, tokens[:, :, 0])
    if length == 1:
        return total
    flat = tokens.reshape(rows * answers, length)
    logits = proceed(prefix, flat[:, :-1].clamp_min(0), answers).float()
    kept = flat[:, 1:] != IGNORED
    chosen = logits.log_softmax(-1).gather(2, flat[:, 1:].clamp_min(0)[:, :, None]).squeeze(2)
    return total + chosen.masked_fill(~kept, 0.0).sum(1).reshape(rows, answers)


def repeated_cache(cache: Any, times: int) -> Any:
    """Return a cache with every row `times` over; the old one stays as it is."""
    if isinstance(cache, EncoderDecoderCache):
        return EncoderDecoderCache(
            _repeated(cache.self_attention_cache, times), _repeated(cache.cross_attention_cache, times)
        )
    return _repeated(cache, times)


def _repeated(cache: Any, times: int) -> DynamicCache:
    made = DynamicCache()
    for i, layer in enumerate(cache.layers):
        made.update(layer.keys.repeat_interleave(times, 0), layer.values.repeat_interleave(times, 0), i)
    return made


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return token ids (N, T), `IGNORED` beyond each row's end."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[IGNORED] * (length - len(row))] for row in rows], device=device)
