"""Prompt tuning (arXiv 2104.08691): learned vectors in front of what a transformer's first layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from pitune.backbones import Backbone
from pitune.experts.insertion import Insertion, Values, site_before, width_of
from pitune.experts.kind import Attachment, MethodConfig, Tensors, combine_parameters, normal, same_config
from pitune.experts.stacks import route, stacks_of


class PromptSettings(MethodConfig):
    """Layers are the names of all layers of a stack, or of several stacks, in order.

    The vectors leave the sequence after the last layer, so that what pools or reads it sees tokens alone.
    """

    length: int = Field(default=16, ge=1, description="vectors in front of the sequence")
    layers: tuple[str, ...] = Field(min_length=1)


class Prompt:
    """Vectors (length, width) in front of each stack; with `deep`, new ones before every layer."""

    linear = False
    config = PromptSettings

    def __init__(self, name: str, deep: bool) -> None:
        self.name = name
        self._deep = deep

    def default(self, backbone: Backbone) -> dict[str, Any]:
        return {"layers": backbone.attachment(self.name)}

    def attach(self, backbone: Backbone, config: PromptSettings) -> Attachment:
        with Insertion(backbone.module) as insertion:
            for stack in stacks_of(config.layers):
                put_prompts(insertion, stack, self.name, config.length, 0, self._deep)
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, config: Any) -> Tensor:
        return normal(shape, generator)

    def site(self, tensor: str) -> str:
        return site_before(tensor, self.name)

    def combined(self, configs: Sequence[PromptSettings], tensors: Sequence[Tensors]) -> MethodConfig:
        return same_config(self.name, configs)

    def combine(
        self, configs: Sequence[PromptSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        return combine_parameters(self, tensors, weights)

    def peft(self, config: PromptSettings) -> None:
        return None


def put_prompts(insertion: Insertion, stack: Sequence[str], label: str, length: int, position: int, deep: bool) -> None:
    """Give the layers of a stack, or the first alone, vectors (length, width) of their own, and route them."""
    own: list[Values] = []
    for name in stack if deep else stack[:1]:
        layer = insertion.find(name)
        own.append(Values(vectors=(length, width_of(layer))))
        insertion.add(name, label, own[-1], next(layer.parameters()))

    def vectors(i: int) -> Tensor | None:
        return own[i].get("vectors") if i < len(own) else None

    route(insertion, stack, vectors, length, position)


PROMPT = Prompt("prompt", deep=False)
