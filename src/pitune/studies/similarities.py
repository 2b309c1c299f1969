"""What might predict transfer: how alike tasks are in what they show, in what they ask, and to an expert."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pitune.backbones import Backbone
from pitune.prediction import build_graph, probe_fisher, spread
from pitune.tasks import Example, Task
from pitune.training import by_length, sample

Matrix = NDArray[np.float64]
_CHUNK = 32


def similarities(backbone: Backbone, tasks: Sequence[Task], shots: int | None) -> dict[str, Matrix]:
    """Return symmetric matrices (N, N): `visual`, `label` and `Fisher`.

    `visual` is the cosine of the mean features of inputs, be they images or texts. `label` is the mean over a
    task's answers of the best cosine with one of the other's, from both sides. `Fisher` is π-Tuning's, by the
    probe. All of the first draw's train examples. `label` is left out where answers are no vectors of the backbone.
    """
    seen, named, probed = [], list[Tensor](), {}
    for task in tasks:
        examples = spread(sample(task, shots, 0).train)
        features, answers = _read(backbone, task, examples)
        seen.append(F.normalize(features.mean(0), dim=-1))
        if answers is not None:
            named.append(F.normalize(answers, dim=-1))
        probed[task.name] = probe_fisher(backbone, task, examples)
    means = torch.stack(seen)
    found = {"visual": (means @ means.T).double().numpy(), "Fisher": build_graph(probed).similarity}
    if len(named) == len(tasks):
        found["label"] = np.array([[label_similarity(one, other) for other in named] for one in named])
    return found


def label_similarity(first: Tensor, second: Tensor) -> float:
    """Return the mean over unit vectors (C, D) of their best cosine with one of the others, from both sides."""
    cosines = first @ second.T
    return float((cosines.amax(1).mean() + cosines.amax(0).mean()) / 2)


@torch.no_grad()
def _read(backbone: Backbone, task: Task, examples: Sequence[Example]) -> tuple[Tensor, Tensor | None]:
    """Return features of the inputs (n, D), and the answers' vectors (C, D) if the backbone has them."""
    features, answers = [], dict[tuple[float, ...], Tensor]()
    for chunk in by_length(examples, _CHUNK):
        batch = backbone.prepare(chunk, task)
        features.append(backbone.features(batch).float().cpu())
        if batch.answers.is_floating_point():
            answers |= {tuple(one[:8].tolist()): one.float().cpu() for one in batch.answers}
    return torch.cat(features), torch.stack(list(answers.values())) if answers else None
