"""Decoders that read images among text, such as SmolVLM, LLaVA, Gemma 3, PaliGemma and Qwen's: asked as they learned.

A prompt follows the checkpoint's chat template where there is one. What the template leaves for an image becomes as
many tokens as the model makes of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.decoder import Decoder
from pitune.backbones.family import Family
from pitune.errors import InputError
from pitune.tasks import Example, Task, open_image

_QUESTION = "What is this?"
_BOS = "<bos>"  # in a prompt, the tokenizer's mark of the start
_PICTURES = ("pixel_values", "pixel_attention_mask")


@dataclass(frozen=True)
class Style:
    """How a type of model is asked.

    `left` is what a template leaves for an image, `before` and `after` stand around its tokens, and `plain` is the
    prompt where there is no template, `<bos>` in it the tokenizer's mark of the start. `nested` says that the image
    processor takes a list of images for each example. With `whole` a prompt's tokens all see each other, with `blocks`
    those of an image do.
    """

    left: str = "<image>"
    before: str = ""
    after: str = ""
    plain: str = "{image}{text}\nAnswer:"
    nested: bool = False
    whole: bool = False
    blocks: bool = False


_AROUND = "<fake_token_around_image>"
_TALK = "User: {image} {text} Assistant:"
_QWEN = Style("<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|>", "<|vision_end|>")
_STYLES: Mapping[str, Style] = {
    "smolvlm": Style(before=f"{_AROUND}<global-img>", after=_AROUND, plain=_TALK, nested=True),
    "idefics3": Style(before=f"{_AROUND}<global-img>", after=_AROUND, plain=_TALK, nested=True),
    "idefics2": Style(before=_AROUND, after=_AROUND, plain=_TALK, nested=True),
    "llava": Style(plain="USER: {image}\n{text} ASSISTANT:"),
    "gemma3": Style("<start_of_image>", "\n\n<start_of_image>", "<end_of_image>\n\n", blocks=True),
    "paligemma": Style(plain="{image}<bos>{text}\n", whole=True),
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
}


class VisionLanguage(Decoder):
    """A decoder over image tokens and text; an image is one tile, so that every example has as many tokens for it."""

    def __init__(self, model: Any, tokenizer: Any, processor: Any, name: str, fingerprint: str, style: Style) -> None:
        super().__init__(model, tokenizer, name, fingerprint, int(model.config.get_text_config().hidden_size))
        self._processor, self._style = processor, style
        self._image_id = int(model.config.image_token_id)
        self._image_token = str(tokenizer.convert_ids_to_tokens(self._image_id))
        self._image_tokens: int | None = None

    def _where(self) -> str:
        stack = next(name for name in ("text_model", "language_model") if hasattr(self._model.model, name))
        return f"model.{stack}."

    def _writes_marks(self) -> bool:
        return super()._writes_marks() or _BOS in self._style.plain

    def _inputs(self, examples: Sequence[Example], task: Task) -> Mapping[str, Tensor]:
        texts = [task.input_text(example) or _QUESTION for example in examples]
        if examples[0].image is None:
            return self._typed(self._encoded(texts, lambda _, text: self._prompt(text, 0)))
        seen = self._pictures([open_image(example) for example in examples])
        numbers = self._numbers(seen)
        return self._typed({**self._encoded(texts, lambda i, text: self._prompt(text, numbers[i])), **seen})

    def _pictures(self, images: Sequence[Any]) -> dict[str, Tensor]:
        """Return what the model sees of images, each (B, …)."""
        given: Any = [[image] for image in images] if self._style.nested else list(images)
        more = {"do_image_splitting": False} if self._style.nested else {}
        seen = self._processor(given, return_tensors="pt", **more)
        pictures = {name: seen[name].to(self.device) for name in _PICTURES if name in seen}
        return {**pictures, "pixel_values": pictures["pixel_values"].to(self._model.dtype)}

    @torch.no_grad()
    def _numbers(self, seen: Mapping[str, Tensor]) -> list[int]:
        """Return how many tokens each image becomes: the same for all, and told by what the model makes of one."""
        if self._image_tokens is None:
            made = self._model.model.get_image_features(**{name: value[:1] for name, value in seen.items()})
            self._image_tokens = int(made.pooler_output[0].shape[0])
        return [self._image_tokens] * len(seen["pixel_values"])

    def _typed(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Say which tokens see each other whatever their order, where there are such."""
        ids = inputs["input_ids"]
        if self._style.whole:
            return {**inputs, "token_type_ids": torch.zeros_like(ids)}
        if self._style.blocks and "pixel_values" in inputs:
            return {**inputs, "token_type_ids": (ids == self._image_id).long()}
        return inputs

    def _prompt(self, text: str, image: int) -> str:
        """Return the prompt that asks for an answer to a text, which may not pretend to be an image, and an image.

        `image` is how many tokens it becomes, 0 where there is none.
        """
        style = self._style
        for token in (style.left, self._image_token):
            text = text.replace(token, "")
        if not self._tokenizer.chat_template:
            prompt = style.plain.replace(_BOS, self._tokenizer.bos_token or "").replace(
                "{image}", style.left if image else ""
            )
            prompt = prompt.replace("{text}", text)
        else:
            parts = [{"type": "image"}] if image else []
            said = [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]
            prompt = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        return prompt.replace(style.left, f"{style.before}{self._image_token * image}{style.after}")


