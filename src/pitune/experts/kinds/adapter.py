"""Bottleneck adapters after attention and feed-forward (arXiv 1902.00751), as in π-Tuning, or beside (2110.04366)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.insertion import Insertion
from pitune.experts.kind import Attachment, Kind, KindSettings, Names, Size, Tensors, kaiming

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class AdapterSettings(KindSettings):
    """`y ← y + scale · up(activation(down(z)))` at every target module: z = y behind it, or its input beside it."""

    width: Size = Field(default=32, description="width of the bottleneck")
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    scale: float = Field(default=1.0, gt=0)
    placement: Literal["sequential", "parallel"] = "sequential"
    target_modules: Names


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, outputs: int, settings: AdapterSettings) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, settings.width)
        self.up = nn.Linear(settings.width, outputs)
        self._activation = _ACTIVATIONS[settings.activation]
        self._scale = settings.scale
        self._parallel = settings.placement == "parallel"

    def through(self, given: Tensor, output: Tensor) -> Tensor:
        read = (given if self._parallel else output).to(self.down.weight.dtype)
        update: Tensor = self.up(self._activation(self.down(read)))
        return output + (self._scale * update).to(output.dtype)


class Adapter(Kind):
    """Small bottleneck networks in the residual branches."""

    name = "adapter"
    settings = AdapterSettings
    roles = ("outputs",)
    sizes = ("width",)

    def attach(self, backbone: Backbone, settings: AdapterSettings) -> Attachment:
        """Put `y ← y + s·W_up σ(W_down h)` behind each target, a linear layer; `InputError` if it is none."""
        with Insertion(backbone.module) as insertion:
            for target in settings.target_modules:
                layer = insertion.find(target)
                if not isinstance(layer, nn.Linear):
                    raise InputError(f"{target!r} is a {type(layer).__name__}; adapters attach to linear layers")
                inputs = layer.in_features if settings.placement == "parallel" else layer.out_features
                with torch.random.fork_rng(devices=[]):
                    bottleneck = _Bottleneck(inputs, layer.out_features, settings)
                insertion.add(target, self.name, bottleneck, layer.weight)
                insertion.after(layer, bottleneck.through)
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return 0 for all but `W_down` (width, in): the bottleneck adds nothing until `W_up` moves."""
        return kaiming(shape, generator) if tensor.endswith(".down.weight") else torch.zeros(shape)

    def untouched(self, settings: AdapterSettings, tensors: Tensors) -> bool:
        """Return whether every bottleneck ends in 0: where `W_up` and its bias are, whatever `W_down` holds."""
        return not any(
            bool(value.any()) for name, value in tensors.items() if name.endswith((".up.weight", ".up.bias"))
        )


ADAPTER = Adapter()
