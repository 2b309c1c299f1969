"""How long tuning will take, from a short trial of it."""

from __future__ import annotations

from pitune.experts import OWN, Card, attached
from pitune.interpolation.choice import ALONE, JOINT, JUDGED, SCALES
from pitune.interpolation.learner import MixtureLearner, Rates
from pitune.interpolation.mixing import sites_of
from pitune.interpolation.tune import TuneSettings
from pitune.interpolation.weights import MixingWeights
from pitune.prediction import Neighbours
from pitune.training import Expected, Pace, pace_of, untrained


def expected_tuning(near: Neighbours, settings: TuneSettings, *, test: int = 0) -> Expected:
    """Return how long `tune_nearest` will take if all neighbours serve, and answering `test` examples by three experts.

    A step and some answers are tried of the own expert alone and of all neighbours beside it. Candidates that train do
    so once and once for each fold; labels are answered to choose neighbours and their scale, and by every candidate.
    """
    draw, settings = near.target.draw, settings.on(near.target.draw)
    folds = settings.folds if draw.validation and settings.folds else 0
    learned = draw.whole if settings.folds else draw
    training = settings.lasting(learned, near.experts[0].kind)
    paces = [_pace(near, settings, joint) for name, joint in ((ALONE, False), (JOINT, True)) if name in settings.tried]
    runs, slowest = len(paces) * (1 + folds), max(paces, key=lambda pace: pace.a_step)
    labels = len(draw.labels)
    chosen = (len(near.experts) + len(SCALES) + 1) * min(labels, JUDGED) if settings.select else 0
    judged = labels * len(settings.tried) if folds else len(draw.validation) * len(paces) * (training.evaluations + 1)
    stepping = (1 + folds) * training.steps * sum(pace.a_step for pace in paces)
    seconds = slowest.reading * labels + stepping + slowest.an_answer * (chosen + judged + 3 * test)
    return Expected(seconds, runs, training.steps, slowest.a_step, "tuning takes")


def _pace(near: Neighbours, settings: TuneSettings, joint: bool) -> Pace:
    """Return the pace of the own expert, alone or with all the neighbours that may be mixed with it."""
    backbone, draw, like = near.target.backbone, near.target.draw, near.experts[0]
    kind = like.kind
    card = Card(name=OWN, backbone=backbone.fingerprint, base_model=backbone.name, task=draw.task.name)
    own = untrained(backbone, kind, kind.beside(backbone, like.settings, settings.own), card)
    experts = [own, *(near.experts if joint else ())]
    of = [one.settings for one in experts]
    tensors = [{name: value.to(backbone.device) for name, value in one.tensors.items()} for one in experts]
    shares = MixingWeights(sites_of(experts), [1.0] * len(experts), settings.granularity, settings.kind)
    learner = MixtureLearner(kind, of, tensors, weights=shares.to(backbone.device), rates=Rates())
    with attached(backbone, kind, kind.combined(of, tensors)) as place:
        return pace_of(place, learner, draw, settings.lasting(draw, kind))
