"""Fisher information against its closed form on a linear-softmax model."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import cast

import pytest
import torch
from tests.conftest import draw_of
from torch import Tensor, nn

from pitune.backbones import Backbone, Batch
from pitune.errors import InputError
from pitune.experts import KINDS, attached, make_settings
from pitune.pocket.backbone import Pocket
from pitune.prediction.fisher import Labels, _drawn, expert_fisher, fisher_at, probe_fisher
from pitune.tasks import Example, Task
from pitune.training import TrainingSettings, fit_expert

WIDTH, CLASSES, RANK = 5, 3, 2


class LinearSoftmax:
    """`p(y|x) = softmax(W x)`; an example's text spells its input."""

    name = "linear"
    fingerprint = "linear"
    width = WIDTH
    device = torch.device("cpu")
    vectorises = True

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.module = nn.Sequential()
        self.module.add_module("head", nn.Linear(WIDTH, CLASSES, bias=False))
        self.module.head.weight.data = torch.randn(CLASSES, WIDTH, generator=generator)
        self.module.requires_grad_(False)

    def sites(self, role: str) -> tuple[str, ...]:
        return ("head",)

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        x = torch.tensor([[float(word) for word in (example.text or "").split()] for example in examples])
        target = torch.tensor([int(example.target) for example in examples])
        return Batch(tuple(example.id for example in examples), {"x": x}, torch.empty(0), target)

    def scores(self, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        return self.module(batch.inputs["x"]).log_softmax(-1)

    def losses(self, batch: Batch) -> Tensor:
        return -self.scores(batch).gather(1, batch.target[:, None]).squeeze(1)


@pytest.fixture
def backbone() -> Backbone:
    return cast("Backbone", LinearSoftmax())


@pytest.fixture
def task() -> Task:
    generator = torch.Generator().manual_seed(1)
    examples = [
        Example(f"e{i:03d}", str(i % CLASSES), " ".join(f"{v:.4f}" for v in torch.randn(WIDTH, generator=generator)))
        for i in range(64)
    ]
    return Task("linear", {"train": examples}, answers=("0", "1", "2"))


def closed_form(backbone: Backbone, task: Task, down: Tensor, scale: float) -> Tensor:
    """Return E_x Σ_y p(y|x) (s (1_y − p) ⊗ A x)²: the exact expectation over labels, for B at B = 0."""
    batch = backbone.prepare(task.splits["train"], task)
    p = backbone.scores(batch).exp()
    low = batch.inputs["x"] @ down.T
    total = torch.zeros(CLASSES, RANK)
    for label in range(CLASSES):
        residual = nn.functional.one_hot(torch.tensor(label), CLASSES) - p
        total += (p[:, label, None, None] * (scale * residual[:, :, None] * low[:, None, :]).square()).mean(0)
    return total


def at_zero(backbone: Backbone, task: Task, labels: Labels, seed: int, chunk: int, down: Tensor) -> Tensor:
    method = KINDS.get("lora")
    with attached(backbone, method, make_settings(method, backbone, r=RANK, lora_alpha=4)) as place:
        tensors = {"head.lora_A.weight": down, "head.lora_B.weight": torch.zeros(CLASSES, RANK)}
        wanted = ["head.lora_B.weight"]
        return fisher_at(place, tensors, wanted, task, task.splits["train"], labels=labels, seed=seed, chunk=chunk)[
            wanted[0]
        ]


def test_empirical_fisher_is_the_closed_form(backbone: Backbone, task: Task) -> None:
    down = torch.randn(RANK, WIDTH, generator=torch.Generator().manual_seed(2))
    batch = backbone.prepare(task.splits["train"], task)
    residual = nn.functional.one_hot(batch.target, CLASSES) - backbone.scores(batch).exp()
    low = batch.inputs["x"] @ down.T
    expected = (2.0 * residual[:, :, None] * low[:, None, :]).square().mean(0)
    torch.testing.assert_close(at_zero(backbone, task, "empirical", 0, 7, down), expected, rtol=1e-5, atol=1e-7)


def test_sampled_fisher_approaches_the_expectation_over_labels(backbone: Backbone, task: Task) -> None:
    down = torch.randn(RANK, WIDTH, generator=torch.Generator().manual_seed(2))
    drawn = torch.stack([at_zero(backbone, task, "sampled", seed, 64, down) for seed in range(300)])
    expected = closed_form(backbone, task, down, 2.0)
    error = (drawn.mean(0) - expected).abs() / (drawn.std(0) / 300**0.5)
    assert float(error.max()) < 4.5  # standard errors, over 6 numbers


@pytest.mark.parametrize("labels", ["sampled", "empirical"])
def test_does_not_depend_on_the_batch_size(backbone: Backbone, task: Task, labels: Labels) -> None:
    down = torch.randn(RANK, WIDTH, generator=torch.Generator().manual_seed(2))
    one, seven, all_ = (at_zero(backbone, task, labels, 3, chunk, down) for chunk in (1, 7, 64))
    torch.testing.assert_close(one, seven, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(one, all_, rtol=1e-5, atol=1e-8)


def test_padding_of_other_examples_does_not_matter(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["place"]
    examples = task.examples("train")[:20]
    one, seven, many = (probe_fisher(tiny_backbone, task, examples, chunk=chunk) for chunk in (1, 7, 64))
    for name in one:
        torch.testing.assert_close(one[name], seven[name], rtol=1e-3, atol=1e-9)
        torch.testing.assert_close(one[name], many[name], rtol=1e-3, atol=1e-9)


def test_per_example_gradients_are_those_of_a_loop(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["taste"]
    data = draw_of(task, 12, validate=False)
    expert, _ = fit_expert(tiny_backbone, data, settings=TrainingSettings(steps=5, learning_rate=1e-2))
    found = expert_fisher(tiny_backbone, task, expert, data.train, labels="empirical", chunk=5)
    method = KINDS.get("lora")
    expected = {name: torch.zeros_like(value) for name, value in expert.tensors.items()}
    with attached(tiny_backbone, method, expert.settings) as place:
        for example in data.train:
            leaves = {name: value.clone().requires_grad_() for name, value in expert.tensors.items()}
            place.losses(leaves, tiny_backbone.prepare([example], task)).sum().backward()
            for name, leaf in leaves.items():
                expected[name] += leaf.grad.square() / len(data.train)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-10)


def test_a_backbone_that_vmap_cannot_follow_is_taken_one_example_at_a_time(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_tasks["place"]
    examples = task.examples("train")[:9]
    expected = probe_fisher(tiny_backbone, task, examples)
    monkeypatch.setattr(tiny_backbone, "vectorises", False)
    found = probe_fisher(tiny_backbone, task, examples)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-9)


def test_a_value_that_is_not_finite_names_its_tensor(backbone: Backbone, task: Task) -> None:
    with pytest.raises(InputError, match=r"head\.lora_B\.weight"):
        at_zero(backbone, task, "empirical", 0, 8, torch.full((RANK, WIDTH), float("inf")))


def test_no_examples_is_bad_input(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    with pytest.raises(InputError, match="has no examples"):
        probe_fisher(tiny_backbone, tiny_tasks["taste"], [])


def relative(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    difference, whole = (
        torch.cat([one.double().flatten() for one in values])
        for values in ([found[name] - expected[name] for name in expected], expected.values())
    )
    return float(difference.norm() / whole.norm())


def choosing(tiny_tasks: dict[str, Task], answers: tuple[str, ...] | None = None) -> tuple[Task, list[Example]]:
    """Examples of one length that choose from answers of their own, in an order of their own."""
    generator = random.Random(0)
    names = ["good", "bad", "happy", "sad", "sea", "hill", "town", "red", "green", "blue"]
    examples = []
    for i, example in enumerate(tiny_tasks["place"].examples("train")[:24]):
        own = generator.sample(names, 2 + i % 4)
        words = " ".join((example.text or "").split()[:4]).ljust(40, ".")
        examples.append(Example(f"e{i:02}", generator.choice(own), words, candidates=tuple(own)))
    return Task("choosing", {"train": examples}, answers=answers and tuple(names)), examples


@pytest.mark.parametrize("answers", [None, ("listed",)])
def test_answers_that_differ_by_example_are_drawn_alike_whatever_the_batch(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], answers: tuple[str, ...] | None
) -> None:
    task, examples = choosing(tiny_tasks, answers)
    expected = probe_fisher(tiny_backbone, task, examples, seed=1, chunk=1)
    shuffled = random.Random(1).sample(examples, len(examples))
    for chunk, some in ((5, examples), (24, examples), (7, shuffled)):
        found = probe_fisher(tiny_backbone, task, some, seed=1, chunk=chunk)
        assert relative(found, expected) < 1e-6
    assert relative(probe_fisher(tiny_backbone, task, examples, seed=2), expected) > 1e-2


def test_only_an_examples_own_answers_are_drawn() -> None:
    scores = torch.tensor([0.1, 0.2, 0.0, 0.7]).log()
    own = torch.tensor([3, 1, 0, -1])
    drawn = [int(_drawn(scores, torch.tensor(u, dtype=torch.float64), own)) for u in (0.0, 0.69, 0.8, 0.95, 0.99999999)]
    assert drawn == [3, 3, 1, 0, 0]
    assert int(_drawn(torch.tensor([0.5, 0.499, 0.0]).log(), torch.tensor(0.9999), torch.tensor([0, 1]))) == 1
