"""BitFit (arXiv 2106.10199): biases alone, as what is added to the backbone's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.insertion import Insertion, Values
from pitune.experts.kind import Attachment, Changes, Kind, KindSettings, Names, Tensors


class BitfitSettings(KindSettings):
    """`y ← y + Δb` behind every target module, a linear layer or LayerNorm that has a bias."""

    target_modules: Names


class Bitfit(Kind):
    """Changes Δb of biases."""

    name = "bitfit"
    settings = BitfitSettings
    roles = ("biased",)
    linear = True
    merges = True

    def attach(self, backbone: Backbone, settings: BitfitSettings) -> Attachment:
        """Add `Δb` (out,) to each target's output; `InputError` if it is no linear layer or LayerNorm with a bias."""
        with Insertion(backbone.module) as insertion:
            for target in settings.target_modules:
                layer = insertion.find(target)
                if not isinstance(layer, nn.Linear | nn.LayerNorm) or layer.bias is None:
                    raise InputError(f"{target!r} has no bias to tune; expected a linear layer or LayerNorm with one")
                change = Values(bias=layer.bias.shape)
                insertion.add(target, self.name, change, layer.bias)
                insertion.after(layer, _adds(change))
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return 0, no change of a bias."""
        return torch.zeros(shape)

    def changes(self, layer: nn.Module, settings: BitfitSettings, tensors: Tensors, site: str) -> Changes:
        """Return `Δb` (out,) for the layer's own bias."""
        return {"bias": tensors[f"{site}.{self.name}.bias"]}


def _adds(change: Values) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda given, output: output + change.get("bias").to(output.dtype)


BITFIT = Bitfit()
