"""LayerNorm tuning (arXiv 2312.11420): scales and shifts of the norms, as what is added to the backbone's own.

PEFT's LN_TUNING keeps whole copies of the norms. Mixing those with weights that do not sum to 1 would rescale
the backbone itself, so the distance from the backbone's values is kept here; `export_peft` writes the copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.insertion import Insertion, site_before
from pitune.experts.kind import Attachment, MethodConfig, Tensors, combine_parameters, same_config


class LayernormSettings(MethodConfig):
    """Target modules are norms of any kind that have a `weight`, and a `bias` or not."""

    target_modules: tuple[str, ...] = Field(min_length=1)


class _TunedNorm(nn.Module):
    """A norm, computed with `weight + Δweight` and `bias + Δbias`."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        for name, value in base.named_parameters():
            self.register_parameter(name, nn.Parameter(torch.zeros_like(value)))

    def forward(self, hidden: Tensor) -> Tensor:
        tuned = {name: value + getattr(self, name).to(value.dtype) for name, value in self.base.named_parameters()}
        output: Tensor = functional_call(self.base, tuned, (hidden,))
        return output


class Layernorm:
    """Changes of the norms' scales and shifts."""

    name = "layernorm"
    linear = True
    config = LayernormSettings

    def default(self, backbone: Backbone) -> dict[str, Any]:
        return {"target_modules": backbone.attachment(self.name)}

    def attach(self, backbone: Backbone, config: LayernormSettings) -> Attachment:
        with Insertion(backbone.module) as insertion:
            for target in config.target_modules:
                base = insertion.find(target)
                if {name for name, _ in base.named_parameters()} - {"weight", "bias"} or not hasattr(base, "weight"):
                    raise InputError(f"{target!r} is a {type(base).__name__}; expected a norm with a weight")
                insertion.replace(target, self.name, _TunedNorm(base))
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, config: Any) -> Tensor:
        return torch.zeros(shape)

    def site(self, tensor: str) -> str:
        return site_before(tensor, self.name)

    def combined(self, configs: Sequence[LayernormSettings], tensors: Sequence[Tensors]) -> MethodConfig:
        return same_config(self.name, configs)

    def combine(
        self, configs: Sequence[LayernormSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        return combine_parameters(self, tensors, weights)

    def peft(self, config: LayernormSettings) -> None:
        return None


LAYERNORM = Layernorm()
