"""Decoders: one stack reads the prompt and writes the answer behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from pitune.backbones.base import LONGEST_ANSWER, Batch
from pitune.backbones.generative import Generative
from pitune.backbones.likelihood import Prefix, repeated_cache

LONGEST_INPUT = 2048  # tokens


class Decoder(Generative):
    """A causal language model, be what it reads text alone or images among it; a family writes the prompt.

    Prompts are padded on the left, so that every answer begins right behind its own.
    """

    def _encoded(self, texts: Sequence[str], prompt: Callable[[int, str], str]) -> dict[str, Tensor]:
        """Return the tokens of prompts, `prompt(i, text)` of each text; of one too long the text loses its end.

        What a prompt says before and behind a text stays, since an answer is to follow it.
        """
        tokenizer, marked = self._tokenizer, not self._writes_marks()

        def tokens(text: str, marked: bool) -> list[int]:
            row: list[int] = tokenizer(text, add_special_tokens=marked, verbose=False)["input_ids"]
            return row[:-1] if marked and row[-1:] == [tokenizer.eos_token_id] else row

        longest = min(LONGEST_INPUT, self._positions() - LONGEST_ANSWER)
        rows = []
        for i, text in enumerate(texts):
            row = tokens(prompt(i, text), marked)
            if len(row) > longest:
                own = tokens(text, False)
                kept = max(0, len(own) - (len(row) - longest))
                row = tokens(prompt(i, tokenizer.decode(own[:kept])), marked)
            rows.append(row)
        length = max(map(len, rows))
        ids = torch.tensor([[*[self._padding()] * (length - len(row)), *row] for row in rows])
        mask = torch.tensor([[*[0] * (length - len(row)), *[1] * len(row)] for row in rows])
        return {"input_ids": ids.to(self.device), "attention_mask": mask.to(self.device)}

    def _writes_marks(self) -> bool:
        """Return whether prompts have the tokenizer's marks in them, as a template writes them itself."""
        return bool(self._tokenizer.chat_template)

    def _positions(self) -> int:
        return int(self._model.config.get_text_config().max_position_embeddings)

    def _padding(self) -> int:
        """Return a token to pad with, which is masked: any will do where the tokenizer names none."""
        found = self._tokenizer.pad_token_id
        return 0 if found is None else int(found)

    def _given(self, inputs: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return what the model is called with to read prompts, the place of each token with it."""
        return {**self._asked(inputs), "position_ids": _places(inputs["attention_mask"])}

    def _read(self, inputs: Mapping[str, Tensor]) -> Prefix:
        given, mask = self._given(inputs), inputs["attention_mask"]
        output = self._model(**given, past_key_values=self._new_cache(), use_cache=True, logits_to_keep=1)
        last = given["position_ids"][..., -1:]  # (B, 1), or (3, B, 1) alike where an image's tokens lie in space
        shift = (last if last.ndim == 2 else last[0]) - _places(mask)[:, -1:]
        return Prefix(output.logits[:, -1], output.past_key_values, mask, shift=shift)

    def _new_cache(self) -> DynamicCache:
        return DynamicCache()  # of whole layers: the mask tells how far a layer of a sliding window looks

    def _proceeding(self) -> Any:
        """Return what is called to go on from a prompt."""
        return self._model

    def _proceed(self, prefix: Prefix, tokens: Tensor, times: int) -> tuple[Tensor, Prefix]:
        assert prefix.shift is not None
        before, shift = (one.repeat_interleave(times, 0) for one in (prefix.mask, prefix.shift))
        mask = torch.cat([before, before.new_ones(tokens.shape)], 1)
        output = self._proceeding()(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=_places(mask)[:, -tokens.shape[1] :] + shift,
            past_key_values=repeated_cache(prefix.cache, times),
            use_cache=True,
        )
        return output.logits, Prefix(output.logits[:, -1], output.past_key_values, mask, shift=shift)

    def _skipped(self, batch: Batch) -> int:
        return batch.inputs["input_ids"].shape[1]

    def features(self, batch: Batch) -> Tensor:
        """Return the last state (B, D) of the prompt, from which the answer would begin."""
        output = self._model.model(**self._given(batch.inputs))
        states: Tensor = output.last_hidden_state
        return states[:, -1].float()


def _places(mask: Tensor) -> Tensor:
    """Return each token's place (B, T) behind the padding on the left."""
    return (mask.cumsum(1) - 1).clamp_min(0)
