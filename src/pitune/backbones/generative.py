"""What sequence-to-sequence and vision-language backbones share: answers are tokens, and the loss is over them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pitune.backbones.base import (
    LONGEST_ANSWER,
    Answers,
    Batch,
    batch_answers,
    check_inputs,
    has_open_answers,
    masked_log_softmax,
)
from pitune.backbones.likelihood import IGNORED, Prefix, answer_scores, log_likelihood, padded
from pitune.backbones.sites import find_sites
from pitune.tasks import Example, Task

_BEAMS = 3
TARGET = "target_tokens"


class Generative(ABC):
    """A frozen model that writes; a family says how it reads an input and goes on from there."""

    vectorises = False
    _marked = False  # whether answers begin with the tokenizer's own mark

    def __init__(self, model: Any, tokenizer: Any, name: str, fingerprint: str, width: int) -> None:
        self.module: nn.Module = model.requires_grad_(False).eval()
        self.name = name
        self.fingerprint = fingerprint
        self.width = width
        self._model, self._tokenizer = model, tokenizer

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return next(self.module.parameters()).device

    def sites(self, role: str) -> tuple[str, ...]:
        """Return the sites of the part that reads text, where images have become tokens too."""
        return find_sites(self.module, self._where()).get(role, ())

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        """Read inputs and spell answers in tokens; of an open task the batch has no answers, only targets.

        Raise `InputError` if inputs are not of one kind: an image, a text, or both.

        """
        check_inputs(examples, task)
        answers = self._answers(examples, task)
        inputs = dict(self._inputs(examples, task))
        inputs[TARGET] = self._written([example.target for example in examples])
        tokens = self._written(answers.texts) if answers.texts else torch.empty(0, 1, dtype=torch.long)
        ids = tuple(example.id for example in examples)
        return Batch(ids, inputs, tokens, answers.target, answers.allowed, answers.relevant)

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log p(answer | input) among those listed; of an open task, the target's own likelihood (B, 1)."""
        if candidates is not None:
            return answer_scores(self._read(batch.inputs), self._written(candidates), self._proceed).log_softmax(-1)
        if not len(batch.answers):
            return -self.losses(batch)[:, None]
        scores = answer_scores(self._read(batch.inputs), batch.answers, self._proceed)
        return scores if batch.relevant is not None else masked_log_softmax(scores, batch.allowed)

    def losses(self, batch: Batch) -> Tensor:
        """Return −log p(target | input), the sum over the target's tokens and the end."""
        tokens = batch.inputs[TARGET][:, None]
        return -log_likelihood(self._read(batch.inputs), tokens, self._proceed).squeeze(1)

    @torch.no_grad()
    def generate(self, batch: Batch) -> list[str]:
        """Return the best answer that beam search finds for each example."""
        written = self._model.generate(
            **self._asked(batch.inputs),
            num_beams=_BEAMS,
            do_sample=False,
            max_new_tokens=LONGEST_ANSWER,
            early_stopping=True,
        )
        return [self._text(row) for row in written[:, self._skipped(batch) :].tolist()]

    @torch.no_grad()
    def sample(self, batch: Batch, draws: Tensor) -> Batch:
        """Return the batch with an answer of the model's own in place of each target, drawn token by token."""
        prefix = self._read(batch.inputs)
        written: list[Tensor] = []
        ended = torch.zeros(len(batch), dtype=torch.bool, device=self.device)
        for draw in draws.to(self.device).unbind(1):
            if written:
                prefix = self._proceed(prefix, written[-1].clamp_min(0)[:, None], 1)[1]
            passed = prefix.logits.double().softmax(-1).cumsum(-1) <= draw[:, None]
            token = passed.sum(-1).clamp(max=prefix.logits.shape[-1] - 1)
            written.append(token.masked_fill(ended, IGNORED))
            ended |= token == self._tokenizer.eos_token_id
            if bool(ended.all()):
                break
        return replace(batch, inputs={**batch.inputs, TARGET: torch.stack(written, 1)})

    def _asked(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what the model itself is given of a batch's inputs."""
        return {name: value for name, value in inputs.items() if name != TARGET}

    def _text(self, tokens: Sequence[int]) -> str:
        """Return tokens as text; location tokens are part of an answer, the marks around it are not."""
        marks = {self._tokenizer.pad_token_id, self._tokenizer.bos_token_id, self._tokenizer.eos_token_id}
        text: str = self._tokenizer.decode([token for token in tokens if token not in marks])
        return text.strip()

    def _answers(self, examples: Sequence[Example], task: Task) -> Answers:
        if has_open_answers(examples, task):
            return Answers((), torch.zeros(len(examples), dtype=torch.long, device=self.device), None, None)
        return batch_answers(examples, task, self.device)

    def _written(self, texts: Sequence[str]) -> Tensor:
        """Return the tokens (N, T) of answers with the end behind them."""
        end = self._tokenizer.eos_token_id
        encoded = self._tokenizer(list(texts), add_special_tokens=self._marked)["input_ids"]
        rows = [row[:-1] if row[-1:] == [end] else row for row in encoded]
        return padded([[*row[: LONGEST_ANSWER - 1], end] for row in rows], self.device)

    @abstractmethod
    def features(self, batch: Batch) -> Tensor:
        """Return one vector (B, D) for each input."""

    @abstractmethod
    def _where(self) -> str:
        """Return the name of the stack that experts attach inside."""

    @abstractmethod
    def _inputs(self, examples: Sequence[Example], task: Task) -> Mapping[str, Tensor]:
        """Return the model's own inputs, each (B, …), without the answers."""

    @abstractmethod
    def _read(self, inputs: Mapping[str, Tensor]) -> Prefix:
        """Encode inputs once, for any number of answers."""

    @abstractmethod
    def _proceed(self, prefix: Prefix, tokens: Tensor, times: int) -> tuple[Tensor, Prefix]:
        """Return logits of the next tokens, and what has been read with them; `times` answers an input."""

    @abstractmethod
    def _skipped(self, batch: Batch) -> int:
        """Return how many tokens of what is written are the prompt."""
