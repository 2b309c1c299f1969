"""Adapters that PEFT alone made, on the tiny families, as strangers publish them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.contracts.families import Tiny, build
from torch import Tensor

from pitune.experts import KINDS, Expert, attached

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def stranger(folder: Path, family: str = "bert", **settings: Any) -> Tensor:
    """Save a LoRA of random values that PEFT alone made, and return its scores."""
    backbone = build(family)
    given = {"r": 4, "lora_alpha": 6, "target_modules": ["query", "value"], "init_lora_weights": False, **settings}
    model = get_peft_model(backbone.module, LoraConfig(**given)).eval()
    return spread(folder, backbone, model, family, lora_only=given.get("bias") == "lora_only")


def stranger_of_kind(folder: Path, config: PeftConfig, family: str = "bert", std: float = 0.05) -> Tensor:
    """Save an adapter of any kind, its values moved at random, and return its scores."""
    backbone = build(family)
    torch.manual_seed(1)
    model = get_peft_model(backbone.module, config).eval()
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn_like(parameter) * std
    return spread(folder, backbone, model, family, moved=True)


def spread(
    folder: Path, backbone: Tiny, model: Any, family: str, *, lora_only: bool = False, moved: bool = False
) -> Tensor:
    torch.manual_seed(0)
    for name, parameter in () if moved else model.named_parameters():
        if "lora" in name or (lora_only and name.endswith("base_layer.bias")):
            parameter.data.normal_(std=0.3)
    model.save_pretrained(folder)
    alter(folder, base_model_name_or_path=family)
    with torch.no_grad():
        return backbone.scores(backbone.batch)


def alter(folder: Path, **fields: object) -> None:
    """Write other values into an adapter's configuration."""
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def rename(folder: Path, change: Any) -> None:
    """Write an adapter's tensors under other names."""
    tensors = load_file(folder / WEIGHTS)
    save_file({change(name): value for name, value in tensors.items()}, folder / WEIGHTS)


def scores_of(backbone: Tiny, expert: Expert) -> Tensor:
    """Return a backbone's scores with an expert attached."""
    kind = KINDS.get(expert.method)
    with torch.no_grad(), attached(backbone, kind, expert.settings) as place:
        return place.scores(expert.tensors, backbone.batch)
