"""Unified prompts (UPT, arXiv 2210.07225, as in MVLPT): text and visual prompts out of one small transformer.

All prompts, of the text and of every vision layer, go through one block in which each sees all others. Once
trained they are constants: `fold` keeps them and drops the transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.expert import Expert
from pitune.experts.insertion import Insertion, Values, width_of
from pitune.experts.kind import (
    Attachment,
    MethodConfig,
    Tensors,
    combine_parameters,
    kaiming,
    normal,
    read_config,
    same_config,
)
from pitune.experts.kinds.text_prompt import TEXT_PROMPT, TextPromptSettings, embedding_of, put_words
from pitune.experts.kinds.visual_prompt import VISUAL_PROMPT, VisualPromptSettings, patch_of, visual_start
from pitune.experts.stacks import route

_LABEL = "unified_prompt"


class UnifiedPromptSettings(MethodConfig):
    """`text_length` vectors with every class name, and `visual_length` at every vision layer (or the first)."""

    text_length: int = Field(default=4, ge=1)
    visual_length: int = Field(default=4, ge=1)
    deep: bool = Field(default=True, description="visual vectors of their own at every layer")
    width: int = Field(default=128, ge=1, description="width of the transformer that makes the prompts")
    folded: bool = Field(default=False, description="the prompts as they are, without the transformer")
    position: int = Field(default=1, ge=0, description="tokens before the visual vectors: 1 is the class token")
    patch: int = Field(default=16, ge=1, description="side of an image patch in pixels; it scales the starting values")
    tower: str
    embedding: str
    layers: tuple[str, ...] = Field(min_length=1)


class PromptMaker(nn.Module):
    """Prompts of both towers to prompts of both towers: one pre-LayerNorm block of one head, 4× inside.

    text (M, D_t); visual (L, N, D_v). Without `width` they pass as they are.
    """

    def __init__(self, text: tuple[int, ...], visual: tuple[int, ...], width: int | None) -> None:
        super().__init__()
        self.seeds = Values(text=text, visual=visual)
        self._width = width
        if width is None:
            return
        self.text_in, self.text_out = nn.Linear(text[-1], width), nn.Linear(width, text[-1])
        self.visual_in, self.visual_out = nn.Linear(visual[-1], width), nn.Linear(width, visual[-1])
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention_in, self.attention_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp_in, self.mlp_out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return prompts of the text (M, D_t) and of the vision layers (L, N, D_v)."""
        text, visual = self.seeds.get("text"), self.seeds.get("visual")
        if self._width is None:
            return text, visual
        hidden = torch.cat([self.text_in(text), self.visual_in(visual.flatten(0, 1))])
        query, key, value = self.attention_in(self.attention_norm(hidden)).chunk(3, -1)
        seen = (query @ key.T * self._width**-0.5).softmax(-1) @ value  # over all prompts of both kinds
        hidden = hidden + self.attention_out(seen)
        hidden = hidden + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(hidden))))
        texts, visuals = hidden[: len(text)], hidden[len(text) :]
        return self.text_out(texts), self.visual_out(visuals).view(visual.shape)


