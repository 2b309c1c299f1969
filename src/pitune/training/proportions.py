"""How often each task of a mixture is drawn, and which of its examples: pure functions of the seed and the epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from pitune.errors import InputError

Item = TypeVar("Item")
_AMOUNTS = {"temperature": 2.0, "capped": 256.0}  # unless another is given
_KINDS = ("balanced", "proportional", *_AMOUNTS)


@dataclass(frozen=True)
class Mixing:
    """A rule for the shares of tasks of n examples: `n` (proportional), 1 (balanced), `n^(1/T)`, or `min(n, K)`.

    `amount` is T of `temperature` or K of `capped`, and None for the others.
    """

    kind: str
    amount: float | None = None

    def __str__(self) -> str:
        return self.kind if self.amount is None else f"{self.kind}={self.amount:g}"


def read_mixing(text: str) -> Mixing:
    """Read `proportional`, `balanced`, `temperature`, `capped`, or one of these two with its number: `capped=100`."""
    kind, equals, given = text.partition("=")
    expected = "expected balanced, proportional, temperature=2 or capped=256"
    if kind not in _KINDS or (equals and kind not in _AMOUNTS):
        raise InputError(f"unknown mixing {text!r}; {expected}")
    try:
        amount = float(given) if equals else _AMOUNTS.get(kind)
    except ValueError as error:
        raise InputError(f"mixing {text!r}: {given!r} is not a number; {expected}") from error
    if amount is not None and not 1 <= amount < float("inf"):
        raise InputError(f"mixing {text!r}: found {amount:g}; expected a number of 1 or more")
    return Mixing(kind, amount)


def quotas(sizes: Sequence[int], mixing: Mixing) -> list[int]:
    """Return how many examples an epoch draws of each task: as many in all as there are, one of each at least."""
    weights = [_weight(size, mixing) for size in sizes]
    exact = [sum(sizes) * weight / sum(weights) for weight in weights]
    found = [int(number) for number in exact]
    by_rest = sorted(range(len(sizes)), key=lambda i: (found[i] - exact[i], i))  # the largest remainder first
    for i in by_rest[: sum(sizes) - sum(found)]:
        found[i] += 1
    return [max(1, number) for number in found]


def turn(items: Sequence[Item], quota: int, seed: int, task: int, epoch: int) -> list[Item]:
    """Return an epoch's `quota` items of one task.

    Epochs go on where the last one ended: every item is drawn once before any is drawn again, in an order that
    is new each time.
    """
    found = []
    orders: dict[int, list[int]] = {}
    for place in range(epoch * quota, (epoch + 1) * quota):
        turn = place // len(items)
        if turn not in orders:
            orders[turn] = np.random.default_rng([seed, task, turn]).permutation(len(items)).tolist()
        found.append(items[orders[turn][place % len(items)]])
    return found


def _weight(size: int, mixing: Mixing) -> float:
    amount = mixing.amount or 1.0
    if mixing.kind == "temperature":
        return float(size ** (1 / amount))
    if mixing.kind == "capped":
        return min(size, amount)
    return 1.0 if mixing.kind == "balanced" else float(size)
