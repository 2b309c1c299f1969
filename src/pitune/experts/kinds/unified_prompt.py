"""Unified prompts (UPT, arXiv 2210.07225, as in MVLPT): text and visual prompts out of one small transformer.

All prompts, of the text and of every vision layer, go through one block in which each sees all others. Once
trained they are constants: `fold` keeps them and drops the transformer.
"""

from __future__ import annotations

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
from pitune.experts.kind import MOST, Attachment, Kind, KindSettings, Names, Size, kaiming, normal
from pitune.experts.kinds.text_prompt import TEXT_PROMPT, Around, TextPromptSettings, embedding_of, put_words
from pitune.experts.kinds.visual_prompt import VISUAL_PROMPT, VisualPromptSettings, patch_of, visual_start
from pitune.experts.stacks import route

_LABEL = "unified_prompt"


class UnifiedPromptSettings(KindSettings):
    """`text_length` vectors with every class name, and `visual_length` at every vision layer (or the first)."""

    text_length: Size = 4
    visual_length: Size = 4
    deep: bool = Field(default=True, description="visual vectors of their own at every layer")
    width: Size = Field(default=128, description="width of the transformer that makes the prompts")
    attends: bool = Field(
        default=True,
        description="whether prompts see each other in the transformer; in MVLPT's released code none does",
    )
    folded: bool = Field(default=False, description="the prompts as they are, without the transformer")
    position: int = Field(
        default=1, ge=0, le=MOST, description="tokens before the visual vectors: 1 is the class token"
    )
    patch: Size = Field(default=16, description="side of an image patch in pixels; it scales the starting values")
    around: Around = Field(
        default="text", description="what the text's vectors join: the name and a full stop, or the text's template too"
    )
    tower: str
    embedding: str
    layers: Names

    @property
    def text(self) -> TextPromptSettings:
        """The settings of the text prompt alone."""
        return TextPromptSettings(
            length=self.text_length, around=self.around, tower=self.tower, embedding=self.embedding
        )


class PromptMaker(nn.Module):
    """Prompts of both towers to prompts of both towers: one pre-LayerNorm block of one head, 4× inside.

    text (M, D_t); visual (L, N, D_v). Without `width` they pass as they are; unless it `attends`, each sees itself.
    """

    def __init__(self, text: tuple[int, ...], visual: tuple[int, ...], width: int | None, attends: bool = True) -> None:
        super().__init__()
        self.seeds = Values(text=text, visual=visual)
        self._width, self._attends = width, attends
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
        seen = (query @ key.T * self._width**-0.5).softmax(-1) @ value if self._attends else value  # of both kinds
        hidden = hidden + self.attention_out(seen)
        hidden = hidden + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(hidden))))
        texts, visuals = hidden[: len(text)], hidden[len(text) :]
        return self.text_out(texts), self.visual_out(visuals).view(visual.shape)


class UnifiedPrompt(Kind):
    """One set of prompts for both towers of a dual encoder."""

    name = _LABEL
    settings = UnifiedPromptSettings
    roles = ("words", "picture_layers")
    sizes = ("text_length", "visual_length")
    adds_input = True

    def default(self, backbone: Backbone) -> dict[str, Any]:
        """Return the text tower, its embedding, the layers that read pictures, and the side of a patch in pixels."""
        tower, embedding = backbone.sites("words")
        layers = backbone.sites("picture_layers")
        where = {"tower": tower, "embedding": embedding, "layers": layers}
        return {**where, "around": "name", "patch": patch_of(backbone.module)}

    def attach(self, backbone: Backbone, settings: UnifiedPromptSettings) -> Attachment:
        """Put a `PromptMaker` in the model, its prompts among the words and before the layers that read pictures."""
        with Insertion(backbone.module) as insertion:
            words = embedding_of(insertion, settings.embedding).weight
            depth = len(settings.layers) if settings.deep else 1
            text = (settings.text_length, words.shape[1])
            visual = (depth, settings.visual_length, width_of(insertion.find(settings.layers[0])))
            with torch.random.fork_rng(devices=[]):
                maker = PromptMaker(text, visual, None if settings.folded else settings.width, settings.attends)
            insertion.add("", self.name, maker, words)
            put_words(insertion, backbone, settings.text, lambda: maker()[0])
            made: list[Tensor] = []

            def vectors(i: int) -> Tensor | None:
                if i == 0:
                    made[:] = list(maker()[1])
                return made.pop(0) if made else None

            route(insertion, settings.layers, vectors, settings.visual_length, settings.position)
            return insertion.finish()

    def initial(
        self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: UnifiedPromptSettings
    ) -> Tensor:
        """Return the start of a text or visual prompt for seeds, of a linear layer or LayerNorm for the rest."""
        if tensor.endswith("seeds.text"):
            return normal(shape, generator)
        if tensor.endswith("seeds.visual"):
            return visual_start(shape, settings.patch, generator)
        if tensor.endswith("_norm.weight"):
            return torch.ones(shape)
        return torch.zeros(shape) if tensor.endswith(".bias") else kaiming(shape, generator)

    def site(self, tensor: str) -> str:
        """Return one site for all tensors: whatever makes prompts of both towers mixes with one weight."""
        return self.name


@torch.no_grad()
def fold(expert: Expert) -> Expert:
    """Return the same unified prompt without its transformer: the prompts alone, with the same outputs."""
    settings = _settings(expert)
    if settings.folded:
        return expert
    seeds = {name: expert.tensors[f"{_LABEL}.seeds.{name}"] for name in ("text", "visual")}
    shapes = tuple(seeds["text"].shape), tuple(seeds["visual"].shape)
    maker = PromptMaker(*shapes, settings.width, settings.attends).to(seeds["text"])
    maker.load_state_dict({name.removeprefix(f"{_LABEL}."): value for name, value in expert.tensors.items()})
    text, visual = maker()
    tensors = {f"{_LABEL}.seeds.text": text, f"{_LABEL}.seeds.visual": visual}
    kept = settings.model_copy(update={"folded": True})
    return replace(expert, settings=kept, tensors=tensors, fisher=None)


def split(expert: Expert) -> tuple[Expert, Expert]:
    """Return a unified prompt as a plain text prompt and a plain visual prompt; together they are the same."""
    settings, folded = _settings(expert), fold(expert)
    visual = VisualPromptSettings(
        length=settings.visual_length,
        deep=settings.deep,
        position=settings.position,
        patch=settings.patch,
        layers=settings.layers,
    )
    vectors = folded.tensors[f"{_LABEL}.seeds.visual"]
    shown = {
        f"{layer}.{VISUAL_PROMPT.name}.vectors": own
        for layer, own in zip(settings.layers, vectors.unbind(), strict=False)
    }
    spoken = {f"{settings.embedding}.{TEXT_PROMPT.name}.vectors": folded.tensors[f"{_LABEL}.seeds.text"]}
    return (
        replace(folded, kind=TEXT_PROMPT, settings=settings.text, tensors=spoken),
        replace(folded, kind=VISUAL_PROMPT, settings=visual, tensors=shown),
    )


def _settings(expert: Expert) -> UnifiedPromptSettings:
    if not isinstance(expert.settings, UnifiedPromptSettings):
        raise InputError(f"expert {expert.name!r} is of kind {expert.method!r}; expected {_LABEL}")
    return expert.settings


UNIFIED_PROMPT = UnifiedPrompt()
