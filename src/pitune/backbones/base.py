"""The calls and facts that every backbone offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from pitune.backbones.answers import Joined
from pitune.errors import InputError
from pitune.tasks import Example, Task
from pitune.tasks.metrics import METRICS

_BRIEF = 16  # characters
LONGEST_ANSWER = 64  # tokens, with the end


@dataclass(frozen=True)
class Batch:
    """What a backbone reads of B examples, and the C answers they are scored against.

    `inputs` maps a family's own names to tensors whose first dimension is B. `answers` holds what the
    family made of the answer texts. `target` (B,) indexes the right answer; `allowed` (B, C) is False
    for the answers that an example may not choose, or None where all may be chosen. `relevant` (B, C) marks
    every right answer where an example may have several. Where any text may be an answer, C is 1, the target's.
    `share` is how much of a whole batch these examples are, where several processes divide one. `layer` is how many
    of the backbone's layers the inputs have been through (`Layered`).
    """

    ids: tuple[str, ...]
    inputs: Mapping[str, Tensor]
    answers: Tensor
    target: Tensor
    allowed: Tensor | None = None
    relevant: Tensor | None = None
    share: float = 1.0
    layer: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self, which: slice) -> Batch:
        """Return some of the examples as a batch of their own, against the same answers."""
        return replace(
            self,
            ids=self.ids[which],
            inputs={name: value[which] for name, value in self.inputs.items()},
            target=self.target[which],
            allowed=None if self.allowed is None else self.allowed[which],
            relevant=None if self.relevant is None else self.relevant[which],
        )


class Backbone(Protocol):
    """A frozen foundation model. Experts attach inside `module`; nothing else of it ever changes.

    `vectorises` says whether `torch.func.vmap` can follow `scores`; where it cannot, per-example gradients loop.
    """

    name: str
    fingerprint: str
    width: int
    vectorises: bool

    @property
    def module(self) -> nn.Module:
        """The part of the model that experts attach inside."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        """Turn examples into tensors; what is frozen is computed once and cached."""

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log-scores (B, C) of the batch's answers, or of other answer texts."""

    def losses(self, batch: Batch) -> Tensor:
        """Return −log p(target | input) per example (B,), unreduced: the Fisher information needs them so."""

    def features(self, batch: Batch) -> Tensor:
        """Return one vector (B, D) for each input, the frozen features that a linear probe reads."""

    def generate(self, batch: Batch) -> list[str]:
        """Return an answer in free text for each example; `InputError` where the family cannot."""

    def sites(self, role: str) -> tuple[str, ...]:
        """Return the names of the submodules of `module` that have a role; none where the model has no such part.

        Roles are facts of the model: `linear`, all linear layers of its blocks; `attention`, those of attention;
        `keys_values` among them; `outputs`, the last of attention and of the feed-forward; `feedforward_output`;
        `attention_modules`; `norms`; `biased`, linear layers and LayerNorms with a bias; `layers`, the whole layers
        of its encoders, in order; `picture_layers`, those that read pictures; `words`, the module called with token
        ids of answers and the one that looks them up.
        """


def same_weights(fingerprint: str, other: str) -> bool:
    """Return whether two fingerprints are of the same weights, whatever format each are held in."""
    return fingerprint.partition(":")[0] == other.partition(":")[0]


def brief(fingerprint: str) -> str:
    """Return a fingerprint as it is told to people."""
    whole, *held = fingerprint.split(":")
    return ":".join([whole[:_BRIEF], *held])


