"""Transferability scores, each against what can be computed of it in another way."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from pitune.errors import InputError
from pitune.prediction import (
    feature_similarity,
    fisher_similarity,
    h_score,
    label_similarity,
    leep,
    logme,
    task2vec_distance,
)


def problem(n: int, d: int, classes: int, apart: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return features whose classes lie `apart`, and labels."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return draw.normal(size=(n, d)) + apart * draw.normal(size=(classes, d))[labels], labels


def rotation(d: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(9).normal(size=(d, d)))[0]


def grid_evidence(features: np.ndarray, target: np.ndarray) -> float:
    """Return the largest log N(y; 0, I/β + F Fᵀ/α) on a grid of log α and log β, which is finer about its best."""
    gram, one = features @ features.T, np.eye(len(target))
    found, middle = {}, (2.0, 3.0)
    for width in (5.0, 0.6):
        axes = (np.linspace(at - width, at + width, 21) for at in middle)
        for a, b in product(*axes):
            found[a, b] = float(multivariate_normal.logpdf(target, cov=one / np.exp(b) + gram / np.exp(a)))
        middle = max(found, key=found.__getitem__)
    return found[middle]


@pytest.mark.parametrize(("n", "d"), [(12, 3), (8, 20)])
def test_logme_is_the_highest_evidence_of_a_grid(n: int, d: int) -> None:
    features, labels = problem(n, d, 2, 0.4)
    expected = np.mean([grid_evidence(features, (labels == k).astype(float)) for k in (0, 1)]) / n
    found = logme(features, labels)
    assert expected <= found + 1e-9
    assert found == pytest.approx(expected, abs=2e-3)


def test_logme_does_not_see_rotations_scale_or_the_names_of_classes() -> None:
    features, labels = problem(30, 6, 3, 0.7)
    expected = logme(features, labels)
    assert logme(7.0 * features @ rotation(6), labels) == pytest.approx(expected, abs=1e-5)
    assert logme(features, (labels * 5 + 2) % 13) == pytest.approx(expected)


@pytest.mark.parametrize("score", [logme, h_score], ids=["logme", "h-score"])
def test_classes_further_apart_score_higher(score: Callable[..., float]) -> None:
    scores = [score(*problem(40, 60, 4, apart)) for apart in (0.0, 0.5, 1.0, 3.0)]
    assert scores == sorted(scores)
    assert scores[0] < scores[-1]


def test_leep_of_a_joint_computed_by_hand() -> None:
    theta = [[0.8, 0.2], [0.6, 0.4], [0.1, 0.9]]
    labels = [0, 0, 1]
    # P̂(y, z): (1.4, 0.6)/3 and (0.1, 0.9)/3; P̂(y | z): (14/15, 0.6/1.5) and (1/15, 0.9/1.5)
    seen = [0.8 * 14 / 15 + 0.2 * 0.4, 0.6 * 14 / 15 + 0.4 * 0.4, 0.1 / 15 + 0.9 * 0.6]
    assert leep(theta, labels) == pytest.approx(sum(map(math.log, seen)) / 3)


def test_leep_is_0_for_a_source_that_names_the_classes_and_minus_the_entropy_for_one_that_says_nothing() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    assert leep(np.eye(4)[labels], labels) == pytest.approx(0, abs=1e-12)
    share = np.bincount(labels) / len(labels)
    assert leep(np.full((6, 4), 0.25), labels) == pytest.approx(float((share * np.log(share)).sum()))


def test_leep_refuses_what_is_no_distribution() -> None:
    with pytest.raises(InputError, match="sum to 1"):
        leep([[0.5, 0.4], [0.5, 0.5]], [0, 1])


def test_h_score_is_the_between_part_of_whitened_features() -> None:
    features, labels = problem(200, 5, 3, 0.6)
    centred = features - features.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    white = centred @ vectors / np.sqrt(values)
    expected = sum((labels == k).mean() * (white[labels == k].mean(0) ** 2).sum() for k in range(3))
    assert h_score(features, labels, shrunk=False) == pytest.approx(expected)
    mixed = features @ np.random.default_rng(3).normal(size=(5, 5)) + 4.0  # any invertible map, and a shift
    assert h_score(mixed, labels, shrunk=False) == pytest.approx(expected)
    assert h_score(np.eye(3)[labels] @ rotation(3)[:, :2], labels, shrunk=False) == pytest.approx(2)  # its most here


def test_shrinking_matters_with_few_examples_and_hardly_with_many() -> None:
    many = problem(20_000, 5, 3, 0.6)
    assert h_score(*many) == pytest.approx(h_score(*many, shrunk=False), rel=1e-2)
    few = problem(8, 20, 2, 0.6)
    assert 0 < h_score(*few) < 1
    with pytest.raises(InputError, match="singular"):
        h_score(*few, shrunk=False)


@pytest.mark.parametrize("score", [logme, leep, h_score], ids=["logme", "leep", "h-score"])
def test_labels_that_tell_nothing_are_refused(score: Callable[..., float]) -> None:
    with pytest.raises(InputError, match="1 class"):
        score(np.full((4, 2), 0.5), [1, 1, 1, 1])
    with pytest.raises(InputError, match=r"\(4, 2\) with labels \(3,\)"):
        score(np.full((4, 2), 0.5), [0, 1, 0])


positive = st.lists(st.floats(1e-6, 1e3), min_size=6, max_size=6)


@given(positive, positive)
@settings(max_examples=50)
def test_task2vec_is_a_symmetric_distance_that_does_not_see_how_tensors_are_divided(
    first: list[float], second: list[float]
) -> None:
    f, g = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    expected = 1 - float(torch.nn.functional.cosine_similarity(f / (f + g), g / (f + g), dim=0))
    found = task2vec_distance({"a": f[:2].view(1, 2), "b": f[2:]}, {"b": g[2:], "a": g[:2].view(1, 2)})
    assert found == pytest.approx(expected, abs=1e-9)
    assert task2vec_distance({"w": g}, {"w": f}) == pytest.approx(found)
    assert task2vec_distance({"w": f}, {"w": f}) == pytest.approx(0, abs=1e-9)


def test_task2vec_weighs_tensors_by_size_where_the_papers_similarity_does_not() -> None:
    f = {"small": torch.ones(1), "large": torch.ones(99)}
    g = {"small": torch.ones(1), "large": torch.tensor([1.0, 3.0, 9.0] * 33)}
    assert 1 - task2vec_distance(f, g) < fisher_similarity(f, g)
    with pytest.raises(InputError, match="'small'"):
        task2vec_distance(f, {"large": g["large"]})


def test_feature_similarity_is_the_cosine_of_means() -> None:
    first, second = torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0]])
    assert feature_similarity(first, second) == pytest.approx(0.5**0.5)
    assert feature_similarity(second, 9 * first) == pytest.approx(0.5**0.5)
    with pytest.raises(InputError, match="not empty"):
        feature_similarity(first, torch.ones(0, 2))


def test_label_similarity_takes_the_best_name_on_both_sides() -> None:
    first, second = torch.eye(3), torch.tensor([[5.0, 0.0, 0.0]])
    assert label_similarity(first, second) == pytest.approx((1 / 3 + 1) / 2)
    assert label_similarity(second, first) == pytest.approx((1 / 3 + 1) / 2)
    assert label_similarity(first, 2 * first.flip(0)) == pytest.approx(1)
    with pytest.raises(InputError, match=r"\(3, 3\) and \(3, 2\)"):
        label_similarity(first, first[:, :2])
