"""Sequence to sequence: T5 for text, Florence-2 for images and text in one interface of text to text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoModelForSeq2SeqLM, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput

from pitune.backbones.base import Batch
from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.family import Family
from pitune.backbones.generative import Generative
from pitune.backbones.likelihood import Prefix, repeated_cache
from pitune.backbones.recomputing import around
from pitune.errors import InputError
from pitune.tasks import Example, Task, open_image

_LONGEST_INPUT = 512
_LOOKS_AT_INPUT = ("EncDecAttention", "encoder_attn")  # attention to the encoder's states
_SEES = ("florence2",)
_READS = (
    *("t5", "bart", "mt5", "mbart", "pegasus", "umt5", "longt5", "led", "marian", "m2m_100", "bigbird_pegasus"),
    *("blenderbot", "blenderbot-small", "mvp", "pegasus_x", "plbart"),
)
_QUESTION = "What does the image describe?"  # what Florence-2 learned to read where there is no text


class Seq2Seq(Generative):
    """An encoder that reads the input once, and a decoder that writes or scores answers."""

    _marked = True

    def __init__(self, model: Any, tokenizer: Any, processor: Any, name: str, fingerprint: str) -> None:
        config = model.config.get_text_config()
        super().__init__(model, tokenizer, name, fingerprint, int(config.d_model))
        self._processor = processor
        self._start = _start_token(model, name)
        self._image_tokens: int | None = None

    def _where(self) -> str:
        return "model.language_model." if self._processor else ""

    def _inputs(self, examples: Sequence[Example], task: Task) -> Mapping[str, Tensor]:
        if self._processor is None and examples[0].image is not None:
            raise InputError(f"task {task.name!r}: has images, and {self.name} reads text alone")
        texts = [task.input_text(example) or _QUESTION for example in examples]
        seen = {} if examples[0].image is None else {"pixel_values": self._pixels(examples)}
        encoded = self._tokenizer(texts, truncation=True, max_length=_LONGEST_INPUT)["input_ids"]
        if seen:
            images = [self._model.config.image_token_id] * self._images(seen["pixel_values"])
            encoded = [[*images, *row] for row in encoded]
        read = self._tokenizer.pad({"input_ids": encoded}, padding=True, return_tensors="pt")
        return {name: read[name].to(self.device) for name in ("input_ids", "attention_mask")} | seen

    def _pixels(self, examples: Sequence[Example]) -> Tensor:
        pixels: Tensor = self._processor([open_image(example) for example in examples], return_tensors="pt")[
            "pixel_values"
        ]
        return pixels.to(self.device, self._model.dtype)

    @torch.no_grad()
    def _images(self, pixels: Tensor) -> int:
        """Return how many tokens an image becomes, which follows from its size after preparation."""
        if self._image_tokens is None:
            self._image_tokens = int(self._model.get_image_features(pixels[:1]).pooler_output.shape[1])
        return self._image_tokens

    def _read(self, inputs: Mapping[str, Tensor]) -> Prefix:
        given = {name: inputs[name] for name in ("input_ids", "attention_mask", "pixel_values") if name in inputs}
        start = torch.full((len(given["input_ids"]), 1), self._start, device=self.device)
        output = self._model(**given, decoder_input_ids=start, use_cache=True)
        return Prefix(
            output.logits[:, -1], output.past_key_values, given["attention_mask"], output.encoder_last_hidden_state
        )

    def _proceed(self, prefix: Prefix, tokens: Tensor, times: int) -> tuple[Tensor, Prefix]:
        assert prefix.hidden is not None
        decoder: Any = self._model.get_decoder()
        own, seen = prefix.cache.self_attention_cache, prefix.cache.cross_attention_cache
        mask = create_bidirectional_mask(
            config=decoder.config,
            inputs_embeds=prefix.hidden[:, :1],
            attention_mask=prefix.mask,
            encoder_hidden_states=prefix.hidden,
        )
        with around(partial(_answers_together, decoder, len(prefix.hidden), tokens.shape[1])):
            output = self._model(
                encoder_outputs=BaseModelOutput(prefix.hidden),
                attention_mask=mask,
                decoder_input_ids=tokens,
                past_key_values=EncoderDecoderCache(repeated_cache(own, times), seen),
                use_cache=True,
            )
        read = Prefix(output.logits[:, -1], output.past_key_values, prefix.mask, prefix.hidden)
        return output.logits, read

    def _skipped(self, batch: Batch) -> int:
        return 1

    def features(self, batch: Batch) -> Tensor:
        """Return the mean (B, D) of what the encoder made of the inputs."""
        prefix = self._read(batch.inputs)
        assert prefix.hidden is not None
        kept = prefix.mask[:, :, None].to(prefix.hidden.dtype)
        return ((prefix.hidden * kept).sum(1) / kept.sum(1)).float()


@contextmanager
def _answers_together(decoder: nn.Module, inputs: int, tokens: int) -> Iterator[None]:
    """Let the answers of one input look at it as one longer row, so that its keys and values are not repeated.

    Attention to the input knows no order among the tokens that look.
    """

    def enter(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        hidden: Tensor = args[0] if args else named["hidden_states"]
        rest = {name: value for name, value in named.items() if name != "hidden_states"}
        return (hidden.reshape(inputs, -1, hidden.shape[-1]), *args[1:]), rest

    def leave(_: nn.Module, args: tuple[Any, ...], output: tuple[Any, ...]) -> tuple[Any, ...]:
        return (output[0].reshape(-1, tokens, output[0].shape[-1]), *output[1:])

    with ExitStack() as undo:
        for name, module in decoder.named_modules():
            if name.endswith(_LOOKS_AT_INPUT):
                undo.callback(module.register_forward_pre_hook(enter, with_kwargs=True).remove)
                undo.callback(module.register_forward_hook(leave).remove)
        yield


def _start_token(model: Any, name: str) -> int:
    """Return the token that a decoder begins with."""
    configs = (model.config.get_text_config(), model.generation_config)
    found = (getattr(one, "decoder_start_token_id", None) for one in configs)
    start = next((one for one in found if one is not None), None)
    if start is None:
        raise InputError(f"{name}: names no decoder_start_token_id; add it to config.json")
    return int(start)


def load_seq2seq(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> Seq2Seq:
    """Load T5 and its kin, or Florence-2 with its image processor."""
    sees = found.config.model_type in _SEES
    model = found.model(AutoModelForImageTextToText if sees else AutoModelForSeq2SeqLM, dtype)
    processor = found.image_processor() if sees else None
    return Seq2Seq(model.to(device), found.tokenizer(), processor, found.name, found.fingerprint)


FAMILY = Family(types=(_READS[0], *_SEES, *_READS[1:]), load=load_seq2seq)
