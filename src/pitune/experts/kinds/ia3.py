"""(IA)³ (arXiv 2205.05638) through PEFT: factors on keys, values and the inside of the feed-forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import IA3Config
from peft.tuners.ia3 import IA3Layer
from pydantic import Field
from torch import Tensor

from pitune.backbones import Backbone
from pitune.experts.kind import Attachment, MethodConfig, Tensors, combine_parameters, same_config
from pitune.experts.peft_layers import inject, peft_json, restore

_SUFFIX = ".ia3_l"


class Ia3Settings(MethodConfig):
    """PEFT's own field names. Feed-forward modules are scaled at their input, the others at their output."""

    target_modules: tuple[str, ...] = Field(min_length=1)
    feedforward_modules: tuple[str, ...] = ()


class Ia3:
    """Learned factors; what is mixed is their distance from 1, where they change nothing."""

    name = "ia3"
    linear = True
    config = Ia3Settings

    def default(self, backbone: Backbone) -> dict[str, Any]:
        return {
            "target_modules": backbone.attachment(self.name),
            "feedforward_modules": backbone.attachment("ia3_feedforward"),
        }

    def attach(self, backbone: Backbone, config: Ia3Settings) -> Attachment:
        module = backbone.module
        layers = inject(module, _peft_config(config), IA3Layer, config.target_modules)
        paths = {f"{name}{_SUFFIX}": f"{name}{_SUFFIX}.default" for name in layers}
        return Attachment(paths, lambda: restore(module, layers))

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, config: Any) -> Tensor:
        return torch.ones(shape)

    def site(self, tensor: str) -> str:
        return tensor.removesuffix(_SUFFIX)

    def combined(self, configs: Sequence[Ia3Settings], tensors: Sequence[Tensors]) -> MethodConfig:
        return same_config(self.name, configs)

    def combine(
        self, configs: Sequence[Ia3Settings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        return combine_parameters(self, tensors, weights, around=1.0)

    def peft(self, config: Ia3Settings) -> dict[str, Any]:
        return peft_json(_peft_config(config))


def _peft_config(config: Ia3Settings) -> IA3Config:
    return IA3Config(target_modules=list(config.target_modules), feedforward_modules=list(config.feedforward_modules))


IA3 = Ia3()
