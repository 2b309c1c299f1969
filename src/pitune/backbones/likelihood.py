"""How likely a generative model finds an answer, with what all answers share computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

IGNORED = -100
_ROWS = 256  # answers times examples in one pass


@dataclass(frozen=True)
class Prefix:
    """What a model has read of B inputs before the answers: the next token's logits (B, V), keys and values, masks.

    `shift` (B, 1) is how far the next token's place is from the number of tokens before it; images may count otherwise.
    """

    logits: Tensor
    cache: Any
    mask: Tensor
    hidden: Tensor | None = None
    shift: Tensor | None = None


Continue = Callable[[Prefix, Tensor, int], tuple[Tensor, Prefix]]


def answer_scores(prefix: Prefix, answers: Tensor, proceed: Continue) -> Tensor:
    """Return log p(answer | input) (B, C) of answers' tokens (C, T), `IGNORED` beyond their ends.

    What all answers begin with is read once for each input.
    """
    rows = len(prefix.logits)
    start = _shared_start(answers)
    before: Tensor | float = 0.0
    if start:
        shared = answers[:1, :start]
        logits, further = proceed(prefix, shared.expand(rows, -1), 1)
        before = _chosen(torch.cat([prefix.logits[:, None], logits[:, :-1]], 1), shared.expand(rows, -1)).sum(1)[
            :, None
        ]
        prefix, answers = further, answers[:, start:]
    size = max(1, _ROWS // rows)
    parts = [
        log_likelihood(prefix, answers[i : i + size].expand(rows, -1, -1), proceed)
        for i in range(0, len(answers), size)
    ]
    return before + torch.cat(parts, 1)


def answer_scores_apart(prefix: Prefix, answers: Tensor, proceed: Callable[[Prefix, Tensor, slice], Tensor]) -> Tensor:
    """Return what `answer_scores` does, each answer read from its beginning.

    `proceed(prefix, tokens (B·C, T−1), which)` returns logits (B·C, T−1, V) behind each token of some C of the answers.
    """
    rows, size = len(prefix.logits), max(1, _ROWS // len(prefix.logits))

    def scores(which: slice) -> Tensor:
        def go_on(before: Prefix, tokens: Tensor, _: int) -> tuple[Tensor, Prefix]:
            return proceed(before, tokens, which), before

        return log_likelihood(prefix, answers[which].expand(rows, -1, -1), go_on)

    return torch.cat([scores(slice(i, i + size)) for i in range(0, len(answers), size)], 1)


def log_likelihood(prefix: Prefix, tokens: Tensor, proceed: Continue) -> Tensor:
    """Return Σ_t log p(token_t | input, tokens before) (B, C) of tokens (B, C, T), `IGNORED` beyond their ends.

    `proceed(prefix, tokens (B·C, T−1), C)` returns logits (B·C, T−1, V) behind each token, and what has been read
    by then.
    """
    rows, answers, length = tokens.shape
    total = prefix.logits.float().log_softmax(-1).gather(1, tokens[:, :, 0])
    if length == 1:
        return total
    flat = tokens.reshape(rows * answers, length)
    logits, _ = proceed(prefix, flat[:, :-1].clamp_min(0), answers)
    return total + _chosen(logits, flat[:, 1:]).sum(1).reshape(rows, answers)


def _chosen(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return log p (N, T) of tokens under logits (N, T, V), zero where there is none."""
    wanted = logits.gather(2, tokens.clamp_min(0)[:, :, None]).squeeze(2)
    return (wanted.float() - logits.float().logsumexp(-1)).masked_fill(tokens == IGNORED, 0.0)


def _shared_start(answers: Tensor) -> int:
    """Return how many tokens several answers (C, T) all begin with, short of the end of any."""
    if len(answers) < 2:
        return 0
    alike = (answers == answers[:1]).all(0).int().cumprod(0).sum()
    return min(int(alike), int((answers != IGNORED).sum(1).min()) - 1)


def repeated_cache(cache: Any, times: int) -> DynamicCache:
    """Return a cache with every row `times` over; the old one stays as it is."""
    made = DynamicCache()
    for i, layer in enumerate(cache.layers):
        made.update(layer.keys.repeat_interleave(times, 0), layer.values.repeat_interleave(times, 0), i)
    return made


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """Return token ids (N, T), `IGNORED` beyond each row's end."""
    length = max(map(len, rows))
    return torch.tensor([[*row, *[IGNORED] * (length - len(row))] for row in rows], device=device)
