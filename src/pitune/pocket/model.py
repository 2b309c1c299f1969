"""The network of the pocket backbone: a vision stem in front of a sentence encoder, one matching space.

Images become tokens of the same trunk that reads text: `image tokens → LayerNorm → Linear → + positions`.
One more token carries the ConSE vector (Norouzi et al., arXiv 1312.5650): the text embeddings of the
ImageNet classes that the stem sees, mixed by their probabilities. The same vector is added to the output,
so that an untrained trunk already names what it sees.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import BertModel

from pitune.backbones.answers import scaled_cosines
from pitune.compat import hook_count
from pitune.pocket.stem import CLASSES, WIDTH, Stem

IMAGE_SIZE = 160
GRID = 4
TOKENS = GRID * GRID
CONSE_CLASSES = 50
CONSE_TEMPERATURE = 2.0


@dataclass(frozen=True)
class ImageFeatures:
    """What the frozen stem makes of B images: `tokens` (B, 16, 1280) and ImageNet `logits` (B, 1000)."""

    tokens: Tensor
    logits: Tensor


def image_features(stem: Stem, pixels: Tensor) -> ImageFeatures:
    """Turn pixels (B, 3, 160, 160) into a 4×4 grid of tokens and the logits of the whole image."""
    tokens = stem(pixels)
    side = int(tokens.shape[1] ** 0.5)
    grid = tokens.transpose(1, 2).unflatten(2, (side, side))
    pooled = F.adaptive_avg_pool2d(grid, GRID).flatten(2).transpose(1, 2)
    return ImageFeatures(pooled, stem.class_logits(tokens))


def mean_pool(hidden: Tensor, mask: Tensor) -> Tensor:
    """Average hidden states (B, T, D) over the tokens that mask (B, T) keeps."""
    kept = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1).clamp_min(1.0)


@dataclass(frozen=True)
class Read:
    """What the trunk reads of B inputs, or has read up to a layer: `states` (B, T, D), and which tokens count (B, T).

    `seen` (B, D) are the class vectors of images, None of texts alone.
    """

    states: Tensor
    mask: Tensor
    seen: Tensor | None = None

    def tensors(self) -> dict[str, Tensor]:
        """Return them as a batch holds them."""
        return {"states": self.states, "mask": self.mask, **({} if self.seen is None else {"seen": self.seen})}


def run_trunk(trunk: BertModel, embedded: Tensor, mask: Tensor) -> Tensor:
    """Return hidden states (B, T, D) of embedded tokens (B, T, D); attention passes over mask (B, T) = 0."""
    hidden: Tensor = trunk(inputs_embeds=embedded, attention_mask=_added(embedded, mask)).last_hidden_state
    return hidden


def run_layers(trunk: BertModel, states: Tensor, mask: Tensor, layers: slice) -> Tensor:
    """Return hidden states (B, T, D) behind some of the layers, of those before the first of them."""
    added = _added(states, mask)
    for layer in list(trunk.encoder.layer)[layers]:
        found = layer(states, added)
        states = found if isinstance(found, Tensor) else found[0]
    return states


def _added(states: Tensor, mask: Tensor) -> Tensor:
    """Return what is added to the attention's scores (B, 1, T, T) so that it passes over mask (B, T) = 0.

    It is laid out in full here, because the library's own way to build one looks at its values, which per-example
    gradients (`torch.func.vmap`) cannot follow.
    """
    added = (1 - mask)[:, None, None, :] * torch.finfo(states.dtype).min
    return added.expand(-1, -1, states.shape[1], -1)


class Projection(nn.Module):
    """Stem features to trunk tokens; trained by the alignment, frozen ever after."""

    class_embeddings: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.linear = nn.Linear(WIDTH, width)
        self.positions = nn.Parameter(torch.zeros(TOKENS, width))
        self.conse = nn.Linear(width, width)
        self.residual = nn.Parameter(torch.tensor(1.0))
        self.log_scale = nn.Parameter(torch.tensor(3.0))
        self.register_buffer("class_embeddings", torch.zeros(CLASSES, width))

    def class_vector(self, logits: Tensor) -> Tensor:
        """Mix the text embeddings of the likeliest ImageNet classes; (B, 1000) to unit vectors (B, D)."""
        chance, index = (logits / CONSE_TEMPERATURE).softmax(-1).topk(CONSE_CLASSES)
        return F.normalize((chance.unsqueeze(-1) * self.class_embeddings[index]).sum(1), dim=-1)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Turn tokens (B, 16, 1280) and class vectors (B, D) into trunk inputs (B, 17, D)."""
        grid = self.linear(self.norm(tokens)) + self.positions
        return torch.cat([self.conse(seen).unsqueeze(1), grid], 1)


