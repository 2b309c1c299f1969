"""Decoder-only language models, such as Llama, Mistral, Qwen, Gemma, Phi and SmolLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pitune.backbones.base import Batch, listed_answers, masked_log_softmax
from pitune.backbones.cache import Kept
from pitune.backbones.checkpoint import Checkpoint
from pitune.backbones.decoder import Decoder
from pitune.backbones.entering import (
    ANSWERS,
    PROMPT,
    TARGET,
    fitted,
    on_the_left,
    seen_entering,
    standing_in,
    without_states,
)
from pitune.backbones.family import Family
from pitune.backbones.generative import TARGET as TARGET_TOKENS
from pitune.backbones.likelihood import Prefix, answer_scores_apart, log_likelihood
from pitune.errors import InputError
from pitune.tasks import Example, Task

_READS = (
    *("llama", "qwen3", "qwen2", "mistral", "gemma3_text", "gemma2", "gemma", "phi3", "smollm3", "phi", "granite"),
    *("olmo2", "olmo3", "olmo", "cohere", "cohere2", "glm", "helium", "ministral", "nemotron", "seed_oss", "stablelm"),
    "starcoder2",
)


class CausalLM(Decoder):
    """A language model that answers a text: in its chat template where it has one, else behind "Answer:".

    Where an expert changes upper layers alone, what enters the lowest of these is kept for every prompt and answer.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str, fingerprint: str, width: int) -> None:
        super().__init__(model, tokenizer, name, fingerprint, width)
        self._kept = Kept()

    @property
    def blocks(self) -> tuple[str, ...]:
        """The layers that every token goes through."""
        return tuple(f"model.layers.{i}" for i in range(len(self._model.model.layers)))

    def prepare_from(self, layer: int, examples: Sequence[Example], task: Task) -> Batch:
        """Return the batch of `prepare` with the states that enter a layer, of prompts, answers and targets.

        Each prompt goes through the layers below by itself and once, with the answers that it may have behind it. Of
        answers that it may not have the states are zeros, which nothing reads.
        """
        batch = self.prepare(examples, task)
        answers = listed_answers(examples, task) if len(batch.answers) else ()
        prompts, listed, targets = list[Tensor](), list[Tensor](), list[Tensor]()
        for i, example in enumerate(examples):
            prompt = batch.inputs["input_ids"][i][batch.inputs["attention_mask"][i].bool()]
            texts = tuple(dict.fromkeys((*(task.candidates(example) if answers else ()), example.target)))
            key = layer, tuple(prompt.tolist()), texts
            made = self._kept.get(key, partial(self._entering, layer, prompt, texts))
            of = dict(zip(texts, made[ANSWERS], strict=True))
            nothing = torch.zeros_like(of[example.target])
            prompts.append(made[PROMPT])
            targets.append(of[example.target][None])
            listed += [torch.stack([of.get(answer, nothing) for answer in answers])] if answers else []
        states = {PROMPT: on_the_left(prompts), TARGET: fitted(targets, batch.inputs[TARGET_TOKENS].shape[1] - 1)}
        if answers:
            states[ANSWERS] = fitted(listed, batch.answers.shape[1] - 1)
        return replace(batch, inputs={**batch.inputs, **states}, layer=layer)

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log p(answer | input) among those listed; of an open task, the target's own likelihood (B, 1)."""
        if not batch.layer:
            return super().scores(batch, candidates)
        if candidates is not None:
            return super().scores(_whole(batch), candidates)
        if not len(batch.answers):
            return -self.losses(batch)[:, None]
        with self._below(batch.layer, batch.inputs[PROMPT]):
            prefix = self._read(without_states(batch.inputs))

        def proceed(before: Prefix, tokens: Tensor, which: slice) -> Tensor:
            with self._below(batch.layer, batch.inputs[ANSWERS][:, which].flatten(0, 1)):
                return self._proceed(before, tokens, len(tokens) // len(batch))[0]

        scores = answer_scores_apart(prefix, batch.answers, proceed)
        return scores if batch.relevant is not None else masked_log_softmax(scores, batch.allowed)

    def losses(self, batch: Batch) -> Tensor:
        """Return −log p(target | input), the sum over the target's tokens and the end."""
        if not batch.layer:
            return super().losses(batch)
        with self._below(batch.layer, batch.inputs[PROMPT]):
            prefix = self._read(without_states(batch.inputs))
        with self._below(batch.layer, batch.inputs[TARGET].flatten(0, 1)):
            return -log_likelihood(prefix, batch.inputs[TARGET_TOKENS][:, None], self._proceed).squeeze(1)

    def features(self, batch: Batch) -> Tensor:
        """Return the last state (B, D) of the prompt, from which the answer would begin."""
        if not batch.layer:
            return super().features(batch)
        with self._below(batch.layer, batch.inputs[PROMPT]):
            return super().features(_whole(batch))

    def generate(self, batch: Batch) -> list[str]:
        """Return the best answer that beam search finds for each example."""
        return super().generate(_whole(batch))

    def sample(self, batch: Batch, draws: Tensor) -> Batch:
        """Return the batch with an answer of the model's own in place of each target, which goes through all layers."""
        return super().sample(_whole(batch), draws)

    def _below(self, layer: int, states: Tensor) -> AbstractContextManager[None]:
        return standing_in(list(self._model.model.layers)[:layer], states)

    @torch.no_grad()
    def _entering(self, layer: int, prompt: Tensor, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return what enters a layer of a prompt's tokens (T,): its states (T, D), and those of N texts (N, T', D)."""
        inputs = {"input_ids": prompt[None], "attention_mask": torch.ones_like(prompt[None])}
        tokens = self._written(texts)[:, :-1].clamp_min(0)
        with seen_entering(self._model.model.layers[layer]) as seen:
            prefix = self._read(inputs)
            if tokens.shape[1]:
                self._proceed(prefix, tokens, len(texts))
        read = seen[0][0]
        return {PROMPT: read, ANSWERS: seen[1] if tokens.shape[1] else read.new_zeros(len(texts), 0, self.width)}

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


def _whole(batch: Batch) -> Batch:
    """Return a batch as `prepare` makes it, to go through all layers."""
    return replace(batch, inputs=without_states(batch.inputs), layer=0)


def load_causal_lm(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> CausalLM:
    """Load a language model and its tokenizer; raise `InputError` if the tokenizer names no end of a text."""
    model, tokenizer = found.model(AutoModelForCausalLM, dtype).to(device), found.tokenizer()
    if tokenizer.eos_token_id is None:
        raise InputError(f"{found.folder}: its tokenizer names no eos_token; add it to tokenizer_config.json")
    return CausalLM(model, tokenizer, found.name, found.fingerprint, int(model.config.hidden_size))


FAMILY = Family(types=_READS, load=load_causal_lm)