class UnifiedPrompt:
    """One set of prompts for both towers of a dual encoder."""

    name = _LABEL
    linear = False
    config = UnifiedPromptSettings

    def default(self, backbone: Backbone) -> dict[str, Any]:
        tower, embedding, *layers = backbone.attachment(self.name)
        return {"tower": tower, "embedding": embedding, "layers": layers, "patch": patch_of(backbone.module)}

    def attach(self, backbone: Backbone, config: UnifiedPromptSettings) -> Attachment:
        with Insertion(backbone.module) as insertion:
            words = embedding_of(insertion, config.embedding).weight
            depth = len(config.layers) if config.deep else 1
            text = (config.text_length, words.shape[1])
            visual = (depth, config.visual_length, width_of(insertion.find(config.layers[0])))
            with torch.random.fork_rng(devices=[]):
                maker = PromptMaker(text, visual, None if config.folded else config.width)
            insertion.add("", self.name, maker, words)
            put_words(insertion, config.tower, config.embedding, lambda: maker()[0], config.text_length, "end")
            made: list[Tensor] = []

            def vectors(i: int) -> Tensor | None:
                if i == 0:
                    made[:] = list(maker()[1])
                return made.pop(0) if made else None

            route(insertion, config.layers, vectors, config.visual_length, config.position)
            return insertion.finish()

    def initial(
        self, tensor: str, shape: torch.Size, generator: torch.Generator, config: UnifiedPromptSettings
    ) -> Tensor:
        if tensor.endswith("seeds.text"):
            return normal(shape, generator)
        if tensor.endswith("seeds.visual"):
            return visual_start(shape, config.patch, generator)
        if tensor.endswith("_norm.weight"):
            return torch.ones(shape)
        return torch.zeros(shape) if tensor.endswith(".bias") else kaiming(shape, generator)

    def site(self, tensor: str) -> str:
        return self.name

    def combined(self, configs: Sequence[UnifiedPromptSettings], tensors: Sequence[Tensors]) -> MethodConfig:
        return same_config(self.name, configs)

    def combine(
        self, configs: Sequence[UnifiedPromptSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        return combine_parameters(self, tensors, weights)

    def peft(self, config: UnifiedPromptSettings) -> None:
        return None


@torch.no_grad()
def fold(expert: Expert) -> Expert:
    """Return the same unified prompt without its transformer: the prompts alone, with the same outputs."""
    config = _settings(expert)
    if config.folded:
        return expert
    seeds = {name: expert.tensors[f"{_LABEL}.seeds.{name}"] for name in ("text", "visual")}
    maker = PromptMaker(tuple(seeds["text"].shape), tuple(seeds["visual"].shape), config.width).to(seeds["text"])
    maker.load_state_dict({name.removeprefix(f"{_LABEL}."): value for name, value in expert.tensors.items()})
    text, visual = maker()
    tensors = {f"{_LABEL}.seeds.text": text, f"{_LABEL}.seeds.visual": visual}
    kept = config.model_copy(update={"folded": True})
    return replace(expert, config=kept.model_dump(mode="json"), tensors=tensors, fisher=None)


def split(expert: Expert) -> tuple[Expert, Expert]:
    """Return a unified prompt as a plain text prompt and a plain visual prompt; together they are the same."""
    config, folded = _settings(expert), fold(expert)
    text = TextPromptSettings(length=config.text_length, tower=config.tower, embedding=config.embedding)
    visual = VisualPromptSettings(
        length=config.visual_length,
        deep=config.deep,
        position=config.position,
        patch=config.patch,
        layers=config.layers,
    )
    vectors = folded.tensors[f"{_LABEL}.seeds.visual"]
    shown = {
        f"{layer}.{VISUAL_PROMPT.name}.vectors": own
        for layer, own in zip(config.layers, vectors.unbind(), strict=False)
    }
    spoken = {f"{config.embedding}.{TEXT_PROMPT.name}.vectors": folded.tensors[f"{_LABEL}.seeds.text"]}
    return (
        replace(folded, method=TEXT_PROMPT.name, config=text.model_dump(mode="json"), tensors=spoken),
        replace(folded, method=VISUAL_PROMPT.name, config=visual.model_dump(mode="json"), tensors=shown),
    )


def _settings(expert: Expert) -> UnifiedPromptSettings:
    if expert.method != _LABEL:
        raise InputError(f"expert {expert.name!r} is of kind {expert.method!r}; expected {_LABEL}")
    config = read_config(UNIFIED_PROMPT, expert.config, f"expert {expert.name!r}")
    assert isinstance(config, UnifiedPromptSettings)
    return config


UNIFIED_PROMPT = UnifiedPrompt()
