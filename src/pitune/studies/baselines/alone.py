"""Without any other task: nothing learned, one expert of the target's own, and two of them."""

from __future__ import annotations

from dataclasses import replace

from pitune.experts import KINDS, Card, Expert, make_settings
from pitune.interpolation import mix
from pitune.studies.baselines.baseline import SINGLE, Baseline
from pitune.studies.rows import Measured
from pitune.studies.trial import Trial
from pitune.training import untrained

_ANOTHER = 1000  # added to the seed, for a second run on the same examples


def zero_shot(trial: Trial) -> Measured:
    """Return what the backbone scores by itself."""
    return trial.score(None)


def single(trial: Trial) -> Expert:
    """Return the target's own expert as the paper trains it: stopped by labels that it never learns from."""
    return trial.fitted("single")


def single_of_every_label(trial: Trial) -> Expert:
    """Return the target's own expert as π-Tuning trains it: on every label, held near its start."""
    return trial.tuned.folded["alone"]


def mean_of_two_singles(trial: Trial) -> Expert:
    """Return the mean of two runs on the same examples, in another order and from other starting values."""
    backbone, kind, seed = trial.backbone, KINDS.get("lora"), trial.draw.seed + _ANOTHER
    card = Card(name="another-start", backbone=backbone.fingerprint, base_model=backbone.name)
    start = untrained(backbone, kind, make_settings(kind, backbone), card, seed=seed)
    again = trial.fitted("again", start=start, draw=replace(trial.draw, seed=seed))
    return mix([single(trial), again], [0.5, 0.5])


ZERO_SHOT = Baseline("zero-shot", zero_shot, "the backbone as it is", default=True, demo=True)
SINGLE_EXPERT = Baseline(
    SINGLE, single, "the target's own expert, without neighbours", default=True, demo=True, title="single expert"
)
EVERY_LABEL = Baseline(
    "single, every label",
    single_of_every_label,
    "the target's own expert, as π-Tuning trains it",
    default=True,
    demo=True,
    title="single expert of every label",
)
TWO_SINGLES = Baseline(
    "mean of two singles", mean_of_two_singles, "the mean of two runs on the same labels", default=True
)
