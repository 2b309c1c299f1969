"""Put a task's embeddings into its expert, and find the experts whose tasks are most alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool
from pitune.prediction.fisher import expert_fisher, probe_fisher
from pitune.prediction.graph import rank_neighbours
from pitune.tasks import Example, Task
from pitune.training import Data, Member, check_backbone

EMBEDDED = 64  # examples that a task is embedded by, at most
Embedding = Literal["probe", "expert"]


def embed(backbone: Backbone, task: Task, expert: Expert, examples: Sequence[Example]) -> Expert:
    """Return the expert with both embeddings of its task: by the fixed probe, and at the expert itself."""
    some = spread(examples)
    probe = probe_fisher(backbone, task, some)
    own = expert_fisher(backbone, task, expert, some)
    fisher = {f"probe.{name}": value for name, value in probe.items()}
    fisher |= {f"expert.{name}": value for name, value in own.items()}
    return replace(expert, fisher=fisher)


def embed_tasks(backbone: Backbone, members: Sequence[Member], expert: Expert) -> Expert:
    """Return the expert with the mean of its tasks' embeddings, so that a pool can find it by either of them."""
    found = [embed(backbone, member.task, expert, member.data.train).fisher or {} for member in members]
    mean: Mapping[str, Tensor] = {name: torch.stack([one[name] for one in found]).mean(0) for name in found[0]}
    return replace(expert, fisher=mean)


def spread(examples: Sequence[Example], most: int = EMBEDDED) -> list[Example]:
    """Return at most `most` examples, evenly spread over the sequence sorted by id."""
    ordered = sorted(examples, key=lambda example: example.id)
    step = max(1.0, len(ordered) / most)
    return [ordered[int(i * step)] for i in range(min(most, len(ordered)))]


def embedding(expert: Expert, by: Embedding = "probe") -> dict[str, Tensor]:
    """Return the task embedding that an expert carries; raise `InputError` if it has none."""
    prefix = f"{by}."
    found = {name.removeprefix(prefix): v for name, v in (expert.fisher or {}).items() if name.startswith(prefix)}
    if not found:
        raise InputError(f"expert {expert.name!r} carries no {by} embedding of its task; train it with `pitune fit`")
    return found


def find_neighbours(
    backbone: Backbone, task: Task, data: Data, pool: ExpertPool, k: int, method: str | None = None
) -> list[tuple[str, float]]:
    """Rank a pool's experts (of one kind, if given) by the probe embedding of some data."""
    others = [expert for expert in pool if task.name not in expert.card.tasks]
    experts = [expert for expert in others if method in (None, expert.method)]
    if others and not experts:
        kinds = ", ".join(sorted({expert.method for expert in others}))
        raise InputError(f"{pool.folder}: has no {method} expert of another task; it has {kinds}, choose with --method")
    if not experts:
        raise InputError(
            f"{pool.folder}: has no expert of another task than {task.name!r}; train some with `pitune fit`"
        )
    for expert in experts:
        check_backbone(expert, backbone)
    target = probe_fisher(backbone, task, spread([*data.train, *data.validation]))
    return list(rank_neighbours(target, {expert.name: embedding(expert) for expert in experts}, k))