class AnswerWords(nn.Module):
    """The words of answers, looked up apart from those of inputs: the one place where an expert may join answers.

    It hangs in the trunk, where experts attach, and adds nothing to its parameters or its state.
    """

    def __init__(self, trunk: BertModel) -> None:
        super().__init__()
        self.config = trunk.config
        known = trunk.embeddings.word_embeddings
        self.words = nn.Embedding(known.num_embeddings, known.embedding_dim, device="meta")
        del self.words.weight
        self.words.register_buffer("weight", known.weight.data, persistent=False)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, pooled_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the words (C, T, D), which of them are read (C, T), and which make up the answer's vector (C, T)."""
        return self.words(input_ids), attention_mask, pooled_mask

    def carries_expert(self) -> bool:
        """Return whether anything has joined the words."""
        return hook_count(self.modules()) > 0


class PocketModel(nn.Module):
    """Text, image, or both to one unit vector.

    Experts attach inside `trunk`. Answers go through `answer_trunk`, which shares the trunk's weights and
    never carries an expert, so that their vectors are computed once. What may join an answer is vectors among
    its words, in `trunk.answers`.
    """

    def __init__(self, trunk: BertModel, projection: Projection) -> None:
        super().__init__()
        self.trunk = trunk
        self.projection = projection
        shared = {id(tensor): tensor for tensor in (*trunk.parameters(), *trunk.buffers())}
        self.answer_trunk = copy.deepcopy(trunk, shared)
        self.answers = AnswerWords(trunk)
        trunk.add_module("answers", self.answers)

    def encode(self, inputs: Mapping[str, Tensor], layer: int = 0) -> Tensor:
        """Return unit vectors (B, D) for token ids, image features, or image features before token ids.

        Where an expert sits at the answers alone, `inputs` may hold the `vectors` themselves; behind some layers they
        hold what `entering` made of them.
        """
        if "vectors" in inputs:
            return inputs["vectors"]
        read = Read(**inputs) if layer else self._embedded(inputs)
        if layer:
            hidden = run_layers(self.trunk, read.states, read.mask, slice(layer, None))
        else:
            hidden = run_trunk(self.trunk, read.states, read.mask)
        pooled = F.normalize(mean_pool(hidden, read.mask), dim=-1)
        return pooled if read.seen is None else F.normalize(pooled + self.projection.residual * read.seen, dim=-1)

    def entering(self, layer: int, inputs: Mapping[str, Tensor]) -> Read:
        """Return what enters a layer of the trunk, by number, of token ids and image features."""
        read = self._embedded(inputs)
        states = self.trunk.embeddings(inputs_embeds=read.states)
        return replace(read, states=run_layers(self.trunk, states, read.mask, slice(layer)))

    def _embedded(self, inputs: Mapping[str, Tensor]) -> Read:
        parts, masks = [], []
        seen = None
        if "image_tokens" in inputs:
            seen = self.projection.class_vector(inputs["image_logits"])
            image = self.projection(inputs["image_tokens"], seen)
            parts.append(image)
            masks.append(image.new_ones(image.shape[:2]))
        if "input_ids" in inputs:
            words = self.trunk.embeddings.word_embeddings(inputs["input_ids"])
            parts.append(words)
            masks.append(inputs["attention_mask"].to(words.dtype))
        return Read(torch.cat(parts, 1), torch.cat(masks, 1), seen)

    def encode_answers(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return unit vectors (C, D) for the texts of answers; vectors of an expert are read but not averaged."""
        embedded, read, pooled = self.answers(
            input_ids=input_ids, attention_mask=attention_mask, pooled_mask=attention_mask
        )
        hidden = run_trunk(self.answer_trunk, embedded, read.to(embedded.dtype))
        return F.normalize(mean_pool(hidden, pooled), dim=-1)

    def forward(self, inputs: Mapping[str, Tensor], answers: Tensor, layer: int = 0) -> Tensor:
        """Return scores (B, C): the cosine of input and answer (C, D), times the learned scale."""
        return scaled_cosines(self.projection.log_scale.exp(), self.encode(inputs, layer), answers)