class QwenVision(VisionLanguage):
    """Qwen's: an image has as many tokens as its size asks for, whose places lie in space.

    Images' patches are kept as (B, P, D), filled up with zeros, so that a batch can be divided.
    """

    def _pictures(self, images: Sequence[Any]) -> dict[str, Tensor]:
        seen = self._processor(list(images), return_tensors="pt")
        grid = seen["image_grid_thw"]
        apart = seen["pixel_values"].split(grid.prod(1).tolist())
        patches = torch.nn.utils.rnn.pad_sequence(list(apart), batch_first=True)
        return {
            "pixel_values": patches.to(self.device, self._model.dtype),
            "image_grid_thw": grid.to(self.device),
        }

    def _numbers(self, seen: Mapping[str, Tensor]) -> list[int]:
        merged = int(self._model.config.vision_config.spatial_merge_size) ** 2
        return [int(number) // merged for number in seen["image_grid_thw"].prod(1)]

    def _typed(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**inputs, "mm_token_type_ids": (inputs["input_ids"] == self._image_id).long()}

    def _asked(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        asked = super()._asked(inputs)
        if "image_grid_thw" in asked:
            numbers = asked["image_grid_thw"].prod(1).tolist()
            rows = zip(asked["pixel_values"], numbers, strict=True)
            asked["pixel_values"] = torch.cat([row[:number] for row, number in rows])
        return asked

    def _given(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        given = super()._given(inputs)
        if "image_grid_thw" in inputs:
            names = ("input_ids", "mm_token_type_ids", "image_grid_thw", "attention_mask")
            given["position_ids"] = self._model.model.get_rope_index(**{name: inputs[name] for name in names})[0]
        return given


def load_vision_language(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> VisionLanguage:
    """Load a decoder that reads images among text; raise `InputError` if it sees them in another way."""
    config: Any = found.config
    vision = getattr(config.vision_config, "model_type", "")
    if config.model_type == "llava" and vision == "pixtral":
        raise InputError(f"{found.folder}: sees images through {vision!r}, whose sizes vary; expected CLIP or SigLIP")
    model, tokenizer = found.model(AutoModelForImageTextToText, dtype), found.tokenizer()
    told = found.json("chat_template.json")  # where processors kept it before they had a file of its own
    if isinstance(told, dict) and isinstance(told.get("chat_template"), str):
        tokenizer.chat_template = told["chat_template"]
    if not isinstance(tokenizer.convert_ids_to_tokens(config.image_token_id), str):
        raise InputError(f"{found.folder}: its tokenizer has no token {config.image_token_id}, which stands for images")
    kind = QwenVision if config.model_type in ("qwen2_vl", "qwen2_5_vl") else VisionLanguage
    style = _STYLES[config.model_type]
    return kind(model.to(device), tokenizer, found.image_processor(), found.name, found.fingerprint, style)


FAMILY = Family(
    types=("qwen2_5_vl", "qwen2_vl", "gemma3", "llava", "smolvlm", "paligemma", "idefics3", "idefics2"),
    load=load_vision_language,
)
