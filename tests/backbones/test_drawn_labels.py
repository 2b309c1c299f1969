"""The labels that a task is embedded by are drawn from the model that was trained, whatever its family."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from pitune.backbones import Backbone
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.prediction import embed, expert_fisher, probe_fisher
from pitune.prediction.fisher import fisher_at
from pitune.tasks import Draw, Task, load_task
from pitune.training import TrainingSettings, fit_expert


class Mute:
    """A backbone that cannot draw an answer, as a stranger's may."""

    def __init__(self, backbone: Backbone) -> None:
        self._backbone = backbone

    def __getattr__(self, name: str) -> Any:
        if name == "sample":
            raise AttributeError(name)
        return getattr(self._backbone, name)


WRITE = ("t5", "florence", "smolvlm", "llama")


def captions(kind: str, data: dict[str, Path]) -> Task:
    task = load_task(data["captions"])
    if kind not in ("t5", "llama"):
        return task
    words = ("sea", "sand wave", "salt rock path", "road")
    told = {
        part: [replace(one, image=None, text=words[i % 4]) for i, one in enumerate(found)]
        for part, found in task.splits.items()
    }
    return replace(task, splits=told)


@pytest.mark.parametrize("kind", WRITE)
def test_where_any_text_may_be_an_answer_one_is_drawn(
    kind: str, backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone, task = backbones[kind], captions(kind, data)
    examples = task.examples("train")[:6]
    sampled = probe_fisher(backbone, task, examples, chunk=6)
    empirical = probe_fisher(backbone, task, examples, labels="empirical")
    other = probe_fisher(backbone, task, examples, seed=1)
    again = probe_fisher(backbone, task, [*reversed(examples)], chunk=2)
    assert any(not torch.allclose(sampled[name], empirical[name], rtol=1e-2) for name in sampled)
    assert any(not torch.allclose(sampled[name], other[name], rtol=1e-2) for name in sampled)
    for name, value in sampled.items():
        torch.testing.assert_close(value, again[name], rtol=1e-3, atol=1e-9)
    relabelled = [replace(one, target="no", references=()) for one in examples]
    for name, value in probe_fisher(backbone, task, relabelled, chunk=6).items():  # the data's own answers are not read
        torch.testing.assert_close(value, sampled[name], rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("kind", WRITE)
def test_drawn_answers_follow_the_models_likelihood(
    kind: str, backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone, task = backbones[kind], captions(kind, data)
    batch = backbone.prepare(task.examples("train")[:1], task)
    many = 2000
    wide = replace(
        batch,
        ids=batch.ids * many,
        inputs={name: value.expand(many, *value.shape[1:]) for name, value in batch.inputs.items()},
    )
    draws = torch.rand(many, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = backbone.sample(wide, draws)  # type: ignore[attr-defined]
    tokens = drawn.inputs["target_tokens"]
    assert torch.equal(tokens[:, 1] == -100, tokens[:, 0] == 2)  # nothing stands behind an end
    kinds, place, number = tokens.unique(dim=0, return_inverse=True, return_counts=True)
    chances = torch.zeros(len(kinds)).index_copy(0, place, (-backbone.losses(drawn)).exp())
    error = (number / many - chances).abs() / (chances * (1 - chances) / many).sqrt()
    assert float(error[chances > 0.005].max()) < 4.5  # standard errors


def test_a_family_that_writes_nothing_is_embedded_by_given_answers_and_says_so(
    backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone, task = backbones["smolvlm"], captions("smolvlm", data)
    draw = Draw(task, tuple(task.examples("train")[:3]), (), None, 0)
    expert, _ = fit_expert(backbone, draw, settings=TrainingSettings(steps=1, evaluations=1), r=2)
    assert "fisher_labels" not in embed(backbone, draw, expert).card.hyperparameters
    mute = embed(cast(Backbone, Mute(backbone)), draw, expert)
    assert mute.card.hyperparameters["fisher_labels"] == "empirical"
    given = expert_fisher(backbone, task, expert, draw.train, labels="empirical")
    assert all(torch.equal((mute.fisher or {})[f"expert.{name}"], value) for name, value in given.items())


@pytest.fixture
def images(data: dict[str, Path]) -> Task:
    task = load_task(data["colour"])
    return replace(task, splits={"train": task.examples("train")[:3]})


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_labels_are_of_the_model_given_that_one_answer_is_right(
    kind: str, backbones: dict[str, Backbone], images: Task
) -> None:
    """SigLIP's answers are right or wrong each for itself; of all such outcomes, those with one right are kept."""
    backbone, examples = backbones[kind], images.splits["train"]
    lora = KINDS.get("lora")
    with attached(backbone, lora, make_settings(lora, backbone, r=2)) as place:
        start = initial_tensors(lora, place.shapes, 0)
        wanted = sorted(name for name in start if name.endswith("lora_B.weight"))[:2]
        expected = {name: torch.zeros_like(start[name]) for name in wanted}
        for example in examples:
            batch = backbone.prepare([example], images)
            leaves = {name: start[name].clone().requires_grad_() for name in wanted}
            logits = place._call("_logits", {**start, **leaves}, batch, batch.answers)[0].double()
            for chance in outcomes(kind, logits):
                gradients = torch.autograd.grad(chance.log(), list(leaves.values()), retain_graph=True)
                for name, gradient in zip(wanted, gradients, strict=True):
                    expected[name] += chance.detach().float() * gradient.square() / len(examples)
        drawn = [
            fisher_at(place, start, wanted, images, examples, labels="sampled", seed=seed, chunk=3)
            for seed in range(60)
        ]
    for name in wanted:
        each = torch.stack([one[name] for one in drawn])
        error = (each.mean(0) - expected[name]).abs().sum() / expected[name].sum()
        assert float(error) < 0.15


def outcomes(kind: str, logits: torch.Tensor) -> torch.Tensor:
    """Return the probability of each answer (C,), for a sigmoid by listing all that may be right together."""
    if kind == "clip":
        return logits.softmax(-1)
    right, wrong = logits.sigmoid(), (-logits).sigmoid()
    whole = {
        signs: torch.stack([(right if sign else wrong)[i] for i, sign in enumerate(signs)]).prod()
        for signs in product((0, 1), repeat=len(logits))
    }
    one = torch.stack([whole[tuple(int(i == label) for i in range(len(logits)))] for label in range(len(logits))])
    return one / one.sum()
