"""What is known of a pool without reading it: never more than its files say, and copies are known for what they are."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pitune.experts import Card, Expert, ExpertPool, PoolIndex, load_expert
from pitune.experts import pool as pool_module
from pitune.experts.expert import expert_of
from pitune.files import home

SITES = ["layer.0.query", "layer.1.query"]


def lora(name: str, seed: int, scale: float = 1.0, rank: int = 2) -> Expert:
    random = torch.Generator().manual_seed(seed)
    tensors = {}
    for site in SITES:
        tensors[f"{site}.lora_A.weight"] = torch.randn(rank, 12, generator=random)
        tensors[f"{site}.lora_B.weight"] = scale * torch.randn(16, rank, generator=random)
    config = {"r": rank, "lora_alpha": rank, "target_modules": SITES}
    made = expert_of("lora", config, tensors, Card(name=name, backbone="b", base_model="base", task=name))
    return replace(made, fisher={f"probe.{key}": value.square() for key, value in tensors.items()})


@pytest.fixture
def pool(tmp_path: Path) -> ExpertPool:
    made = ExpertPool(tmp_path / "pool")
    for number, name in enumerate(("one", "two", "three")):
        made.add(lora(name, number))
    return made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The experts that are read from here on."""
    names: list[str] = []

    def load(folder: Path) -> Expert:
        names.append(folder.name)
        return load_expert(folder)

    monkeypatch.setattr(pool_module, "load_expert", load)
    return names


def test_only_what_is_new_or_has_changed_is_read(pool: ExpertPool, loads: list[str]) -> None:
    first = PoolIndex(pool).entries
    assert loads == ["one", "three", "two"]
    again = PoolIndex(pool).entries
    assert len(loads) == 3
    assert {name: entry.digest for name, entry in again.items()} == {name: e.digest for name, e in first.items()}
    for name, entry in again.items():
        np.testing.assert_array_equal(entry.projection, first[name].projection)
        np.testing.assert_array_equal(entry.sketches["probe"], first[name].sketches["probe"])
    pool.add(replace(lora("one", 9)), replace=True)
    pool.remove("two")
    changed = PoolIndex(pool).entries
    assert loads[3:] == ["one"]
    assert list(changed) == ["one", "three"]
    assert changed["one"].digest != first["one"].digest


def test_a_file_that_was_altered_without_a_trace_in_its_size_and_time_is_seen(pool: ExpertPool) -> None:
    assert PoolIndex(pool).entries["one"].problem is None
    path = pool.path("one") / "adapter_model.safetensors"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert "altered" in str(PoolIndex(pool).entries["one"].problem)


@pytest.mark.parametrize("damage", [b"", b"no base of data", None])
def test_an_index_that_is_damaged_or_cannot_be_kept_is_made_anew(pool: ExpertPool, damage: bytes | None) -> None:
    if damage is None:
        home().mkdir()
        (home() / "pools").write_text("a file where the folder should be")
    else:
        PoolIndex(pool)
        next((home() / "pools").iterdir()).write_bytes(damage)
    assert [entry.task for entry in PoolIndex(pool).entries.values()] == ["one", "three", "two"]


def test_copies_are_known_whatever_their_factors(pool: ExpertPool) -> None:
    """A copy under another name, one in half precision, one of other factors, and twice the same that is no copy."""
    whole = lora("one", 0)
    turned = {key: value / 3 if ".lora_B." in key else value * 3 for key, value in whole.tensors.items()}
    wide = {
        key: torch.cat([value, torch.zeros_like(value)], 0 if ".lora_A." in key else 1)
        for key, value in whole.tensors.items()
    }
    halves = {key: value.bfloat16() for key, value in whole.tensors.items()}
    config = {"r": 4, "lora_alpha": 4, "target_modules": SITES}
    for name, tensors in {"a-copy": whole.tensors, "p-turned": turned, "q-half": halves}.items():
        pool.add(replace(whole, tensors=tensors, card=whole.card.model_copy(update={"name": name})))
    pool.add(expert_of("lora", config, wide, whole.card.model_copy(update={"name": "r-wide"})))
    pool.add(lora("s-twice", 0, scale=2.0))
    pool.add(lora("t-nothing", 5, scale=0.0))
    index = PoolIndex(pool)
    assert index.originals(list(index.entries)) == ["a-copy", "s-twice", "t-nothing", "three", "two"]
    assert index.originals(["q-half", "r-wide", "two"]) == ["q-half", "two"]
    assert not index.entries["t-nothing"].projection.any()
    assert (index.entries["one"].rank, index.entries["one"].scale) == (2, 1.0)
