"""A family of backbones: texts as bags of words, matched to answers by two small layers of fixed random weights."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pitune.backbones import Batch, Family, batch_answers, masked_log_softmax, target_losses
from pitune.errors import InputError
from pitune.tasks import Example, Task

_WORDS, _WIDTH, _SCALE = 256, 64, 10.0


class _Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(_WORDS, _WIDTH), nn.Linear(_WIDTH, _WIDTH)

    def forward(self, words: Tensor) -> Tensor:
        hidden: Tensor = self.last(F.relu(self.first(words)))
        return F.normalize(hidden, dim=-1)


class Bag:
    """Words (B, 256) to unit vectors (B, 64); an answer is read as an input is."""

    name, fingerprint, width, vectorises = "bag", "pitune-example bag 1", _WIDTH, True

    def __init__(self, device: torch.device) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.module: nn.Module = _Layers().requires_grad_(False).eval().to(device)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def sites(self, role: str) -> tuple[str, ...]:
        """Return its layers; it has no attention, and both take a LoRA as well."""
        both = ("first", "last")
        return {"linear": both, "attention": both, "outputs": ("last",)}.get(role, ())

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        answers = batch_answers(examples, task, self.device)
        texts = [task.input_text(example) for example in examples]
        if None in texts:
            raise InputError(f"task {task.name!r}: has images alone, and {self.name} reads text")
        read = self._words([task.answer_text(answer) for answer in answers.texts])
        inputs = {"words": self._words([text or "" for text in texts])}
        ids = tuple(example.id for example in examples)
        return Batch(ids, inputs, read, answers.target, answers.allowed, answers.relevant)

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        read, allowed = (batch.answers, batch.allowed) if candidates is None else (self._words(candidates), None)
        return masked_log_softmax(_SCALE * self.features(batch) @ self.module(read).T, allowed)

    def losses(self, batch: Batch) -> Tensor:
        return target_losses(self.scores(batch), batch.target, batch.relevant)

    def features(self, batch: Batch) -> Tensor:
        vectors: Tensor = self.module(batch.inputs["words"])
        return vectors

    def generate(self, batch: Batch) -> list[str]:
        raise InputError(f"{self.name} matches answers and cannot write text; give the task candidate answers")

    def _words(self, texts: Sequence[str]) -> Tensor:
        counts = torch.zeros(len(texts), _WORDS)
        for row, text in enumerate(texts):
            for word in text.lower().split():
                counts[row, zlib.crc32(word.encode()) % _WORDS] += 1
        return counts.to(self.device)


def load_bag(device: torch.device, dtype: torch.dtype) -> Bag:
    """Return the one backbone of this family."""
    return Bag(device)


FAMILY = Family(named={"bag": load_bag})
