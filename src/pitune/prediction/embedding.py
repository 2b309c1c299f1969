"""Put a task's embeddings into its expert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import Expert
from pitune.prediction.fisher import expert_fisher, probe_fisher, usable_labels
from pitune.tasks import Draw, spread

EMBEDDED = 64  # examples that a task is embedded by, at most
Embedding = Literal["probe", "expert"]


def embed(backbone: Backbone, draw: Draw, expert: Expert, *, probe: Mapping[str, Tensor] | None = None) -> Expert:
    """Return the expert with both embeddings of its task: by the fixed probe, and at the expert itself.

    By the examples that it learned from; `probe` is the first embedding where it is there already. Where the backbone
    can draw no labels (`usable_labels`), the card's `fisher_labels` is "empirical".
    """
    examples = spread(draw.train, EMBEDDED)
    probe = probe_fisher(backbone, draw.task, examples) if probe is None else probe
    own = expert_fisher(backbone, draw.task, expert, examples)
    fisher = {f"probe.{name}": value for name, value in probe.items()}
    fisher |= {f"expert.{name}": value for name, value in own.items()}
    card = expert.card
    if usable_labels(backbone, draw.task, examples) != "sampled":
        card = card.model_copy(update={"hyperparameters": {**card.hyperparameters, "fisher_labels": "empirical"}})
    return replace(expert, fisher=fisher, card=card)


def embed_tasks(backbone: Backbone, draws: Sequence[Draw], expert: Expert) -> Expert:
    """Return the expert with the mean of its tasks' embeddings, so that a pool can find it by either of them."""
    embedded = [embed(backbone, draw, expert) for draw in draws]
    each = [one.fisher or {} for one in embedded]
    card = next((one.card for one in embedded if "fisher_labels" in one.card.hyperparameters), expert.card)
    mean = {name: torch.stack([one[name] for one in each]).mean(0) for name in each[0]}
    return replace(expert, fisher=mean, card=card)


def embedding(expert: Expert, by: Embedding = "probe") -> dict[str, Tensor]:
    """Return the task embedding that an expert carries; raise `InputError` if it has none."""
    prefix = f"{by}."
    found = {name.removeprefix(prefix): v for name, v in (expert.fisher or {}).items() if name.startswith(prefix)}
    if not found:
        raise InputError(f"expert {expert.name!r} carries no {by} embedding of its task; train it with `pitune fit`")
    return found
