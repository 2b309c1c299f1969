"""BitFit (arXiv 2106.10199): biases alone, as what is added to the backbone's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.insertion import Insertion, Values, site_before
from pitune.experts.kind import Attachment, MethodConfig, Tensors, combine_parameters, same_config


class BitfitSettings(MethodConfig):
    """`y ← y + Δb` behind every target module, a linear layer or LayerNorm that has a bias."""

    target_modules: tuple[str, ...] = Field(min_length=1)


class Bitfit:
    """Changes Δb of biases."""

    name = "bitfit"
    linear = True
    config = BitfitSettings

    def default(self, backbone: Backbone) -> dict[str, Any]:
        return {"target_modules": backbone.attachment(self.name)}

    def attach(self, backbone: Backbone, config: BitfitSettings) -> Attachment:
        with Insertion(backbone.module) as insertion:
            for target in config.target_modules:
                layer = insertion.find(target)
                if not isinstance(layer, nn.Linear | nn.LayerNorm) or layer.bias is None:
                    raise InputError(f"{target!r} has no bias to tune; expected a linear layer or LayerNorm with one")
                change = Values(bias=layer.bias.shape)
                insertion.add(target, self.name, change, layer.bias)
                insertion.after(layer, _adds(change))
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, config: Any) -> Tensor:
        return torch.zeros(shape)

    def site(self, tensor: str) -> str:
        return site_before(tensor, self.name)

    def combined(self, configs: Sequence[BitfitSettings], tensors: Sequence[Tensors]) -> MethodConfig:
        return same_config(self.name, configs)

    def combine(
        self, configs: Sequence[BitfitSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        return combine_parameters(self, tensors, weights)

    def peft(self, config: BitfitSettings) -> None:
        return None


def _adds(change: Values) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda given, output: output + change.get("bias").to(output.dtype)


BITFIT = Bitfit()
