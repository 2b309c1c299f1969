"""What scores read of a task's labels, and of an expert in place on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor

from pitune.backbones import Backbone, Batch, Matching
from pitune.experts import Attached, Expert, attached
from pitune.prediction.embedding import EMBEDDED
from pitune.prediction.fisher import expert_fisher, probe_fisher
from pitune.tasks import Draw, Example, Task, load_task, spread
from pitune.training import (
    Evaluation,
    Features,
    TrainingSettings,
    by_length,
    evaluate_expert,
    features_of,
    fit_expert,
)

_CHUNK = 32


@dataclass(frozen=True)
class Target:
    """A task with few labels; what several scores read of it, or of one expert on it, is computed once.

    `training` and `run` are how and where the target's own expert is trained if a score asks for it; `find` gives
    the task of an expert, with all its labels, by that task's name, which is loaded unless told otherwise.
    """

    backbone: Backbone
    draw: Draw
    training: TrainingSettings | None = None
    run: Path | None = None
    find: Callable[[str], Target] | None = None

    @cached_property
    def support(self) -> list[Example]:
        """The labels that scores read, to learn from and to stop by alike, 64 at most; like lengths together."""
        return [one for part in by_length(spread(self.draw.labels, EMBEDDED), _CHUNK) for one in part]

    @cached_property
    def labels(self) -> list[str]:
        """The right answers (N,) of `support`."""
        return [example.target for example in self.support]

    @cached_property
    def probe(self) -> Mapping[str, Tensor]:
        """The task's embedding by the fixed probe."""
        return probe_fisher(self.backbone, self.draw.task, self.support)

    @cached_property
    def probe_given(self) -> Mapping[str, Tensor]:
        """The same of the given labels rather than of drawn ones."""
        return probe_fisher(self.backbone, self.draw.task, self.support, labels="empirical")

    @cached_property
    def own(self) -> Mapping[str, Tensor]:
        """The Fisher information at an expert that is trained on the few labels alone."""
        expert, _ = fit_expert(self.backbone, self.draw, settings=self.training, run=self.run)
        return expert_fisher(self.backbone, self.draw.task, expert, self.support)

    @cached_property
    def features(self) -> Features:
        """What the frozen backbone sees in `support`."""
        return features_of(self.backbone, self.draw.task, self.support)

    @cached_property
    def names(self) -> Tensor | None:
        """The backbone's vectors (C, D) of the answers, None where they are open or are read as tokens."""
        task = self.draw.task
        return None if task.answers is None else features_of(self.backbone, task, self.support[:1]).answers

    @property
    def answers(self) -> list[str]:
        """The texts of the answers, none where they are open."""
        return [self.draw.task.answer_text(answer) for answer in self.draw.task.answers or ()]

    @property
    def has_classes(self) -> bool:
        """Whether there are classes to tell apart."""
        return self.draw.task.answers is not None and len(set(self.labels)) > 1

    def source(self, expert: Expert) -> Target:
        """Return the task that an expert is for; raise `InputError` if it cannot be loaded by its name."""
        return self._find(expert.card.task)

    @cached_property
    def evaluated(self) -> Callable[[Expert], Evaluation]:
        """What an expert, as it is, answers to `support`; the last is kept, since a pool may be large."""
        return lru_cache(maxsize=1)(lambda expert: evaluate_expert(self.backbone, self.draw.task, expert, self.support))

    def seen_by(self, expert: Expert) -> Tensor:
        """Return features (N, D) of `support` with an expert in place."""
        return torch.cat(self._seen(expert)).float().cpu()

    def probabilities(self, expert: Expert) -> Tensor:
        """Return the probabilities (N, Z) that an expert gives its own task's answers on `support`."""
        answers, backbone = self.source(expert).answers, self.backbone
        seen = self._seen(expert)
        with _in_place(backbone, expert) as place:
            scores = [
                backbone.match(features, batch, answers)
                if isinstance(backbone, Matching)
                else place.scores(expert.tensors, batch, answers)
                for features, batch in zip(seen, self._batches, strict=True)
            ]
        return torch.cat(scores).float().softmax(-1).cpu()

    @cached_property
    def _batches(self) -> list[Batch]:
        chunks = [self.support[i : i + _CHUNK] for i in range(0, len(self.support), _CHUNK)]
        return [self.backbone.prepare(chunk, self.draw.task) for chunk in chunks]

    @cached_property
    def _find(self) -> Callable[[str], Target]:
        return self.find or lru_cache(maxsize=None)(lambda name: whole(self.backbone, load_task(name)))

    @cached_property
    def _seen(self) -> Callable[[Expert], list[Tensor]]:
        def seen(expert: Expert) -> list[Tensor]:
            with _in_place(self.backbone, expert) as place:
                return [place.features(expert.tensors, batch) for batch in self._batches]

        return lru_cache(maxsize=1)(seen)


def whole(backbone: Backbone, task: Task) -> Target:
    """Return a task with all its labels to train on: what scores read of the task that an expert is for."""
    return Target(backbone, Draw(task, tuple(task.examples("train"))))


@contextmanager
def _in_place(backbone: Backbone, expert: Expert) -> Iterator[Attached]:
    with torch.no_grad(), attached(backbone, expert.kind, expert.settings) as place:
        yield place
