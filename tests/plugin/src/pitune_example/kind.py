"""A kind of expert: a factor 1 + g on the output of every layer that ends a block."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.experts import Attachment, Kind, KindSettings


class GateSettings(KindSettings):
    """Which layers are scaled."""

    target_modules: tuple[str, ...] = Field(min_length=1)


class Gate(Kind):
    """One number g for each layer; 0 leaves the backbone as it is."""

    name = "gate"
    settings = GateSettings
    roles = ("outputs",)
    linear = True

    def attach(self, backbone: Backbone, settings: GateSettings) -> Attachment:
        layers = [backbone.module.get_submodule(target) for target in settings.target_modules]
        for layer in layers:
            layer.register_parameter("gate", nn.Parameter(torch.zeros(())))
        hooks = [layer.register_forward_hook(_scaled) for layer in layers]

        def detach() -> None:
            for layer, hook in zip(layers, hooks, strict=True):
                hook.remove()
                del layer.gate

        return Attachment({f"{target}.gate": f"{target}.gate" for target in settings.target_modules}, detach)

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        return torch.zeros(shape)

    def site(self, tensor: str) -> str:
        return tensor.removesuffix(".gate")


def _scaled(layer: nn.Module, given: tuple[Any, ...], output: Tensor) -> Tensor:
    gate: Any = layer.gate
    scaled: Tensor = output * (1 + gate)
    return scaled


GATE = Gate()
