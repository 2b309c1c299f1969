"""Pocket: the backbone whose weights come out of packages; one trunk for images, text and both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from pitune.backbones import Family
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
from pitune.backbones.base import Batch, batch_answers, check_inputs, masked_log_softmax, target_losses
from pitune.backbones.cache import FeatureCache, Features, Kept
from pitune.compat import hook_count
from pitune.errors import InputError
from pitune.files import home, sha256_bytes
from pitune.pocket import weights as weights
from pitune.pocket.model import IMAGE_SIZE, TOKENS, PocketModel, image_features
from pitune.pocket.stem import CLASSES, WIDTH, Stem
from pitune.tasks import Example, Task, Wording, image_hash, open_image

_MAX_TOKENS = 128
_STEM_CHUNK = 8  # images at a time that a core's cache holds what is made of
_ANSWERS = 1 << 15
_FEATURES = TOKENS * WIDTH + CLASSES


class Pocket(MatchesAnswers):
    """A frozen vision stem in front of a frozen sentence encoder; answers are matched by cosine."""

    name = "pocket"
    vectorises = True

    def __init__(
        self, model: PocketModel, stem: Stem, tokenizer: PreTrainedTokenizerFast, fingerprint: str, cache: FeatureCache
    ) -> None:
        self.model = model.requires_grad_(False).eval()
        self.module = model.trunk
        self.fingerprint = fingerprint
        self.width = int(model.trunk.config.hidden_size)
        self._stem = stem
        self._tokenizer = tokenizer
        self._cache = cache
        self._own = _contents(model.trunk)
        self._layers = len(model.trunk.encoder.layer)
        self.joined: Joined | None = None
        self._kept = Kept()
        self._encoded = lru_cache(maxsize=64)(self._encode_answers)
        self._answer = lru_cache(maxsize=_ANSWERS)(self._encode_answer)

    @property
    def device(self) -> torch.device:
        """Where the encoder computes; image features are read from the cache on the CPU."""
        return self.model.projection.residual.device

    def sites(self, role: str) -> tuple[str, ...]:
        """Return the sites of the sentence encoder, which reads images and texts alike; the vision stem has none."""
        return _sites(self.module).get(role, ())

    @property
    def blocks(self) -> tuple[str, ...]:
        """The layers that every input goes through."""
        return self.sites("layers")

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        """Read images through the stem, once for each, and answers as vectors, or as tokens if an expert joins them.

        Where experts sit at the answers alone, an input is its vector (D,), which is kept in memory.

        Raise `InputError` if inputs are not of one kind: an image, a text, or both.

        """
        if self.model.answers.carries_expert() and _contents(self.module) == self._own:
            return self.prepare_from(self._layers, examples, task)
        check_inputs(examples, task)
        return self._batch(examples, task, self._read_inputs(examples, task))

    def prepare_from(self, layer: int, examples: Sequence[Example], task: Task) -> Batch:
        """Return the batch of `prepare` as it enters a layer of the encoder, which is kept in memory.

        Behind the last an input is its vector (D,).
        """
        check_inputs(examples, task)
        kept = [self._entering(layer, example, task) for example in examples]
        inputs = {name: pad_sequence([one[name] for one in kept], batch_first=True) for name in kept[0]}
        return self._batch(examples, task, inputs, layer)

    def _batch(self, examples: Sequence[Example], task: Task, inputs: Mapping[str, Tensor], layer: int = 0) -> Batch:
        answers = batch_answers(examples, task, self.device)
        read = self._read_answers([task.wording(answer) for answer in answers.texts])
        ids = tuple(example.id for example in examples)
        return Batch(ids, inputs, read, answers.target, answers.allowed, answers.relevant, layer=layer)

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log-softmax (B, C) of scaled cosines between inputs and answers."""
        vectors, allowed = self._answers_of(batch, candidates)
        return masked_log_softmax(self.model(batch.inputs, vectors, batch.layer), allowed)

    def losses(self, batch: Batch) -> Tensor:
        """Return −log p(target) (B,), or its mean over all right answers of an example that has several."""
        return target_losses(self.scores(batch), batch.target, batch.relevant)

    def features(self, batch: Batch) -> Tensor:
        """Return the vectors (B, D) that inputs are matched by."""
        return self.model.encode(batch.inputs, batch.layer)

    def match(self, features: Tensor, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return what `scores` does, of features (B, D) that are there already."""
        vectors, allowed = self._answers_of(batch, candidates)
        return masked_log_softmax(scaled_cosines(self.model.projection.log_scale.exp(), features, vectors), allowed)

    def _answers_of(self, batch: Batch, candidates: Sequence[str] | None) -> tuple[Tensor, Tensor | None]:
        """Return the vectors (C, D) that inputs are matched against, and which of them each may choose (B, C)."""
        read, allowed = batch.answers, batch.allowed
        if candidates is not None:
            read, allowed = self._read_answers([Wording(text, (text,)) for text in candidates]), None
        return (read if read.is_floating_point() else self._joined_vectors(read)), allowed

    def _joined_vectors(self, read: Tensor) -> Tensor:
        """Return answers' vectors (C, D) with what has joined their words, of what is read of them (C, ROWS, T)."""
        if self.joined is not None:
            self.joined.before(range(len(read)), len(read), names_of(read[:, 2]))
        return self.model.encode_answers(read[:, 0], read[:, 1])

    def _read_inputs(self, examples: Sequence[Example], task: Task) -> dict[str, Tensor]:
        inputs: dict[str, Tensor] = {}
        if examples[0].image is not None:
            features = torch.from_numpy(self._image_features(examples)).to(self.device).float()
            inputs["image_tokens"] = features[:, : TOKENS * WIDTH].reshape(-1, TOKENS, WIDTH)
            inputs["image_logits"] = features[:, TOKENS * WIDTH :]
        if examples[0].text is not None:
            inputs |= self._tokens([task.input_text(example) or "" for example in examples])
        return inputs

    @torch.no_grad()
    def _entering(self, layer: int, example: Example, task: Task) -> Mapping[str, Tensor]:
        """Return what an input comes to at a layer, of T tokens; kept, since no expert above ever changes it.

        Each is read by itself, so that it is the same to the bit whatever else is in its batch.
        """
        image = None if example.image is None else image_hash(example)

        def made() -> Mapping[str, Tensor]:
            inputs = self._read_inputs([example], task)
            whole = layer == self._layers
            found = {"vectors": self.model.encode(inputs)} if whole else self.model.entering(layer, inputs).tensors()
            return {name: value[0] for name, value in found.items()}

        return self._kept.get((layer, image, task.input_text(example)), made)

    def _tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        encoded = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=_MAX_TOKENS,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        return {name: value.to(self.device) for name, value in encoded.items()}

    def _read_answers(self, wordings: Sequence[Wording]) -> Tensor:
        """Return answers' vectors (C, D), or where an expert joins their words what is read of them (C, ROWS, T)."""
        texts = texts_of(wordings, self.joined)
        if self.model.answers.carries_expert():
            return self._answer_rows(texts)
        return averaged(self._encoded(texts.texts), torch.tensor(texts.owners, device=self.device))

    def _answer_rows(self, texts: Texts) -> Tensor:
        tokens = self._tokens(texts.texts)
        encoded = [tokens[name].cpu() for name in ("input_ids", "attention_mask")]
        return rows_of(texts, encoded, self._tokenizer).transpose(0, 1).to(self.device)

    def _encode_answers(self, texts: tuple[str, ...]) -> Tensor:
        return torch.stack([self._answer(text) for text in texts])

    @torch.no_grad()
    def _encode_answer(self, text: str) -> Tensor:
        """Encode one text by itself: captions return among ever other candidates, and stay the same to the bit."""
        tokens = self._tokens((text,))
        return self.model.encode_answers(tokens["input_ids"], tokens["attention_mask"])[0]

    def _image_features(self, examples: Sequence[Example]) -> Features:
        return self._cache.get(
            [image_hash(example) for example in examples], lambda missing: self._see(examples, missing)
        )

    @torch.no_grad()
    def _see(self, examples: Sequence[Example], missing: list[int]) -> Features:
        made = []
        for start in range(0, len(missing), _STEM_CHUNK):
            pixels = torch.stack([_pixels(open_image(examples[i])) for i in missing[start : start + _STEM_CHUNK]])
            seen = image_features(self._stem, pixels.to(self.device))
            made.append(torch.cat([seen.tokens.flatten(1), seen.logits], 1).half().cpu().numpy())
        return np.concatenate(made)


def _contents(trunk: nn.Module) -> tuple[frozenset[int], int]:
    """Return what tells a trunk with an expert among its inputs from one without: its parameters, and its hooks."""
    parts = [part for name, part in trunk.named_modules() if not name.startswith("answers")]
    own = frozenset(id(value) for name, value in trunk.named_parameters() if not name.startswith("answers"))
    return own, hook_count(parts)


def _sites(trunk: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return the trunk's submodules by role."""
    layers = tuple(f"encoder.layer.{i}" for i in range(len(list(trunk.get_submodule("encoder.layer").children()))))
    named = list(trunk.named_modules())

    def inside(*parts: str) -> tuple[str, ...]:
        return tuple(f"{layer}.{part}" for layer in layers for part in parts)

    attention = tuple(f"attention.{part}" for part in ("self.query", "self.key", "self.value", "output.dense"))
    return {
        "linear": inside(*attention, "intermediate.dense", "output.dense"),
        "attention": inside(*attention),
        "keys_values": inside("attention.self.key", "attention.self.value"),
        "outputs": inside("attention.output.dense", "output.dense"),
        "feedforward_output": inside("output.dense"),
        "attention_modules": inside("attention.self"),
        "norms": tuple(name for name, module in named if isinstance(module, nn.LayerNorm)),
        "biased": tuple(name for name, module in named if isinstance(module, nn.Linear | nn.LayerNorm)),
        "layers": layers,
        "picture_layers": layers,
        "words": ("answers", "answers.words"),
    }


def _pixels(image: Image.Image) -> Tensor:
    """Turn an image into pixels (3, 160, 160), padded to a white square so that its shape is kept."""
    side = max(image.size)
    square = Image.new("RGB", (side, side), "white")
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    resized = square.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return (torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() - 127) / 128


def load_pocket(device: torch.device) -> Pocket:
    """Load the pocket backbone, fetching its weights on first use (100 MB)."""
    trunk, tokenizer = weights.trunk_and_tokenizer()
    model = weights.build(trunk, weights.alignment()).to(device)
    stem = weights.stem().to(device)
    return Pocket(model, stem, tokenizer, weights.fingerprint(), stem_cache())


def _load(device: torch.device, dtype: torch.dtype) -> Pocket:
    if dtype != torch.float32:
        raise InputError(f"pocket computes in float32; found dtype {str(dtype).removeprefix('torch.')!r}")
    return load_pocket(device)


def stem_cache() -> FeatureCache:
    """Open the cache of what the stem made of images, keyed by its weights and how images are prepared."""
    key = sha256_bytes(f"{weights.ARCHIVES['efficientnet-lite0'].sha256} {IMAGE_SIZE} {TOKENS}".encode())[:16]
    return FeatureCache(home() / "features" / f"stem-{key}.sqlite", (_FEATURES,))


FAMILY = Family(named={"pocket": _load})
