"""A method in a study: the target's own expert at half its strength."""

from __future__ import annotations

from pitune.experts import Expert
from pitune.interpolation import mix
from pitune.studies import BASELINES, Baseline, Trial


def half_single(trial: Trial) -> Expert:
    """Return ½ φ of the single expert φ."""
    single = BASELINES.get("single").run(trial)
    assert isinstance(single, Expert)
    return mix([single], [0.5])


HALF_SINGLE = Baseline("half single", half_single, "the target's own expert at half its strength")
