"""Decoders that read images among text, such as SmolVLM: the prompt is read once, and the loss is over the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.decoder import Decoder
from pitune.backbones.family import Family
from pitune.tasks import Example, Task, open_image

_IMAGE, _AROUND, _WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"
_QUESTION = "What is this?"


class VisionLanguage(Decoder):
    """A decoder over image tokens and text; an image is one tile, so that every example has as many tokens for it."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any, name: str, fingerprint: str) -> None:
        super().__init__(model, tokenizer, name, fingerprint, int(model.config.text_config.hidden_size))
        self._processor = processor
        vision = model.config.vision_config
        patches = (vision.image_size // vision.patch_size) ** 2
        self._image_text = f"{_AROUND}{_WHOLE}{_IMAGE * (patches // model.config.scale_factor**2)}{_AROUND}"

    def _where(self) -> str:
        return "model.text_model."

    def _inputs(self, examples: Sequence[Example], task: Task) -> Mapping[str, Tensor]:
        texts = [task.input_text(example) or _QUESTION for example in examples]
        inputs = self._encoded(texts, lambda i, text: self._prompt(text, examples[i].image is not None))
        if examples[0].image is not None:
            images = [[open_image(example)] for example in examples]
            seen = self._processor(images, do_image_splitting=False, return_tensors="pt")
            inputs["pixel_values"] = seen["pixel_values"].to(self.device, self._model.dtype)
            inputs["pixel_attention_mask"] = seen["pixel_attention_mask"].to(self.device)
        return inputs

    def _prompt(self, text: str, image: bool) -> str:
        """Return the prompt that asks for an answer to a text, which may not pretend to be an image, and an image."""
        text = text.replace(_IMAGE, "")
        if self._tokenizer.chat_template:
            parts = [{"type": "image"}] if image else []
            said = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
            prompt: str = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        else:
            prompt = f"User: {_IMAGE if image else ''} {text} Assistant:"
        return prompt.replace(_IMAGE, self._image_text)


def load_vision_language(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> VisionLanguage:
    """Load a decoder that reads images among text."""
    model = found.model(AutoModelForImageTextToText, dtype)
    return VisionLanguage(model.to(device), found.tokenizer(), found.image_processor(), found.name, found.fingerprint)


FAMILY = Family(types=("idefics3", "smolvlm"), load=load_vision_language)
