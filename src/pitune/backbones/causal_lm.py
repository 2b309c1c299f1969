"""Decoder-only language models, such as Llama, Mistral, Qwen, Gemma, Phi and SmolLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.decoder import Decoder
from pitune.backbones.family import Family
from pitune.errors import InputError
from pitune.tasks import Example, Task

_READS = (
    *("llama", "qwen3", "qwen2", "mistral", "gemma3_text", "gemma2", "gemma", "phi3", "smollm3", "phi", "granite"),
    *("olmo2", "olmo3", "olmo", "cohere", "cohere2", "glm", "helium", "ministral", "nemotron", "seed_oss", "stablelm"),
    "starcoder2",
)


class CausalLM(Decoder):
    """A language model that answers a text: in its chat template where it has one, else behind "Answer:"."""

    def _where(self) -> str:
        return "model."

    def _inputs(self, examples: Sequence[Example], task: Task) -> Mapping[str, Tensor]:
        if examples[0].image is not None:
            raise InputError(f"task {task.name!r}: has images, and {self.name} reads text alone")
        return self._encoded(
            [task.input_text(example) or "" for example in examples], lambda _, text: self._prompt(text)
        )

    def _prompt(self, text: str) -> str:
        """Return the prompt that asks for an answer to a text."""
        if not self._tokenizer.chat_template:
            return f"{text}\nAnswer:"
        said = [{"role": "user", "content": text}]
        prompt: str = self._tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
        return prompt

    def _written(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens of answers; behind a colon they begin with a space, as a model has seen them."""
        return super()._written(texts if self._tokenizer.chat_template else [f" {text}" for text in texts])


def load_causal_lm(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> CausalLM:
    """Load a language model and its tokenizer; raise `InputError` if the tokenizer names no end of a text."""
    model, tokenizer = found.model(AutoModelForCausalLM, dtype).to(device), found.tokenizer()
    if tokenizer.eos_token_id is None:
        raise InputError(f"{found.folder}: its tokenizer names no eos_token; add it to tokenizer_config.json")
    return CausalLM(model, tokenizer, found.name, found.fingerprint, int(model.config.hidden_size))


FAMILY = Family(types=_READS, load=load_causal_lm)
