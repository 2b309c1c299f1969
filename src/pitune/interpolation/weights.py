"""Mixing weights: how many there are, where they start, and what they are at each site."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pitune.errors import InputError

Granularity = Literal["site", "layer", "global"]
Weighting = Literal["softmax", "free"]


def group_of(site: str, granularity: Granularity) -> str:
    """Return the group whose weights a site shares: itself, the layer it is in, or all."""
    if granularity == "global":
        return "all"
    if granularity == "site":
        return site
    numbered = re.match(r"(.*?\.\d+)(?:\.|$)", site)
    return numbered.group(1) if numbered else site


class MixingWeights:
    """Weights (K,) for each group of sites: softmax(α) as in the paper, or α itself, free and signed."""

    def __init__(self, sites: Sequence[str], start: Sequence[float], granularity: Granularity, kind: Weighting) -> None:
        """Start every group at the weights `start` (K,); softmax needs them positive, and scales them to sum 1."""
        values = torch.tensor(list(start), dtype=torch.float32)
        if kind == "softmax":
            if (values <= 0).any():
                raise InputError(f"softmax weights must start above 0; found {list(start)}; choose free weights")
            values = values.log()
        self.kind = kind
        self.groups = {site: group_of(site, granularity) for site in sites}
        self.alpha = {group: values.clone() for group in dict.fromkeys(self.groups.values())}

    def to(self, device: torch.device) -> MixingWeights:
        """Move the weights to a device and return them."""
        self.alpha = {group: value.to(device) for group, value in self.alpha.items()}
        return self

    def by_group(self) -> dict[str, Tensor]:
        """Return the weights (K,) of each group."""
        return {group: value.softmax(-1) if self.kind == "softmax" else value for group, value in self.alpha.items()}

    def by_site(self) -> dict[str, Tensor]:
        """Return the weights (K,) of each site."""
        groups = self.by_group()
        return {site: groups[group] for site, group in self.groups.items()}
