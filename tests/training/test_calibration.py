"""Runs stop and experts are chosen by a loss that does not mind how sure of itself a model is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pitune.training import Evaluation

Drawn = tuple[Tensor, Tensor]


def evaluation(scores: Tensor, target: Tensor, relevant: Tensor | None = None) -> Evaluation:
    scores = scores.log_softmax(-1)
    losses = -scores.gather(1, target[:, None]).squeeze(1)
    return Evaluation("accuracy", 0.0, tuple(map(str, range(len(target)))), scores, target, losses, relevant)


@pytest.fixture
def drawn() -> Drawn:
    """Scores (40, 5) that are right now and then, as labels are drawn from them."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 5, generator=generator) * 2
    return scores, torch.multinomial(scores.softmax(-1), 1, generator=generator).squeeze(1)


@pytest.mark.parametrize("factor", [0.5, 2.0, 4.0])
def test_scores_times_a_factor_lose_hardly_more_where_examples_are_many(drawn: Drawn, factor: float) -> None:
    scores, target = (part.repeat(50, 1) if part.ndim > 1 else part.repeat(50) for part in drawn)
    plain, sure = evaluation(scores, target), evaluation(scores * factor, target)
    assert abs(sure.loss - plain.loss) > 0.01
    torch.testing.assert_close(sure.calibrated.mean(), plain.calibrated.mean(), atol=2e-3, rtol=0)


def test_it_is_the_loss_at_the_most_probable_temperature(drawn: Drawn) -> None:
    scores, target = drawn
    found = evaluation(scores * 5, target)

    def posterior(octave: float) -> float:
        return -float(evaluation(scores * 5 / 2**octave, target).losses.sum()) - min(octave, 0.0) ** 2

    octaves = torch.linspace(-2, 3, 2000).tolist()
    best = max(octaves, key=posterior)
    expected = evaluation(scores * 5 / 2**best, target).losses.mean()
    torch.testing.assert_close(found.calibrated.mean(), expected, atol=2e-2, rtol=0)
    assert float(found.calibrated.mean()) < found.loss


def test_a_few_examples_that_are_right_do_not_make_themselves_certain() -> None:
    """At a free temperature four right answers of small margin would lose next to nothing."""
    scores = torch.tensor([[0.2, 0.0]]).repeat(4, 1)
    found = evaluation(scores, torch.zeros(4, dtype=torch.long))
    coldest = evaluation(scores * 4, torch.zeros(4, dtype=torch.long))
    assert found.loss > float(found.calibrated.mean()) > coldest.loss + 0.05


def test_answers_an_example_may_not_choose_stay_out(drawn: Drawn) -> None:
    scores, target = drawn
    scores = scores.scatter(1, ((target + 1) % 5)[:, None], float("-inf"))
    found = evaluation(scores, target).calibrated
    assert torch.isfinite(found).all()


def test_one_scored_answer_keeps_its_plain_loss() -> None:
    losses = torch.tensor([0.5, 2.0])
    found = Evaluation("exact-match", 0.0, ("a", "b"), -losses[:, None], torch.zeros(2, dtype=torch.long), losses)
    assert torch.equal(found.calibrated, losses)


def test_several_right_answers_share_the_loss(drawn: Drawn) -> None:
    scores, target = drawn
    relevant = torch.nn.functional.one_hot(target, 5).bool() | (torch.arange(5) == 0)
    found = evaluation(scores * 3, target, relevant).calibrated
    cold = evaluation(scores * 3 / 3, target)
    expected = -(cold.scores.masked_fill(~relevant, 0.0).sum(1) / relevant.sum(1))
    assert found.mean() <= expected.mean() + 1e-6
