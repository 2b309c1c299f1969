"""Visual prompts (VPT, arXiv 2203.12119): learned vectors after the class token of a vision transformer."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.experts.insertion import Insertion
from pitune.experts.kind import MOST, Attachment, Kind, KindSettings, Names, Size
from pitune.experts.kinds.prompt import put_prompts


class VisualPromptSettings(KindSettings):
    """Layers are the names of all layers of the vision tower, in order. Vectors carry no positions."""

    length: Size = Field(default=16, description="vectors at every layer, or at the first alone")
    deep: bool = Field(default=True, description="new vectors before every layer, in place of the last ones")
    position: int = Field(default=1, ge=0, le=MOST, description="tokens before the vectors: 1 is the class token")
    patch: Size = Field(default=16, description="side of an image patch in pixels; it scales the starting values")
    layers: Names


class VisualPrompt(Kind):
    """Vectors (length, width) among the patches."""

    name = "visual_prompt"
    settings = VisualPromptSettings
    roles = ("picture_layers",)
    sizes = ("length",)
    adds_input = True

    def default(self, backbone: Backbone) -> dict[str, Any]:
        """Return the layers that read pictures, and the side of a patch in pixels."""
        return {"layers": backbone.sites("picture_layers"), "patch": patch_of(backbone.module)}

    def attach(self, backbone: Backbone, settings: VisualPromptSettings) -> Attachment:
        """Put vectors (length, width) behind `position` tokens of the first layer or, if `deep`, of each."""
        with Insertion(backbone.module) as insertion:
            put_prompts(insertion, settings.layers, self.name, settings.length, settings.position, settings.deep)
            return insertion.finish()

    def initial(
        self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: VisualPromptSettings
    ) -> Tensor:
        """Return values as a patch embedding's would start (VPT, Jia et al., 2022)."""
        return visual_start(shape, settings.patch, generator)


def visual_start(shape: torch.Size, patch: int, generator: torch.Generator) -> Tensor:
    """Return vectors (…, d) of U(±√(6 / (3p² + d))), as a patch embedding would start."""
    bound = math.sqrt(6.0 / (3 * patch**2 + shape[-1]))
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def patch_of(module: nn.Module) -> int:
    """Return the side in pixels of the patches that a model's first convolution cuts; 16 where it has none."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return int(layer.kernel_size[0])
    return 16


VISUAL_PROMPT = VisualPrompt()
