"""The nearest of many: what sketches leave is compared whole, and what cannot be compared is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.experts.test_index import lora

from pitune.errors import InputError
from pitune.experts import ExpertPool, PoolIndex, load_fisher, load_fishers
from pitune.prediction import fisher_similarity, nearest
from pitune.prediction import retrieval as retrieval_module


@pytest.mark.parametrize("sketched", [512, 40])
def test_the_nearest_of_many_are_those_of_whole_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sketched: int
) -> None:
    """Of a pool whose sketches are all compared, and of one that is larger than that."""
    random = torch.Generator().manual_seed(0)
    task = {f"t{i}": torch.randn(20, 30, generator=random) for i in range(3)}
    pool = ExpertPool(tmp_path / "pool")
    for i in range(50):  # ever further from the task
        away = {
            f"probe.{n}": (v + 0.05 * (1 + i) * torch.randn(v.shape, generator=random)).exp() for n, v in task.items()
        }
        pool.add(replace(lora(f"e{49 - i:02}", i), fisher=away))
    wanted = {name: value.exp() for name, value in task.items()}
    exact = {name: fisher_similarity(wanted, _probe(pool, name)) for name in pool.names()}
    read: list[Path] = []
    load = load_fishers
    monkeypatch.setattr(retrieval_module, "load_fishers", lambda paths, by: read.extend(paths) or load(paths, by))
    monkeypatch.setattr(retrieval_module, "_SKETCHED", sketched)
    found = nearest(PoolIndex(pool), wanted, pool.names(), 5)
    assert [name for name, _ in found] == sorted(exact, key=exact.__getitem__, reverse=True)[:5]
    assert dict(found) == pytest.approx({name: exact[name] for name, _ in found})
    assert len(read) == 32


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    pool = ExpertPool(tmp_path / "pool")
    pool.add(replace(lora("bare", 0), fisher=None))
    pool.add(replace(lora("other", 1), fisher={"probe.other": torch.ones(3)}))
    index = PoolIndex(pool)
    with pytest.raises(InputError, match="'bare' carries no probe embedding"):
        nearest(index, {"t": torch.ones(3)}, ["bare"], 1)
    with pytest.raises(InputError, match="differ in kind"):
        nearest(index, {"t": torch.ones(3)}, ["other"], 1)


def _probe(pool: ExpertPool, name: str) -> dict[str, torch.Tensor]:
    return {tensor.removeprefix("probe."): value for tensor, value in load_fisher(pool.path(name)).items()}