@runtime_checkable
class Matching(Protocol):
    """A backbone that scores an input by its features alone, so that one pass gives both."""

    def match(self, features: Tensor, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log-scores (B, C) of the batch's answers, or of other answer texts, of features (B, D)."""


@runtime_checkable
class Writing(Protocol):
    """A backbone that writes, so that an answer in free text can be drawn from it."""

    def sample(self, batch: Batch, draws: Tensor) -> Batch:
        """Return a batch of open answers with answers drawn from the model in place of its targets.

        Token t of example b is where the sum of the tokens' probabilities passes `draws` (B, T) in [0, 1), in float64;
        an answer ends as the model ends it, or has T tokens and no end. It does not depend on the rest of the batch.
        """


@runtime_checkable
class Layered(Protocol):
    """A backbone that can keep what its lower layers make of inputs, where an expert changes the upper ones alone."""

    @property
    def blocks(self) -> tuple[str, ...]:
        """The layers that every input goes through, by name in order."""

    def prepare_from(self, layer: int, examples: Sequence[Example], task: Task) -> Batch:
        """Return the batch of `prepare` as it enters a layer, by number; each input goes through those below once."""


@runtime_checkable
class Matched(Protocol):
    """A backbone that matches inputs against texts of answers, among whose words an expert's vectors may stand."""

    joined: Joined | None

    def templates(self, task: Task) -> tuple[str, ...]:
        """Return the templates that a task's answers are matched in, as things are."""

    def word_ids(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a text, without marks of its start and end."""


def check_inputs(examples: Sequence[Example], task: Task) -> None:
    """Raise `InputError` unless all examples are of one kind: an image, a text, or both."""
    kinds = {(example.image is not None, example.text is not None) for example in examples}
    if len(kinds) != 1 or kinds == {(False, False)}:
        raise InputError(
            f"task {task.name!r} mixes kinds of input; expected an image, a text, or both in every example"
        )


def masked_log_softmax(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """Return log p (B, C) over the allowed answers; the others get −inf, not a score of zero."""
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    return scores.log_softmax(-1)


@dataclass(frozen=True)
class Answers:
    """The C answers that a batch is scored against: which is right (B,), may be chosen (B, C), is right too (B, C)."""

    texts: tuple[str, ...]
    target: Tensor
    allowed: Tensor | None
    relevant: Tensor | None


def batch_answers(examples: Sequence[Example], task: Task, device: torch.device) -> Answers:
    """Return the task's answers, or those that the batch lists; `InputError` if a target is not there."""
    texts = listed_answers(examples, task)
    index = {answer: i for i, answer in enumerate(texts)}
    for example in examples:
        if example.target not in index:
            raise InputError(f"task {task.name!r}: the target {example.target!r} of {example.id!r} is not an answer")
    target = torch.tensor([index[example.target] for example in examples])
    allowed = relevant = None
    if any(example.candidates for example in examples):
        allowed = torch.zeros(len(examples), len(texts), dtype=torch.bool)
        for row, example in enumerate(examples):
            allowed[row, [index[answer] for answer in task.candidates(example)]] = True
    if has_several_labels(task):
        relevant = torch.zeros(len(examples), len(texts), dtype=torch.bool)
        for row, example in enumerate(examples):
            relevant[row, [index[answer] for answer in example.right if answer in index]] = True
    put = [None if one is None else one.to(device) for one in (allowed, relevant)]
    return Answers(texts, target.to(device), *put)


def has_open_answers(examples: Sequence[Example], task: Task) -> bool:
    """Return whether any text may be an answer, so that the target's alone is scored."""
    return task.answers is None and not any(example.candidates for example in examples)


def listed_answers(examples: Sequence[Example], task: Task) -> tuple[str, ...]:
    """Return the task's answers, or those that the examples of a batch list, in the order of its scores."""
    return task.answers or tuple(dict.fromkeys(a for example in examples for a in task.candidates(example)))


def has_several_labels(task: Task) -> bool:
    """Return whether a task's metric looks at every right answer rather than at one."""
    return task.answers is not None and METRICS.get(task.metric).several


def target_losses(scores: Tensor, target: Tensor, relevant: Tensor | None) -> Tensor:
    """Return −log p(target) (B,) of log-scores (B, C), or its mean over all that are `relevant` (B, C)."""
    if relevant is None:
        return -scores.gather(1, target[:, None]).squeeze(1)
    return -scores.log_softmax(-1).masked_fill(~relevant, 0.0).sum(1) / relevant.sum(1)
