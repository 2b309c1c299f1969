"""What every score says of one source for one target, out of the target's few labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pitune.backbones import Backbone, Batch, Matching, target_losses
from pitune.experts import Expert, attached, get_method, read_config
from pitune.prediction import (
    embedding,
    expert_fisher,
    feature_similarity,
    fisher_similarity,
    h_score,
    label_similarity,
    leep,
    logme,
    probe_fisher,
    spread,
    task2vec_distance,
)
from pitune.tasks import Example, Task
from pitune.training import Data, TrainingSettings, by_length, calibrated_losses, fit_expert

_CHUNK = 32


class Source:
    """A task with its data-rich expert, and what scores read of it."""

    def __init__(self, backbone: Backbone, task: Task, expert: Expert) -> None:
        self.task, self.expert = task, expert
        self.probe, self.own = embedding(expert, "probe"), embedding(expert, "expert")
        self._backbone = backbone

    @cached_property
    def features(self) -> Tensor:
        """Frozen features (N, D) of the examples that the task is embedded by."""
        return _features(self._backbone, self.task, spread(self.task.examples("train")))

    @cached_property
    def probe_given(self) -> Mapping[str, Tensor]:
        """The probe's empirical Fisher information: of the given labels rather than of drawn ones."""
        return probe_fisher(self._backbone, self.task, spread(self.task.examples("train")), "empirical")

    @cached_property
    def names(self) -> Tensor | None:
        return _names(self._backbone, self.task)

    @property
    def answers(self) -> list[str]:
        """The texts of the answers, none where they are open."""
        return [self.task.answer_text(answer) for answer in self.task.answers or ()]


class Target:
    """A task with few labels; every score reads the same of them, those that `find_neighbours` reads."""

    def __init__(self, backbone: Backbone, task: Task, data: Data, training: TrainingSettings, run: Path) -> None:
        self.backbone, self.task, self.data = backbone, task, data
        self.support = [one for part in by_length(spread([*data.train, *data.validation]), _CHUNK) for one in part]
        self.labels = [example.target for example in self.support]
        self._training, self._run = training, run

    @cached_property
    def batches(self) -> list[Batch]:
        chunks = [self.support[i : i + _CHUNK] for i in range(0, len(self.support), _CHUNK)]
        return [self.backbone.prepare(chunk, self.task) for chunk in chunks]

    @cached_property
    def probe(self) -> Mapping[str, Tensor]:
        return probe_fisher(self.backbone, self.task, self.support)

    @cached_property
    def probe_given(self) -> Mapping[str, Tensor]:
        return probe_fisher(self.backbone, self.task, self.support, "empirical")

    @cached_property
    def own(self) -> Mapping[str, Tensor]:
        """The Fisher information at an expert that is trained on the few labels alone."""
        expert, _ = fit_expert(self.backbone, self.task, self.data, "lora", self._training, run=self._run)
        return expert_fisher(self.backbone, self.task, expert, self.support)

    @cached_property
    def features(self) -> Tensor:
        return _features(self.backbone, self.task, self.support)

    @cached_property
    def names(self) -> Tensor | None:
        return _names(self.backbone, self.task)


@dataclass(frozen=True)
class _Pass:
    """What a source's expert says of the target's N examples: features (N, D), log-scores (N, C) of their answers,
    which is right (N,), which are right too (N, C), and probabilities (N, Z) of the source's answers, if it lists any.
    """

    features: Tensor
    scores: Tensor
    target: Tensor
    relevant: Tensor | None
    theirs: Tensor | None


