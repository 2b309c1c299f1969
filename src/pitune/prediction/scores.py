"""How well an expert of another task may serve a target, told from the target's few labels; higher is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from pitune.backbones import Backbone
from pitune.experts import Expert
from pitune.prediction.embedding import EMBEDDED, embedding
from pitune.prediction.fisher import probe_fisher
from pitune.prediction.similarity import fisher_similarity
from pitune.registry import Registry
from pitune.tasks import Draw, Example, spread
from pitune.training import evaluate_expert


@dataclass(frozen=True)
class Target:
    """A task with few labels; what several scores read of it is computed once."""

    backbone: Backbone
    draw: Draw

    @cached_property
    def support(self) -> list[Example]:
        """The labels that scores read, to learn from and to stop by alike, 64 at most."""
        return spread(self.draw.labels, EMBEDDED)

    @cached_property
    def probe(self) -> Mapping[str, Tensor]:
        """The task's embedding by the fixed probe."""
        return probe_fisher(self.backbone, self.draw.task, self.support)


@dataclass(frozen=True)
class Score:
    """A transferability score: `rate` gives one number for one expert, comparable between experts of one target."""

    name: str
    about: str
    rate: Callable[[Target, Expert], float]


SCORES: Registry[Score] = Registry(
    "score",
    group="pitune.scores",
    known={"probe": "pitune.prediction.scores:PROBE", "trial": "pitune.prediction.scores:TRIAL"},
)


def _probe(target: Target, expert: Expert) -> float:
    return fisher_similarity(target.probe, embedding(expert))


def _trial(target: Target, expert: Expert) -> float:
    return -evaluate_expert(target.backbone, target.draw.task, expert, target.support).loss


PROBE = Score("probe", "how alike the tasks' Fisher information is at the fixed probe (π-Tuning, step 2)", _probe)
TRIAL = Score("trial", "minus the loss of the untouched expert on the few labels", _trial)
