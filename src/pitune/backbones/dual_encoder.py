"""Dual encoders: CLIP, SigLIP, SigLIP 2, and whatever else scores an image against texts by their vectors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModel, PretrainedConfig

from pitune.backbones.answers import (
    Joined,
    MatchesAnswers,
    Texts,
    averaged,
    names_of,
    rows_of,
    scaled_cosines,
    texts_of,
)
from pitune.backbones.base import Batch, batch_answers, masked_log_softmax, target_losses
from pitune.backbones.cache import FeatureCache, Features
from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.family import Family
from pitune.backbones.recomputing import recomputed
from pitune.backbones.shared_start import shared_start
from pitune.backbones.sites import find_sites
from pitune.compat import hook_count
from pitune.errors import InputError
from pitune.files import home, sha256_bytes
from pitune.tasks import Example, Task, Wording, image_hash, open_image

_TEXTS, _TOKENS = 128, 2048  # encoded at a time; beyond this their activations are computed again rather than kept
_IMAGES = 32
_PICTURES = ("pixel_values", "pixel_attention_mask", "spatial_shapes")
_BEGINNINGS = {"text": ("text",), "vision": ("vision", "visual")}


class DualEncoder(MatchesAnswers):
    """A frozen image tower and a frozen text tower with one matching space.

    A tower that carries no expert is encoded once: images are kept on disk, texts in memory.
    """

    vectorises = False

    def __init__(self, model: Any, tokenizer: Any, processor: Any, name: str, fingerprint: str) -> None:
        self.module: nn.Module = model.requires_grad_(False).eval()
        self.name = name
        self.fingerprint = fingerprint
        self.width = int(model.config.vision_config.hidden_size)
        self._model, self._tokenizer, self._processor = model, tokenizer, processor
        self._sigmoid = getattr(model, "logit_bias", None) is not None
        self._own = {kind: _contents(_tower(model, kind)) for kind in ("text", "vision")}
        self._encoded = lru_cache(maxsize=64)(self._encode_texts)
        self._cache: FeatureCache | None = None
        self.joined: Joined | None = None

    @property
    def device(self) -> torch.device:
        """Where both towers compute."""
        return next(self.module.parameters()).device

    def sites(self, role: str) -> tuple[str, ...]:
        """Return the sites of the image tower, and of the text tower for prompts that join its words.

        Name sites of the text tower in an expert's settings to train the other kinds there.
        """
        if role == "words":
            return self._words()
        return find_sites(self.module, "vision_model.").get("layers" if role == "picture_layers" else role, ())

    def _words(self) -> tuple[str, ...]:
        """Return where prompts of words go; they need a text that is read at the place of its [EOS]."""
        tower, embedding = "text_model", "text_model.embeddings.token_embedding"
        known = dict(self.module.named_modules())
        marked = not self._sigmoid and hasattr(getattr(known.get(tower), "config", None), "eos_token_id")
        return (tower, embedding) if marked and isinstance(known.get(embedding), nn.Embedding) else ()

    def carries_expert(self, kind: str) -> bool:
        """Return whether the `text` or the `vision` tower holds anything but its own frozen parameters."""
        return _contents(_tower(self._model, kind)) != self._own[kind]

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        """Read images, once for each where the image tower carries no expert, and spell answers in their templates.

        Raise `InputError` if an example has a text, or no image.

        """
        for example in examples:
            if example.image is None or example.text is not None:
                found = "text" if example.image is None else "text besides its image"
                raise InputError(
                    f"task {task.name!r}: example {example.id!r} has {found}; {self.name} matches an image alone "
                    "against answers (a sequence-to-sequence or vision-language backbone reads both)"
                )
        answers = batch_answers(examples, task, self.device)
        if self.carries_expert("vision"):
            inputs = self._pictures(examples, list(range(len(examples))))
        else:
            inputs = {"image_features": torch.from_numpy(self._features(examples)).to(self.device).float()}
        read = self._read([task.wording(answer) for answer in answers.texts])
        ids = tuple(example.id for example in examples)
        return Batch(ids, inputs, read, answers.target, answers.allowed, answers.relevant)

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log p(answer | image), or for several labels the plain logits, comparable between images."""
        if candidates is not None:
            read = self._read([Wording(text, (text,)) for text in candidates])
            return masked_log_softmax(self._logits(batch, read), None)
        logits = self._logits(batch, batch.answers)
        return logits if batch.relevant is not None else masked_log_softmax(logits, batch.allowed)

    def losses(self, batch: Batch) -> Tensor:
        """Return −log p(target | image); for sigmoid models the sum over answers of their own loss (2303.15343)."""
        logits = self._logits(batch, batch.answers)
        if not self._sigmoid:
            scores = logits if batch.relevant is not None else masked_log_softmax(logits, batch.allowed)
            return target_losses(scores, batch.target, batch.relevant)
        right = batch.relevant
        if right is None:
            right = F.one_hot(batch.target, logits.shape[1]).bool()
        each = -F.logsigmoid(torch.where(right, logits, -logits))
        return (each if batch.allowed is None else each.masked_fill(~batch.allowed, 0.0)).sum(1)

    def features(self, batch: Batch) -> Tensor:
        """Return the images' unit vectors (B, D)."""
        if "image_features" in batch.inputs:
            return batch.inputs["image_features"]
        return _unit(self._model.get_image_features(**batch.inputs))

    def _read(self, wordings: Sequence[Wording]) -> Tensor:
        """Return answers' vectors (C, D), or where the text tower carries an expert what it reads (ROWS, N, T)."""
        texts = texts_of(wordings, self.joined)
        if self.carries_expert("text"):
            return self._rows(texts)
        return averaged(self._encoded(texts.texts), torch.tensor(texts.owners, device=self.device))

    def _logits(self, batch: Batch, read: Tensor) -> Tensor:
        """Return scale · cos + bias (B, C) against vectors (C, D), or against what is read of texts (ROWS, N, T)."""
        vectors = read if read.is_floating_point() else self._text_vectors(read)
        logits = scaled_cosines(self._model.logit_scale.float().exp(), self.features(batch), vectors)
        if self._sigmoid:
            logits = logits + self._model.logit_bias.float()
        return logits

    def _text_vectors(self, tokens: Tensor) -> Tensor:
        """Encode texts a chunk at a time; when there are many, their activations are not kept for the backward pass."""
        return averaged(self._unit_texts(tokens), tokens[-1, :, 0])

    def _unit_texts(self, tokens: Tensor) -> Tensor:
        total = tokens.shape[1]
        size = min(_TEXTS, max(1, _TOKENS // tokens.shape[2]))
        parts = [range(i, min(i + size, total)) for i in range(0, total, size)]
        if len(parts) == 1 or not torch.is_grad_enabled():
            return torch.cat([self._text_chunk(tokens, part) for part in parts])
        return torch.cat([recomputed(self.module, partial(self._text_chunk, tokens, part)) for part in parts])

    def _text_chunk(self, tokens: Tensor, part: range) -> Tensor:
        ids, mask, name, _ = tokens[:, part.start : part.stop]
        if self._sigmoid:  # these learned to read their padding
            return _unit(self._model.get_text_features(input_ids=ids))
        if self.joined is not None:
            self.joined.before(part, tokens.shape[1], names_of(name))
        apart = self.joined is not None and self.joined.apart
        with nullcontext() if apart else shared_start(getattr(self._model, "text_model", None)):
            return _unit(self._model.get_text_features(input_ids=ids, attention_mask=mask))

    def _rows(self, texts: Texts) -> Tensor:
        """Return what is read of texts (ROWS, N, T)."""
        return rows_of(texts, self._tokens(texts.texts).cpu().unbind(), self._tokenizer).to(self.device)

    def _tokens(self, texts: Sequence[str]) -> Tensor:
        """Return token ids and mask (2, N, T)."""
        longest = self._model.config.text_config.max_position_embeddings
        encoded = self._tokenizer(
            list(texts),
            padding="max_length" if self._sigmoid else True,
            truncation=True,
            max_length=longest,
            return_tensors="pt",
            return_attention_mask=True,
        )
        return torch.stack([encoded["input_ids"], encoded["attention_mask"]]).to(self.device)

    @torch.no_grad()
    def _encode_texts(self, texts: tuple[str, ...]) -> Tensor:
        return self._text_vectors(self._rows(Texts(texts, tuple(range(len(texts))))))

    def _features(self, examples: Sequence[Example]) -> Features:
        if self._cache is None:
            size = self._model.get_image_features(**self._pictures(examples, [0]))
            self._cache = image_cache(self.fingerprint, self._processor, _unit(size).shape[1])
        return self._cache.get(
            [image_hash(example) for example in examples], lambda missing: self._see(examples, missing)
        )

    @torch.no_grad()
    def _see(self, examples: Sequence[Example], missing: list[int]) -> Features:
        made = []
        for start in range(0, len(missing), _IMAGES):
            pictures = self._pictures(examples, missing[start : start + _IMAGES])
            made.append(_unit(self._model.get_image_features(**pictures)).half().cpu().numpy())
        return np.concatenate(made)

    def _pictures(self, examples: Sequence[Example], wanted: Sequence[int]) -> dict[str, Tensor]:
        """Return what the image tower reads of some examples, each (B, …): pixels, and where they vary their shapes."""
        made = self._processor([open_image(examples[i]) for i in wanted], return_tensors="pt")
        pictures = {name: made[name].to(self.device) for name in _PICTURES if name in made}
        return {**pictures, "pixel_values": pictures["pixel_values"].to(self._model.dtype)}


def image_cache(fingerprint: str, processor: Any, width: int) -> FeatureCache:
    """Open the cache of what a tower made of images, keyed by its weights and how images are prepared."""
    key = sha256_bytes(f"{fingerprint} {processor.to_json_string()}".encode())[:16]
    return FeatureCache(home() / "features" / f"dual-{key}.sqlite", (width,))


def _tower(model: Any, kind: str) -> nn.Module:
    """Return a tower with the projection behind it, as they are now."""
    return nn.ModuleList([child for name, child in model.named_children() if name.startswith(_BEGINNINGS[kind])])


def _contents(tower: nn.Module) -> tuple[frozenset[int], int]:
    """Return what tells a tower with an expert from one without: its parameters, and how many hooks it has."""
    return frozenset(map(id, tower.parameters())), hook_count(tower.modules())


def _unit(output: Any) -> Tensor:
    vectors: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return F.normalize(vectors.float(), dim=-1)


def load_dual_encoder(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> DualEncoder:
    """Load a model of transformers that offers image features, text features and the scale between them."""
    model = found.model(AutoModel, dtype).to(device)
    return DualEncoder(model, found.tokenizer(), found.image_processor(), found.name, found.fingerprint)


def _is_dual_encoder(config: PretrainedConfig) -> bool:
    """Return whether transformers' model has all that is called here; it is built to see, but without its numbers."""
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except Exception:  # whatever a model that is of another kind, or lacks a library, raises
        return False
    sees = hasattr(getattr(config, "vision_config", None), "hidden_size")
    return sees and all(hasattr(model, name) for name in ("get_image_features", "get_text_features", "logit_scale"))


FAMILY = Family(
    types=("clip", "siglip", "siglip2", "metaclip_2", "altclip", "chinese_clip", "vision-text-dual-encoder"),
    load=load_dual_encoder,
    reads=_is_dual_encoder,
)
