"""BLIP-2 with a decoder such as OPT: an image becomes a few queries in front of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from pitune.backbones.base import Batch
from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.family import Family
from pitune.backbones.likelihood import Prefix
from pitune.backbones.vision_language import Style, VisionLanguage
from pitune.errors import InputError
from pitune.tasks import Example, Task

_STYLE = Style(plain="{image}<bos>Question: {text} Answer:")


class Blip2(VisionLanguage):
    """Its decoder is a language model of its own, which goes on by itself once it has read an image and a question."""

    def _where(self) -> str:
        return "language_model."

    def _inputs(self, examples: Sequence[Example], task: Task) -> Mapping[str, Tensor]:
        if examples[0].image is None:
            raise InputError(f"task {task.name!r}: has texts alone, and {self.name} reads an image with each")
        return super()._inputs(examples, task)

    def _numbers(self, seen: Mapping[str, Tensor]) -> list[int]:
        return [int(self._model.config.num_query_tokens)] * len(seen["pixel_values"])

    def _written(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens of answers; behind a colon they begin with a space, as a model has seen them."""
        return super()._written([f" {text}" for text in texts])

    def _read(self, inputs: Mapping[str, Tensor]) -> Prefix:
        given = {**self._given(inputs), "past_key_values": self._new_cache(), "use_cache": True}
        output = self._model(**given, logits_to_keep=1)
        mask = inputs["attention_mask"]
        cache = output.language_model_outputs.past_key_values
        return Prefix(output.logits[:, -1], cache, mask, shift=torch.zeros_like(mask[:, :1]))

    def _proceeding(self) -> torch.nn.Module:
        decoder: torch.nn.Module = self._model.language_model
        return decoder

    def features(self, batch: Batch) -> Tensor:
        """Return the last state (B, D) of the prompt, from which the answer would begin."""
        output = self._model(**self._given(batch.inputs), output_hidden_states=True, logits_to_keep=1)
        states: Tensor = output.language_model_outputs.hidden_states[-1]
        return states[:, -1].float()


def load_blip_2(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> Blip2:
    """Load BLIP-2; raise `InputError` if it writes with an encoder and a decoder, as with T5."""
    if not found.config.use_decoder_only_language_model:
        raise InputError(f"{found.folder}: writes with an encoder and a decoder; expected a BLIP-2 with OPT")
    model = found.model(AutoModelForImageTextToText, dtype).to(device)
    return Blip2(model, found.tokenizer(), found.image_processor(), found.name, found.fingerprint, _STYLE)


FAMILY = Family(types=("blip-2",), load=load_blip_2)
