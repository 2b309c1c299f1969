"""What might predict transfer: how alike tasks are in what they show, in what they ask, and to an expert."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pitune.backbones import Backbone
from pitune.prediction import build_graph, feature_similarity, label_similarity, probe_fisher
from pitune.tasks import Draw, spread
from pitune.training import features_of

Matrix = NDArray[np.float64]
_MOST = 64  # examples that a task is compared by


def similarities(backbone: Backbone, draws: Sequence[Draw]) -> dict[str, Matrix]:
    """Return symmetric matrices (N, N) of the draws' train examples: `visual`, `label` and `Fisher`.

    `visual` is that of the features of inputs, be they images or texts, `label` that of the answers, `Fisher` is
    π-Tuning's, by the probe. `label` is left out where answers are no vectors of the backbone.
    """
    examples = [spread(draw.train, _MOST) for draw in draws]
    seen = [features_of(backbone, draw.task, some) for draw, some in zip(draws, examples, strict=True)]
    values = [one.values for one in seen]
    probes = {
        draw.task.name: probe_fisher(backbone, draw.task, some) for draw, some in zip(draws, examples, strict=True)
    }
    alike = {
        "visual": np.array([[feature_similarity(one, other) for other in values] for one in values]),
        "Fisher": build_graph(probes).similarity,
    }
    answers = [one.answers for one in seen if one.answers is not None]
    if len(answers) == len(draws):
        alike["label"] = np.array([[label_similarity(one, other) for other in answers] for one in answers])
    return alike