class Pair:
    """A source's expert in place, on the target's few examples; one pass serves every score that reads it."""

    def __init__(self, source: Source, target: Target) -> None:
        self.source, self.target = source, target

    @cached_property
    def _passed(self) -> _Pass:
        target, expert = self.target, self.source.expert
        kind = get_method(expert.method)
        own = [target.task.answer_text(answer) for answer in target.task.answers or ()]
        features, theirs, mine, relevant = [], [], [], []
        config = read_config(kind, expert.config, f"expert {expert.name!r}")
        with torch.no_grad(), attached(target.backbone, kind, config) as place:
            for batch in target.batches:
                seen = place.features(expert.tensors, batch)
                features.append(seen.float().cpu())
                listed = [*own, *self.source.answers] if own else None
                if isinstance(target.backbone, Matching):
                    scores = target.backbone.match(seen, batch, listed)
                else:
                    scores = place.scores(expert.tensors, batch, listed)
                # of both lists at once: within each, log-scores differ from its own log p by a constant
                mine.append((scores[:, : len(own)].log_softmax(-1) if own else scores).float().cpu())
                if batch.relevant is not None:
                    relevant.append(batch.relevant.cpu())
                if own and self.source.answers:
                    theirs.append(scores[:, len(own) :].float().softmax(-1).cpu())
        widest = max(scores.shape[1] for scores in mine)
        return _Pass(
            torch.cat(features),
            torch.cat([F.pad(scores, (0, widest - scores.shape[1]), value=float("-inf")) for scores in mine]),
            torch.cat([batch.target.cpu() for batch in target.batches]),
            torch.cat(relevant) if relevant else None,
            torch.cat(theirs) if theirs else None,
        )

    @property
    def features(self) -> Tensor:
        return self._passed.features

    @property
    def source_probabilities(self) -> Tensor:
        found = self._passed.theirs
        assert found is not None
        return found

    @property
    def loss(self) -> float:
        seen = self._passed
        return float(target_losses(seen.scores, seen.target, seen.relevant).mean())

    @property
    def calibrated_loss(self) -> float:
        seen = self._passed
        return float(calibrated_losses(seen.scores, seen.target, seen.relevant).mean())


def _classes(pair: Pair) -> bool:
    """Return whether the target has classes to tell apart."""
    return pair.target.task.answers is not None and len(set(pair.target.labels)) > 1


def _both_classes(pair: Pair) -> bool:
    return _classes(pair) and pair.source.task.answers is not None


def _both_names(pair: Pair) -> bool:
    return pair.target.names is not None and pair.source.names is not None


def _always(pair: Pair) -> bool:
    return True


def _label_similarity(pair: Pair) -> float:
    mine, theirs = pair.target.names, pair.source.names
    assert mine is not None
    assert theirs is not None
    return label_similarity(mine, theirs)


# what can be told of a pair, and the score, higher is better; `trial` is the source's expert tried on the few labels
SCORES: Mapping[str, tuple[Callable[[Pair], bool], Callable[[Pair], float]]] = {
    "expert-fisher": (_always, lambda pair: fisher_similarity(pair.target.own, pair.source.own)),
    "probe-fisher": (_always, lambda pair: fisher_similarity(pair.target.probe, pair.source.probe)),
    "probe-fisher-given": (_always, lambda pair: fisher_similarity(pair.target.probe_given, pair.source.probe_given)),
    "task2vec": (_always, lambda pair: -task2vec_distance(pair.target.probe, pair.source.probe)),
    "logme": (_classes, lambda pair: logme(pair.features, pair.target.labels)),
    "leep": (_both_classes, lambda pair: leep(pair.source_probabilities, pair.target.labels)),
    "h-score": (_classes, lambda pair: h_score(pair.features, pair.target.labels)),
    "feature-similarity": (_always, lambda pair: feature_similarity(pair.target.features, pair.source.features)),
    "label-similarity": (_both_names, _label_similarity),
    "trial": (_always, lambda pair: -pair.loss),
    "calibrated-trial": (_always, lambda pair: -pair.calibrated_loss),
}


def _features(backbone: Backbone, task: Task, examples: list[Example]) -> Tensor:
    with torch.no_grad():
        chunks = by_length(examples, _CHUNK)
        return torch.cat([backbone.features(backbone.prepare(chunk, task)).float().cpu() for chunk in chunks])


def _names(backbone: Backbone, task: Task) -> Tensor | None:
    """Return the backbone's vectors (C, D) of a task's answers, None where they are open or are read as tokens."""
    if task.answers is None:
        return None
    answers = backbone.prepare(task.examples("train")[:1], task).answers
    return answers.float().cpu() if answers.is_floating_point() else None
