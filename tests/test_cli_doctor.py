"""`pitune doctor`: what is installed, and whether an expert, a pool or a task is what it says."""

from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import Command

import pitune
from pitune import cli
from pitune.experts import KINDS as REGISTERED
from pitune.experts import Expert, ExpertPool, attached, examine, initial_tensors, make_settings
from pitune.experts.card import Card
from pitune.pocket.backbone import Pocket


def expert_of(backbone: Pocket, name: str, method: str = "lora", change: float = 0.1, **settings: Any) -> Expert:
    """An expert that is so far from where training starts, at every site."""
    kind = REGISTERED.get(method)
    chosen = make_settings(kind, backbone, **settings)
    with attached(backbone, kind, chosen) as place:
        tensors = initial_tensors(kind, place.shapes, 0, chosen)
    moved = {key: value + change * torch.ones_like(value) for key, value in tensors.items()}
    return Expert(kind, chosen, moved, Card(name=name, backbone=backbone.fingerprint, base_model="pocket"))


def test_versions_device_cache_and_extras(command: Command, pitune_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true = importlib.metadata.version

    def version(name: str) -> str:
        if name == "gguf":
            raise importlib.metadata.PackageNotFoundError(name)
        return true(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    pitune_home.mkdir()
    (pitune_home / "kept").write_bytes(b"x" * 1000)
    told = command("doctor", "--device", "cpu")
    assert told["versions"]["pitune"] == pitune.__version__
    assert told["versions"]["torch"] == true("torch")
    assert told["device"].startswith("cpu, ")
    assert (told["cache"]["folder"], told["cache"]["bytes"]) == (str(pitune_home), 1000)
    extras = {one["name"]: one for one in told["extras"]}
    assert extras["gguf"] == {"name": "gguf", "missing": ["gguf"], "command": 'pip install "pitune[gguf]"'}
    assert extras["metrics"]["missing"] == []
    assert "dev" not in extras
    assert {"lora", "adapter"} <= set(told["registered"]["method"])
    assert told["problems"] == []


def test_an_expert_and_a_pool(
    command: Command, pocket_is_tiny: Pocket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = ExpertPool(tmp_path / "pool")
    for method in ("lora", "adapter", "layernorm"):
        pool.add(expert_of(pocket_is_tiny, method, method))
    told = command("doctor", pool.folder)
    assert [(one["name"], one["idle"]) for one in told["experts"]] == [("adapter", []), ("layernorm", []), ("lora", [])]
    assert all(one["change"] > 0 for one in told["experts"])
    assert told["problems"] == []
    pool.add(expert_of(pocket_is_tiny, "still", change=0.0))
    assert "'still' changes nothing at any of its" in command("doctor", pool.path("still"), fails=True)
    other = expert_of(pocket_is_tiny, "other")
    pool.add(replace(other, card=other.card.model_copy(update={"backbone": "0" * 64})))
    weights = pool.path("lora") / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert cli.main(["doctor", str(pool.folder)]) == 2
    printed = capsys.readouterr()
    for said in ("altered or cut short", "'still' changes nothing", "belongs to weights of fingerprint 000000"):
        assert said in printed.out
    assert "(and 2 more)" in printed.err


def test_a_change_is_measured_and_idle_sites_are_named(tiny_backbone: Pocket) -> None:
    expert = expert_of(tiny_backbone, "it", r=2, lora_alpha=2)
    sites = expert.sites
    expert.tensors[f"{sites[0]}.lora_B.weight"].zero_()
    seen = examine(expert, tiny_backbone)
    assert (seen.sites, seen.idle) == (len(sites), sites[:1])
    changes = [expert.tensors[f"{site}.lora_B.weight"] @ expert.tensors[f"{site}.lora_A.weight"] for site in sites]
    weights = [tiny_backbone.module.get_submodule(site).get_parameter("weight") for site in sites]
    norm = torch.stack([one.square().sum() for one in changes]).sum().sqrt()
    whole = torch.stack([one.square().sum() for one in weights]).sum().sqrt()
    assert seen.change == pytest.approx(float(norm / whole), rel=1e-3)


def test_a_task(command: Command, tiny_task_paths: dict[str, Path]) -> None:
    assert command("doctor", tiny_task_paths["taste"])["sound"]
    assert "nowhere" in command("doctor", "nowhere", fails=True)
