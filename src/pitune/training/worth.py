"""What a few labels tell of how good an expert is, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import sqrt

from pitune.tasks import Example, Task

_95 = 1.96  # standard errors of a 95 % interval


def worth(
    task: Task,
    examples: Sequence[Example],
    what: str,
    value: float,
    n: int,
    beside: Mapping[str, float] | None = None,
    *,
    judges: str = "labels that judge",
) -> tuple[str, ...]:
    """Return what a value of the task's metric says that `n` labels of `examples` gave, `beside` others of the same.

    Accuracies come with their 95 % intervals and with what the commonest answer alone would have; that it is not told
    from guessing is a sentence of its own. `judges` says what gave the values.
    """
    beside = beside or {}
    if task.metric != "accuracy":
        others = [f"{name} {other:.3f}" for name, other in beside.items()]
        return (f"{what} has {task.metric} {value:.3f} on the {n} {judges}{_listed(others)}.",)
    name, share = chance(examples)
    others = [f"{one} {_with_interval(other, n)}" for one, other in beside.items()] + [f"{name} {share:.3f}"]
    said = f"{what} has accuracy {_with_interval(value, n)} on the {n} {judges}{_listed(others)}."
    if wilson(value, n)[0] > share:
        return (said,)
    return (said, "That is not told from guessing: more labels, or experts of more alike tasks, are needed first.")


def chance(examples: Sequence[Example]) -> tuple[str, float]:
    """Return what a share right without looking is called, and what it is."""
    listed = [len(one.candidates) for one in examples if one.candidates]
    if len(listed) == len(examples):
        return "guessing", sum(1 / many for many in listed) / len(listed)
    return "always the commonest answer", max(Counter(one.target for one in examples).values()) / len(examples)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share that was found in n examples (Wilson, 1927)."""
    centre = (share + _95**2 / (2 * n)) / (1 + _95**2 / n)
    half = _95 * sqrt(share * (1 - share) / n + _95**2 / (4 * n**2)) / (1 + _95**2 / n)
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def _with_interval(share: float, n: int) -> str:
    low, high = wilson(share, n)
    return f"{share:.3f} [{low:.2f}, {high:.2f}]"


def _listed(others: Sequence[str]) -> str:
    return f" ({', '.join(others)})" if others else ""
