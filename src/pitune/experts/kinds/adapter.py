"""Bottleneck adapters after attention and feed-forward (arXiv 1902.00751), as in π-Tuning, or beside (2110.04366)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.insertion import Insertion, site_before
from pitune.experts.kind import Attachment, MethodConfig, Tensors, combine_parameters, kaiming, same_config

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class AdapterSettings(MethodConfig):
    """`y ← y + scale · up(activation(down(z)))` at every target module: z = y behind it, or its input beside it."""

    width: int = Field(default=32, ge=1, description="width of the bottleneck")
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    scale: float = Field(default=1.0, gt=0)
    placement: Literal["sequential", "parallel"] = "sequential"
    target_modules: tuple[str, ...] = Field(min_length=1)


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, config: AdapterSettings) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, config.width)
        self.up = nn.Linear(config.width, outputs)
        self._activation = _ACTIVATIONS[config.activation]
        self._scale = config.scale
        self._parallel = config.placement == "parallel"

    def through(self, given: Tensor, output: Tensor) -> Tensor:
        read = (given if self._parallel else output).to(self.down.weight.dtype)
        update: Tensor = self.up(self._activation(self.down(read)))
        return output + (self._scale * update).to(output.dtype)


class Adapter:
    """Small bottleneck networks in the residual branches."""

    name = "adapter"
    linear = False
    config = AdapterSettings

    def default(self, backbone: Backbone) -> dict[str, Any]:
        return {"target_modules": backbone.attachment(self.name)}

    def attach(self, backbone: Backbone, config: AdapterSettings) -> Attachment:
        with Insertion(backbone.module) as insertion:
            for target in config.target_modules:
                layer = insertion.find(target)
                if not isinstance(layer, nn.Linear):
                    raise InputError(f"{target!r} is a {type(layer).__name__}; adapters attach to linear layers")
                inputs = layer.in_features if config.placement == "parallel" else layer.out_features
                with torch.random.fork_rng(devices=[]):
                    bottleneck = _Bottleneck(inputs, layer.out_features, config)
                insertion.add(target, self.name, bottleneck, layer.weight)
                insertion.after(layer, bottleneck.through)
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, config: Any) -> Tensor:
        return kaiming(shape, generator) if tensor.endswith(".down.weight") else torch.zeros(shape)

    def site(self, tensor: str) -> str:
        return site_before(tensor, self.name)

    def combined(self, configs: Sequence[AdapterSettings], tensors: Sequence[Tensors]) -> MethodConfig:
        return same_config(self.name, configs)

    def combine(
        self, configs: Sequence[AdapterSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        return combine_parameters(self, tensors, weights)

    def peft(self, config: AdapterSettings) -> None:
        return None


ADAPTER = Adapter()
