"""How an expert is trained."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pitune.experts import Kind
from pitune.training.precision import Precision

_BOUND = 1 << 31
_PASSES = 20  # over the labels, docs/settings.md
_FEWEST, _MOST, _BATCH = 60, 400, 16
_AT_ANSWERS, _ALL = 200, 256  # steps, and examples in each, where a step costs the same however many it holds
_HELD = 256  # labels, of more the pull towards the start no longer steadies a run at a high rate, docs/settings.md
_FEW = 1000  # labels; of more, some can be spared to stop by
PULL = 1.0  # strength for runs without stopping, chosen on validation data of six tasks, docs/settings.md


class TrainingSettings(BaseModel):
    """Hyper-parameters of one run; they are stored in the expert's card."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(default=200, ge=1, le=_BOUND, description="optimiser steps at most")
    batch_size: int = Field(default=32, ge=1, le=_BOUND, description="examples a forward pass")
    accumulation: int = Field(default=1, ge=1, le=_BOUND, description="forward passes an optimiser step")
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    warmup: float = Field(default=0.1, ge=0, lt=1, description="share of the steps with a rising rate")
    schedule: Literal["cosine", "linear"] = "cosine"
    dropout: float = Field(default=0.0, ge=0, lt=1, description="share dropped out of what a LoRA reads")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    pull: float = Field(
        default=0.0, ge=0, description="strength of a pull towards the start, divided by the number of labels"
    )
    gradient_clip: float = Field(default=1.0, gt=0)
    precision: Precision = Field(default="fp32", description="number format of the losses; what is learned is float32")
    gradient_checkpointing: bool = Field(
        default=False, description="layers are computed again in the backward pass, to save memory"
    )
    evaluations: int = Field(default=8, ge=1, description="how often validation data is looked at")
    patience: int = Field(default=4, ge=1, description="evaluations without a gain before stopping")


def target_training(examples: int, kind: Kind, *, stopped: bool, whole: int | None = None) -> TrainingSettings:
    """Return how to train an expert of a kind on a target's labels.

    Twenty passes in batches of 16, at least 60 steps and at most 400; a kind that touches answers alone takes 200 steps
    of all the labels, 256 at most. Runs that labels kept apart stop, and those of more than 256 labels, on which a pull
    divided by their number has little hold, may learn at another rate; a run on a fold at that of the `whole`.
    """
    rate = ((stopped or (whole or examples) > _HELD) and kind.steady_rate) or kind.learning_rate
    if kind.at_answers:
        return TrainingSettings(steps=_AT_ANSWERS, batch_size=max(1, min(examples, _ALL)), learning_rate=rate)
    steps = min(_MOST, max(_FEWEST, math.ceil(_PASSES * examples / _BATCH)))
    return TrainingSettings(steps=steps, batch_size=_BATCH, learning_rate=rate)


def folds_of(labels: int) -> int:
    """Return into how many folds so few labels are dealt, so that all train and all judge; 0 where they are many."""
    return 2 if labels <= _FEW else 0
