"""Bases whose linear layers are held in 8 or 4 bits train experts that load on them again, and merge into nothing.

They need bitsandbytes, which is no part of what tests install: it takes seconds of every start.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.backbones.conftest import task_for
from tests.conftest import draw_of
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from pitune import load_expert
from pitune.backbones import load_backbone
from pitune.errors import InputError
from pitune.experts import export_peft, merge_into
from pitune.training import TrainingSettings, evaluate_expert, fit_expert

pytest.importorskip("bitsandbytes")
SETTINGS = TrainingSettings(steps=12, batch_size=8, learning_rate=1e-2)


def size(module: nn.Module) -> int:
    """Return how many bytes a module's weights take."""
    return sum(value.numel() * value.element_size() for value in module.parameters())


def changes(one: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules of one build have different weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return not all(torch.equal(value, before) for value, before in pairs)


@pytest.fixture(scope="module")
def wide(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The language model with layers as wide as products of 4 bits need on a CPU."""
    folder = shutil.copytree(checkpoints["llama"], tmp_path_factory.mktemp("wide") / "llama")
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = AutoConfig.from_pretrained(folder, **sizes, head_dim=32)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("kind", "held"), [("llama", "int8"), ("t5", "int8"), ("clip", "int8"), ("wide", "nf4")])
def test_an_expert_learns_on_few_bits_and_loads_on_them_again(
    kind: str, held: str, checkpoints: dict[str, Path], wide: Path, data: dict[str, Path], tmp_path: Path
) -> None:
    folder, task = {**checkpoints, "wide": wide}[kind], task_for("llama" if kind == "wide" else kind, data)
    whole, few = (load_backbone(str(folder), "cpu", dtype) for dtype in ("bfloat16", held))
    assert size(few.module) < size(whole.module)
    draw = draw_of(task, 8, validate=False)
    expert, _ = fit_expert(few, draw, settings=SETTINGS)
    seen = evaluate_expert(few, task, expert, draw.train)
    assert seen.loss < evaluate_expert(few, task, None, draw.train).loss
    expert.save(tmp_path / "expert")
    again = load_expert(tmp_path / "expert")
    fresh = load_backbone(str(folder), "cpu", held)
    assert torch.equal(evaluate_expert(fresh, task, again, draw.train).scores, seen.scores)
    with pytest.raises(InputError, match=rf"another backbone .*fingerprint [0-9a-f]{{16}}:{held}\); expected"):
        evaluate_expert(whole, task, again, draw.train)
    with pytest.raises(InputError, match=r"is held in . bits; nothing can merge into it"):
        merge_into(few, expert)
    assert changes(merge_into(whole, again), whole.module)
    export_peft(again, tmp_path / "peft", whole)


def test_what_is_no_checkpoint_has_no_such_layers() -> None:
    with pytest.raises(InputError, match="pocket cannot be held in nf4; expected a checkpoint"):
        load_backbone("pocket", "cpu", "nf4")
    with pytest.raises(InputError, match=r"unknown number format 'int3'; expected one of: float32, .*int8, nf4"):
        load_backbone("pocket", "cpu", "int3")
