"""(IA)³ (arXiv 2205.05638) through PEFT: factors on keys, values and the inside of the feed-forward."""

from __future__ import annotations

from typing import Any

import torch
from peft import IA3Config
from peft.tuners.ia3 import IA3Layer
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.experts.kind import Attachment, Changes, Kind, KindSettings, Names, Tensors
from pitune.experts.peft_layers import inject, peft_json, restore

_SUFFIX = ".ia3_l"


class Ia3Settings(KindSettings):
    """PEFT's own field names. Feed-forward modules are scaled at their input, the others at their output."""

    target_modules: Names
    feedforward_modules: tuple[str, ...] = ()


class Ia3(Kind):
    """Learned factors; what is mixed is their distance from 1, where they change nothing."""

    name = "ia3"
    settings = Ia3Settings
    roles = ("keys_values",)
    linear = True
    neutral = 1.0
    merges = True
    exports = True

    def default(self, backbone: Backbone) -> dict[str, Any]:
        """Return keys, values and the last feed-forward layers, which alone are scaled at their input."""
        below = backbone.sites("feedforward_output")
        return {"target_modules": (*backbone.sites("keys_values"), *below), "feedforward_modules": below}

    def attach(self, backbone: Backbone, settings: Ia3Settings) -> Attachment:
        """Put PEFT's layers in place of the targets, with no dropout and no scale beside the factors."""
        module = backbone.module
        layers = inject(module, _peft_config(settings), IA3Layer, settings.target_modules)
        paths = {f"{name}{_SUFFIX}": f"{name}{_SUFFIX}.default" for name in layers}
        return Attachment(paths, lambda: restore(module, layers))

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return 1, the factor that changes nothing."""
        return torch.ones(shape)

    def site(self, tensor: str) -> str:
        """Return the layer whose input or output a factor scales."""
        return tensor.removesuffix(_SUFFIX)

    def changes(self, layer: nn.Module, settings: Ia3Settings, tensors: Tensors, site: str) -> Changes:
        """Return `(l − 1) ∘ W`, by row or, of a feed-forward module, by column; a row's bias is scaled with it."""
        factor = tensors[f"{site}{_SUFFIX}"]  # (out, 1), or (1, in) of a feed-forward module
        weight = layer.get_parameter("weight")
        changes = {"weight": weight.float() * (factor.to(weight.device) - 1)}
        if factor.shape[1] == 1 and getattr(layer, "bias", None) is not None:
            bias = layer.get_parameter("bias")
            changes["bias"] = bias.float() * (factor.to(bias.device)[:, 0] - 1)
        return changes

    def peft(self, settings: Ia3Settings) -> dict[str, Any]:
        """Return PEFT's configuration of IA3, whose tensors are named and shaped as these are."""
        return peft_json(_peft_config(settings))


def _peft_config(settings: Ia3Settings) -> IA3Config:
    return IA3Config(
        target_modules=list(settings.target_modules), feedforward_modules=list(settings.feedforward_modules)
    )


IA3 = Ia3()
