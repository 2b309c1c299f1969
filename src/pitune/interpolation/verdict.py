"""What the labels that judge say of a tuned expert, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pitune.interpolation.choice import ALONE, BACKBONE, JOINT, NEIGHBOURS, Candidate
from pitune.tasks import Draw, Task, reads_of
from pitune.training import worth

_TOLD = 3.0  # nats over all labels that judge, which few labels do not differ by for nothing
_NAMED = 3  # answers that words show


def verdict(
    draw: Draw, candidates: Sequence[Candidate], choice: str, untrained: str = "the backbone alone"
) -> tuple[str, ...]:
    """Return how good the chosen candidate is, why it was chosen and whether neighbours help, a sentence each.

    All of it rests on the labels that judged, and on nothing else of the task; without any it says so. `untrained` is
    what the candidate without any training is called.
    """
    of = {one.name: one for one in candidates}
    if not of[choice].losses:
        return (f"No labels were kept to judge by, so {choice} is taken unseen: its worth is not known.",)
    beside = {BACKBONE: untrained, ALONE: "the own expert alone"}
    return (*_worth(draw, of, choice, beside), _why(of, choice), *_neighbours(draw.task, of))


def _worth(draw: Draw, of: dict[str, Candidate], choice: str, beside: Mapping[str, str]) -> tuple[str, ...]:
    values = {what: of[name].validation for name, what in beside.items() if name in of and name != choice}
    return worth(draw.task, draw.labels, choice, of[choice].validation, len(of[choice].losses), values)


def _why(of: dict[str, Candidate], choice: str) -> str:
    totals = {name: sum(one.losses) for name, one in of.items()}
    lowest = min(totals, key=lambda name: totals[name])
    if lowest == choice:
        return f"It was chosen for the lowest loss of {len(of)} candidates."
    better = totals[choice] - totals[lowest]
    return (
        f"It was chosen in doubt: {lowest} has a lower loss by {better:.1f} nats over all these labels, too little to "
        "set aside what does well over many tasks."
    )


def _neighbours(task: Task, of: dict[str, Candidate]) -> Iterator[str]:
    if ALONE not in of:
        return
    with_them = [name for name in (JOINT, NEIGHBOURS) if name in of]
    totals = {name: sum(of[name].losses) for name in with_them}
    alone = sum(of[ALONE].losses)
    best = min(totals, key=lambda name: totals[name], default=ALONE)
    gain = alone - totals.get(best, alone)
    if not with_them:
        yield "No neighbour lowers the loss on the labels at any scale, so none is used."
    elif gain > _TOLD:
        yield f"The neighbours help: {best} has a lower loss than the own expert alone by {gain:.1f} nats."
    elif gain < -_TOLD:
        yield f"The neighbours do not help here: the own expert alone has a lower loss by {-gain:.1f} nats."
    else:
        yield f"Whether the neighbours help, so few labels cannot tell ({gain:+.1f} nats)."
    if not with_them or gain < -_TOLD:
        yield f"No expert of this pool is a relative; these would be: {_relatives(task)}."
    if BACKBONE in of and gain <= _TOLD:
        taught = sum(of[BACKBONE].losses) - alone
        if taught > _TOLD:
            added = f"these neighbours {gain:.1f}" if gain > 0 else "these neighbours none"
            yield (
                f"More labels would help more than this pool: what the own expert learned from a part of these takes "
                f"{taught:.1f} nats off the loss, {added}."
            )


def _relatives(task: Task) -> str:
    """Return in words which experts would be worth adding to a pool for a task: of like inputs and answers."""
    shown = " and ".join(f"{one}s" for one in sorted(reads_of(task) or ())) or "such inputs"
    if not task.answers:
        return f"experts of other tasks on {shown} whose answers differ by example"
    some = ", ".join(repr(name) for name in task.answers[:_NAMED])
    more = f" and {len(task.answers) - _NAMED} more" if len(task.answers) > _NAMED else ""
    return f"experts of other tasks on {shown}, with answers that tell apart what {some}{more} tell apart"
