"""How well an expert of another task may serve a target, told from the target's few labels: the list to add to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pitune.experts import Expert, PoolIndex
from pitune.prediction.embedding import embedding
from pitune.prediction.formulas import feature_similarity, h_score, label_similarity, leep, logme
from pitune.prediction.retrieval import nearest
from pitune.prediction.similarity import fisher_similarity, task2vec_distance
from pitune.prediction.target import Target
from pitune.prediction.trials import calibrated, halved
from pitune.registry import Registry


def _always(target: Target, expert: Expert) -> bool:  # a lambda could not be sent to worker processes
    return True


@dataclass(frozen=True)
class Score:
    """A transferability score: `rate` gives one number for one expert, comparable between experts of one target.

    Higher is better. `applies` says whether the score can be told of the two. `shortlist` leaves of a pool's named
    experts those that may be among the k best, so that a large pool need not be read whole; all stay unless given.
    """

    name: str
    about: str
    rate: Callable[[Target, Expert], float]
    applies: Callable[[Target, Expert], bool] = _always
    shortlist: Callable[[Target, PoolIndex, Sequence[str], int], Sequence[str]] | None = None


_NAMES = (
    "expert-fisher",
    "probe",
    "probe-fisher-given",
    "task2vec",
    "logme",
    "leep",
    "h-score",
    "feature-similarity",
    "label-similarity",
    "trial",
    "calibrated-trial",
)
SCORES: Registry[Score] = Registry(
    "score",
    group="pitune.scores",
    known={name: f"pitune.prediction.scores:{name.upper().replace('-', '_')}" for name in _NAMES},
)


def _classes(target: Target, expert: Expert) -> bool:
    return target.has_classes


def _both_classes(target: Target, expert: Expert) -> bool:
    return target.has_classes and bool(target.source(expert).answers)


def _both_names(target: Target, expert: Expert) -> bool:
    return target.names is not None and target.source(expert).names is not None


def _probe(target: Target, expert: Expert) -> float:
    return fisher_similarity(target.probe, embedding(expert))


def _probe_nearest(target: Target, index: PoolIndex, names: Sequence[str], k: int) -> list[str]:
    return [name for name, _ in nearest(index, target.probe, names, k)]


def _expert_nearest(target: Target, index: PoolIndex, names: Sequence[str], k: int) -> list[str]:
    return [name for name, _ in nearest(index, target.own, names, k, by="expert")]


def _trial(target: Target, expert: Expert) -> float:
    return -target.evaluated(expert).loss


def _calibrated_trial(target: Target, expert: Expert) -> float:
    return -float(target.evaluated(expert).calibrated.mean())


def _expert_fisher(target: Target, expert: Expert) -> float:
    return fisher_similarity(target.own, embedding(expert, "expert"))


def _probe_fisher_given(target: Target, expert: Expert) -> float:
    return fisher_similarity(target.probe_given, target.source(expert).probe_given)


def _task2vec(target: Target, expert: Expert) -> float:
    return -task2vec_distance(target.probe, embedding(expert))


def _logme(target: Target, expert: Expert) -> float:
    return logme(target.seen_by(expert), target.labels)


def _leep(target: Target, expert: Expert) -> float:
    return leep(target.probabilities(expert), target.labels)


def _h_score(target: Target, expert: Expert) -> float:
    return h_score(target.seen_by(expert), target.labels)


def _feature_similarity(target: Target, expert: Expert) -> float:
    return feature_similarity(target.features.values, target.source(expert).features.values)


def _label_similarity(target: Target, expert: Expert) -> float:
    mine, theirs = target.names, target.source(expert).names
    assert mine is not None
    assert theirs is not None
    return label_similarity(mine, theirs)


PROBE = Score(
    "probe",
    "how alike the tasks' Fisher information is at the fixed probe (π-Tuning, step 2)",
    _probe,
    shortlist=_probe_nearest,
)
TRIAL = Score("trial", "minus the loss of the untouched expert on the few labels", _trial, shortlist=halved)
CALIBRATED_TRIAL = Score(
    "calibrated-trial",
    "the same without the expert's over-confidence",
    _calibrated_trial,
    shortlist=partial(halved, judge=calibrated),
)
EXPERT_FISHER = Score(
    "expert-fisher",
    "how alike the Fisher information is at each task's own expert",
    _expert_fisher,
    shortlist=_expert_nearest,
)
PROBE_FISHER_GIVEN = Score("probe-fisher-given", "the probe's, of given labels, not of drawn ones", _probe_fisher_given)
TASK2VEC = Score("task2vec", "minus Task2Vec's distance by the probe", _task2vec)
LOGME = Score("logme", "LogME of features with the expert in place", _logme, _classes)
LEEP = Score("leep", "LEEP of the expert's answers to its own task", _leep, _both_classes)
H_SCORE = Score("h-score", "H-score of features with the expert in place", _h_score, _classes)
FEATURE_SIMILARITY = Score("feature-similarity", "how alike the inputs are to the frozen backbone", _feature_similarity)
LABEL_SIMILARITY = Score("label-similarity", "how alike the answers' names are", _label_similarity, _both_names)
