"""Answer inputs whose right answers nobody knows yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from tqdm import tqdm

from pitune.backbones import Backbone, has_open_answers, listed_answers
from pitune.experts import Expert
from pitune.tasks import Example, Task
from pitune.training.batching import by_length
from pitune.training.evaluate import CHUNK, Calls, calls_of


@dataclass(frozen=True)
class Answer:
    """The best answer to an input, its probability, and those of all that it was chosen from.

    Where any text may be an answer, it is what the backbone writes, and there are no probabilities.
    """

    answer: str
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)


def answer(
    backbone: Backbone, task: Task, expert: Expert | None, examples: Sequence[Example], *, progress: bool = False
) -> list[Answer]:
    """Return an answer to each example, whose targets are not read; zero-shot with no expert.

    With `progress`, a bar on stderr says how many are answered.

    Raise `InputError` if the expert belongs to another backbone, or the backbone cannot read an example.
    """
    answers: dict[int, Answer] = {}
    places = {id(example): i for i, example in enumerate(examples)}
    alike: dict[tuple[bool, bool], list[Example]] = {}  # a batch holds inputs of one kind
    for example in examples:
        alike.setdefault((example.image is not None, example.text is not None), []).append(example)
    bar = tqdm(total=len(examples), unit="", desc="answering", disable=not progress)
    with bar, calls_of(backbone, expert) as calls, torch.no_grad():
        for chunk in (chunk for some in alike.values() for chunk in by_length(some, CHUNK)):
            for example, one in zip(chunk, _answers(task, chunk, calls), strict=True):
                answers[places[id(example)]] = one
            bar.update(len(chunk))
    return [answers[i] for i in range(len(examples))]


def _answers(task: Task, examples: Sequence[Example], calls: Calls) -> list[Answer]:
    batch = calls.prepare(examples, task)
    if has_open_answers(examples, task):
        return [Answer(text) for text in calls.write(batch)]
    listed = listed_answers(examples, task)
    chances = calls.score(batch).float().cpu().log_softmax(-1).exp().tolist()
    found = []
    for example, row in zip(examples, chances, strict=True):
        chance = dict(zip(listed, row, strict=True))
        own = {name: chance[name] for name in task.candidates(example)}
        best = max(own, key=own.__getitem__)
        found.append(Answer(best, own[best], own))
    return found
