"""What a dual encoder reads of answers: their texts, several of each in an ensemble, or their names beside vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from pitune.errors import InputError
from pitune.tasks import Task, Wording

if TYPE_CHECKING:
    from pitune.backbones.base import Batch

ROWS = 4  # of what is read of a text: token ids, which are there, which are the name's, and whose text it is


@dataclass(frozen=True)
class Joined:
    """What joins the words of answers on a backbone.

    `before(texts, total, names)` is told which of how many texts are read next, and how many tokens each one's name
    has (B,), None where the texts are not names. With `bare` an answer is given as its name and a full stop (CoOp),
    otherwise as its text in the first template. `apart` says that every answer has vectors of its own. `shown` says
    in words how a text of a template is read.
    """

    before: Callable[[range, int, Tensor | None], None]
    bare: bool
    apart: bool
    shown: Callable[[str], str]


@dataclass(frozen=True)
class Texts:
    """N texts of C answers, each with the place of its answer; `names` (N) where they are names and a full stop."""

    texts: tuple[str, ...]
    owners: tuple[int, ...]
    names: tuple[str, ...] = ()


def texts_of(wordings: Sequence[Wording], joined: Joined | None) -> Texts:
    """Return what is read of answers: all their texts, or one each where vectors join them."""
    places = tuple(range(len(wordings)))
    if joined is None:
        owned = [(i, text) for i, wording in enumerate(wordings) for text in wording.texts]
        return Texts(tuple(text for _, text in owned), tuple(i for i, _ in owned))
    if not joined.bare:
        return Texts(tuple(wording.texts[0] for wording in wordings), places)
    names = tuple(wording.name.replace("_", " ") for wording in wordings)
    return Texts(tuple(f"{name}." for name in names), places, names)


def rows_of(texts: Texts, encoded: Sequence[Tensor], tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Return what is read of N texts (ROWS, N, T), of their token ids and mask (N, T); each begins with one mark."""
    ids, mask = encoded
    name = torch.zeros_like(ids)
    if texts.names:
        own = tokenizer(list(texts.names), add_special_tokens=False)["input_ids"]
        long = torch.tensor([len(one) for one in own]).clamp(max=ids.shape[1] - 2)[:, None]
        places = torch.arange(ids.shape[1])[None]
        name = ((places >= 1) & (places <= long)).to(ids)
    owner = torch.tensor(texts.owners)[:, None].expand_as(ids).to(ids)
    return torch.stack([ids, mask, name, owner])


def names_of(marked: Tensor) -> Tensor | None:
    """Return how many tokens the names have (N,), of the row (N, T) that marks them; None where it marks none."""
    return marked.sum(1) if bool(marked.any()) else None


def averaged(vectors: Tensor, owners: Tensor) -> Tensor:
    """Return unit vectors (C, D) of answers, of those (N, D) of their texts, which are as they are if each has one."""
    total = int(owners.max()) + 1
    if total == len(owners):
        return vectors
    return F.normalize(vectors.new_zeros(total, vectors.shape[1]).index_add(0, owners, vectors), dim=-1)


def scaled_cosines(scale: Tensor | float, features: Tensor, vectors: Tensor) -> Tensor:
    """Return scale · cos (B, C) of unit vectors (B, D) and (C, D), in float32 whatever the rest is computed in.

    A half format has no more than eight bits for a score of fifty.
    """
    with torch.autocast(features.device.type, enabled=False):
        return scale * features.float() @ vectors.float().T


class MatchesAnswers:
    """What every backbone that matches inputs with answers by their vectors does alike."""

    name: str
    joined: Joined | None
    _tokenizer: PreTrainedTokenizerBase

    def templates(self, task: Task) -> tuple[str, ...]:
        """Return the templates that a task's answers are matched in, with the vectors that join them in brackets."""
        if self.joined is None:
            return task.answer_templates
        return (self.joined.shown("{}." if self.joined.bare else task.answer_template),)

    def word_ids(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text, without marks of its start and end."""
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def generate(self, batch: Batch) -> list[str]:
        """Raise `InputError`: it writes no text."""
        raise InputError(f"{self.name} matches answers and cannot write text; give the task candidate answers")
