"""Task similarity: the paper's formula, in log space."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pitune.errors import InputError
from pitune.prediction import build_graph, fisher_similarities, fisher_similarity

values = st.lists(st.floats(1e-6, 1e3), min_size=4, max_size=4)


@given(values, values)
def test_is_the_papers_formula(first: list[float], second: list[float]) -> None:
    f, g = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    a, b = f / (f + g), g / (f + g)
    expected = float(a @ b / (a.norm() * b.norm()))
    assert fisher_similarity({"w": f}, {"w": g}) == pytest.approx(expected, rel=1e-9)


@given(values, values)
def test_is_symmetric_and_at_most_one(first: list[float], second: list[float]) -> None:
    f, g = {"w": torch.tensor(first)}, {"w": torch.tensor(second)}
    assert fisher_similarity(f, g) == pytest.approx(fisher_similarity(g, f))
    assert 0 <= fisher_similarity(f, g) <= 1 + 1e-9
    assert fisher_similarity(f, f) == pytest.approx(1)


def test_tiny_and_huge_values_are_safe() -> None:
    tiny, huge = torch.full((3,), 1e-44), torch.full((3,), 3e38)
    assert fisher_similarity({"w": tiny}, {"w": tiny}) == pytest.approx(1)
    assert fisher_similarity({"w": huge}, {"w": huge}) == pytest.approx(1)
    assert 0 <= fisher_similarity({"w": torch.cat([tiny, huge])}, {"w": torch.cat([huge, tiny])}) < 1e-12


@pytest.mark.parametrize("factor", [1e-12, 1e-5, 1.0, 1e3, 1e6, 1e12])
def test_one_that_is_far_larger_loses_no_digits(factor: float) -> None:
    f, g = torch.rand(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.1
    a, b = f * factor / (f * factor + g), g / (f * factor + g)
    expected = float(a @ b / (a.norm() * b.norm()))
    assert fisher_similarity({"w": f * factor}, {"w": g}) == pytest.approx(expected, rel=1e-9)


def test_averages_over_tensors_and_leaves_out_what_is_zero_in_both() -> None:
    f = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([1.0, 2.0]), "zero": torch.zeros(2)}
    g = {"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([2.0, 1.0]), "zero": torch.zeros(2)}
    b = 2 * (1 / 3) * (2 / 3) / ((1 / 3) ** 2 + (2 / 3) ** 2)
    assert fisher_similarity(f, g) == pytest.approx((1 + b) / 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_values_that_cannot_be_name_their_tensor(bad: float) -> None:
    with pytest.raises(InputError, match="'w'"):
        fisher_similarity({"w": torch.tensor([1.0, bad])}, {"w": torch.ones(2)})


def test_embeddings_of_different_kinds_are_refused() -> None:
    with pytest.raises(InputError, match="'v'"):
        fisher_similarity({"v": torch.ones(2)}, {"w": torch.ones(2)})
    with pytest.raises(InputError, match="shape"):
        fisher_similarity({"w": torch.ones(2)}, {"w": torch.ones(3)})
    with pytest.raises(InputError, match="zero everywhere"):
        fisher_similarity({"w": torch.zeros(2)}, {"w": torch.zeros(2)})


def test_graph_and_neighbours_agree() -> None:
    embeddings = {
        name: {"w": torch.tensor(v)} for name, v in {"a": [1.0, 2.0], "b": [1.1, 2.0], "c": [9.0, 0.1]}.items()
    }
    graph = build_graph(embeddings)
    assert graph.nearest("a", 1)[0][0] == "b"
    assert graph.networkx().number_of_edges() == 3
    with pytest.raises(InputError, match="at least 2"):
        build_graph({"a": embeddings["a"]})


def test_all_pairs_at_once_are_the_pairs_one_by_one() -> None:
    """Over twelve decades, with zeros in one, in both, and in a whole tensor of some."""
    generator = torch.Generator().manual_seed(0)
    embeddings = []
    for i in range(70):  # more than one block
        values = 10 ** (torch.rand(40, generator=generator) * 12 - 14 + i % 3)
        values[torch.rand(40, generator=generator) < 0.1] = 0.0
        other = torch.zeros(5) if i % 4 == 0 else torch.rand(5, generator=generator)
        embeddings.append({"w": values.reshape(8, 5), "v": other})
    found = fisher_similarities(embeddings)
    assert (found == found.T).all()
    assert (found.diagonal() == 1).all()
    for i in range(70):
        for j in range(i):
            assert found[i, j] == pytest.approx(fisher_similarity(embeddings[i], embeddings[j]), abs=1e-5)


def test_all_pairs_are_refused_as_each_is() -> None:
    good = {"w": torch.ones(3)}
    for bad, message in (
        ({"v": torch.ones(3)}, "differ in kind"),
        ({"w": torch.ones(4)}, "differ in shape"),
        ({"w": torch.tensor([1.0, -1.0, 0.0])}, "negative or not finite"),
    ):
        with pytest.raises(InputError, match=message):
            fisher_similarities([good, bad])
    with pytest.raises(InputError, match="zero everywhere"):
        fisher_similarities([{"w": torch.zeros(3)}, {"w": torch.zeros(3)}])
