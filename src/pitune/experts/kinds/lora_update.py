"""What a LoRA is: its settings, the names of its tensors, and the change ΔW = s·B·A that they make."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor

from pitune.experts.kind import MOST, KindSettings, Names, Size, Tensors
from pitune.experts.patterns import pattern_key

DOWN, UP, BIAS = ".lora_A.weight", ".lora_B.weight", ".lora_B.bias"


class LoraSettings(KindSettings):
    """PEFT's own field names, so that a configuration reads the same there."""

    r: Size = Field(default=8, description="rank")
    lora_alpha: float = Field(default=16, gt=0, description="ΔW is scaled by lora_alpha / r")
    target_modules: Annotated[str, Field(min_length=1)] | Names = Field(
        description="names, or endings of names, of linear layers; or one regular expression for all"
    )
    use_rslora: bool = Field(default=False, description="scale by lora_alpha / √r instead")
    rank_pattern: dict[str, Size] = Field(default_factory=dict, max_length=MOST)
    alpha_pattern: dict[str, float] = Field(default_factory=dict, max_length=MOST)
    lora_bias: bool = Field(default=False, description="train a bias with each update, scaled as it is")


def rank_of(settings: LoraSettings, site: str) -> int:
    """Return the rank that the settings give a site."""
    return settings.rank_pattern.get(pattern_key(tuple(settings.rank_pattern), site), settings.r)


def scaling(settings: LoraSettings, site: str, rank: int) -> float:
    """Return the factor s of ΔW = s·B·A at one site."""
    alpha = settings.alpha_pattern.get(pattern_key(tuple(settings.alpha_pattern), site), settings.lora_alpha)
    return alpha / math.sqrt(rank) if settings.use_rslora else alpha / rank


def delta(settings: LoraSettings, tensors: Tensors, site: str) -> Tensor:
    """Return ΔW (out, in) at one site."""
    down, up = tensors[f"{site}{DOWN}"], tensors[f"{site}{UP}"]
    return scaling(settings, site, down.shape[0]) * up @ down


def bias_change(settings: LoraSettings, tensors: Tensors, site: str) -> Tensor:
    """Return Δb (out,) at one site of a LoRA that has biases."""
    return scaling(settings, site, rank_in(tensors, site)) * tensors[f"{site}{BIAS}"]


def rank_in(tensors: Tensors, site: str) -> int:
    """Return the rank that the tensors of a site have; 0 if there are none."""
    factor = tensors.get(f"{site}{DOWN}")
    return 0 if factor is None else factor.shape[0]
