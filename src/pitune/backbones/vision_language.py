"""Decoders that read images among text, such as SmolVLM: the prompt is read once, and the loss is over the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from pitune.backbones.base import Batch
from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.family import Family
from pitune.backbones.generative import _TARGET, Generative
from pitune.backbones.likelihood import Prefix, repeated_cache
from pitune.tasks import Example, Task, open_image

_IMAGE, _AROUND, _WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"
_QUESTION = "What is this?"
_LONGEST_INPUT = 2048


class VisionLanguage(Generative):
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
        prompts = [self._prompt(example, task) for example in examples]
        encoded = self._tokenizer(
            prompts,
            padding=True,
            padding_side="left",  # so that every answer begins right behind its prompt
            truncation=True,
            max_length=_LONGEST_INPUT,
            add_special_tokens=not self._tokenizer.chat_template,
            return_tensors="pt",
        )
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        if self._tokenizer.chat_template is None:
            inputs = _without_end(inputs, self._tokenizer.eos_token_id)
        inputs = {name: value.to(self.device) for name, value in inputs.items()}
        if examples[0].image is not None:
            images = [[open_image(example)] for example in examples]
            seen = self._processor(images, do_image_splitting=False, return_tensors="pt")
            inputs["pixel_values"] = seen["pixel_values"].to(self.device, self._model.dtype)
            inputs["pixel_attention_mask"] = seen["pixel_attention_mask"].to(self.device)
        return inputs

    def _prompt(self, example: Example, task: Task) -> str:
        text = task.input_text(example) or _QUESTION
        text = text.replace(_IMAGE, "")  # a text may not pretend to be an image
        if self._tokenizer.chat_template:
            parts = [{"type": "image"}] if example.image is not None else []
            said = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
            prompt: str = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        else:
            prompt = f"User: {_IMAGE if example.image is not None else ''} {text} Assistant:"
        return prompt.replace(_IMAGE, self._image_text)

    def _read(self, inputs: Mapping[str, Tensor]) -> Prefix:
        given = {name: value for name, value in inputs.items() if name != _TARGET}
        mask = given["attention_mask"]
        output = self._model(**given, position_ids=_positions(mask), use_cache=True)
        return Prefix(output.logits[:, -1], output.past_key_values, mask)

    def _proceed(self, prefix: Prefix, tokens: Tensor, times: int) -> tuple[Tensor, Prefix]:
        before = prefix.mask.repeat_interleave(times, 0)
        mask = torch.cat([before, before.new_ones(tokens.shape)], 1)
        output = self._model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=_positions(mask)[:, -tokens.shape[1] :],
            past_key_values=repeated_cache(prefix.cache, times),
            use_cache=True,
        )
        return output.logits, Prefix(output.logits[:, -1], output.past_key_values, mask)

    def _skipped(self, batch: Batch) -> int:
        return batch.inputs["input_ids"].shape[1]

    def features(self, batch: Batch) -> Tensor:
        """Return the last state (B, D) of the prompt, from which the answer would begin."""
        given = {name: value for name, value in batch.inputs.items() if name != _TARGET}
        output = self._model.model(**given, position_ids=_positions(given["attention_mask"]))
        states: Tensor = output.last_hidden_state
        return states[:, -1].float()


def _positions(mask: Tensor) -> Tensor:
    """Return each token's place (B, T) behind the padding on the left."""
    return (mask.cumsum(1) - 1).clamp_min(0)


def _without_end(inputs: Mapping[str, Tensor], end: int) -> dict[str, Tensor]:
    """Take away the mark that a tokenizer puts behind a text, for an answer is to follow."""
    if bool((inputs["input_ids"][:, -1] == end).all()):
        return {name: value[:, :-1] for name, value in inputs.items()}
    return dict(inputs)


def load_vision_language(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> VisionLanguage:
    """Load a decoder that reads images among text."""
    model = found.model(AutoModelForImageTextToText, dtype)
    return VisionLanguage(model.to(device), found.tokenizer(), found.image_processor(), found.name, found.fingerprint)


FAMILY = Family(types=("idefics3", "smolvlm"), load=load_vision_language)
