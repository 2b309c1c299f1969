"""Prompt tuning (arXiv 2104.08691): learned vectors in front of what a transformer's first layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from pitune.backbones import Backbone
from pitune.experts.insertion import Insertion, Values, width_of
from pitune.experts.kind import Attachment, Kind, KindSettings, Names, Size, normal
from pitune.experts.stacks import route, stacks_of


class PromptSettings(KindSettings):
    """Layers are the names of all layers of a stack, or of several stacks, in order.

    The vectors leave the sequence after the last layer, so that what pools or reads it sees tokens alone.
    """

    length: Size = Field(default=16, description="vectors in front of the sequence")
    layers: Names


class Prompt(Kind):
    """Vectors (length, width) in front of each stack; with `deep`, new ones before every layer."""

    name = "prompt"
    settings = PromptSettings
    roles = ("layers",)
    sizes = ("length",)
    adds_input = True
    deep = False

    def default(self, backbone: Backbone) -> dict[str, Any]:
        """Return all layers that the backbone names, which `attach` divides into stacks."""
        return {"layers": backbone.sites("layers")}

    def attach(self, backbone: Backbone, settings: PromptSettings) -> Attachment:
        """Put vectors (length, width) before the first layer of each stack, or anew before each layer if `deep`."""
        with Insertion(backbone.module) as insertion:
            for stack in stacks_of(settings.layers):
                put_prompts(insertion, stack, self.name, settings.length, 0, self.deep)
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return values of N(0, 0.02²): vectors that are read from the start."""
        return normal(shape, generator)


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


PROMPT = Prompt()
