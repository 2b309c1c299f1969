"""Bottleneck adapters after attention and feed-forward (arXiv 1902.00751), as in π-Tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pitune.backbones import Backbone
from pitune.experts._method import Attachment, MethodConfig, Tensors, combine_parameters, kaiming

_CHILD = "pitune_adapter"
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu, "silu": F.silu}


class AdapterSettings(MethodConfig):
    """`y ← y + scale · up(activation(down(y)))` behind every target module."""

    width: int = Field(default=32, ge=1, description="width of the bottleneck")
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    scale: float = Field(default=1.0, gt=0)
    target_modules: tuple[str, ...] = Field(min_length=1)


class _Bottleneck(nn.Module):
    def __init__(self, inputs: int, config: AdapterSettings) -> None:
        super().__init__()
        self.down = nn.Linear(inputs, config.width)
        self.up = nn.Linear(config.width, inputs)
        self._activation = _ACTIVATIONS[config.activation]
        self._scale = config.scale

    def forward(self, hidden: Tensor) -> Tensor:
        update: Tensor = self.up(self._activation(self.down(hidden)))
        return hidden + self._scale * update


class Adapter:
    """Small bottleneck networks in the residual branches."""

    name = "adapter"
    config = AdapterSettings

    def default(self, backbone: Backbone) -> dict[str, Any]:
        return {"target_modules": backbone.attachment(self.name)}

    def attach(self, backbone: Backbone, config: AdapterSettings) -> Attachment:
        paths: dict[str, str] = {}
        undo = []
        for target in config.target_modules:
            layer = backbone.module.get_submodule(target)
            with torch.random.fork_rng(devices=[]):
                bottleneck = _Bottleneck(layer.out_features, config).to(layer.weight)  # type: ignore[arg-type]
            layer.add_module(_CHILD, bottleneck)
            hook = layer.register_forward_hook(_through)
            undo.append((layer, hook))
            names = [name for name, _ in bottleneck.named_parameters()]
            paths |= {f"{target}.adapter.{name}": f"{target}.{_CHILD}.{name}" for name in names}

        def detach() -> None:
            for layer, hook in undo:
                hook.remove()
                delattr(layer, _CHILD)

        return Attachment(paths, detach)

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        return kaiming(shape, generator) if tensor.endswith(".down.weight") else torch.zeros(shape)

    def site(self, tensor: str) -> str:
        return tensor.rsplit(".adapter.", 1)[0]

    def combined(self, configs: Sequence[AdapterSettings], tensors: Sequence[Tensors]) -> AdapterSettings:
        return configs[0]

    def combine(
        self, configs: Sequence[AdapterSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        return combine_parameters(self, tensors, weights)


def _through(layer: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    result: Tensor = layer.get_submodule(_CHILD)(output)
    return result


ADAPTER = Adapter()
