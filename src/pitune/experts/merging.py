"""Put an expert that is linear in the base weights into them: a plain model, with nothing to attach."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts._expert import Expert
from pitune.experts._method import read_config
from pitune.experts._registry import get_method
from pitune.experts.bitfit import BITFIT
from pitune.experts.ia3 import IA3
from pitune.experts.layernorm import LAYERNORM
from pitune.experts.lora import DOWN, LORA, bias_change, delta


@torch.no_grad()
def merge_into(backbone: Backbone, expert: Expert) -> nn.Module:
    """Return a copy of the backbone's module with a LoRA, (IA)³, bias or norm expert in its weights.

    The backbone stays as it is. Raise `InputError` for kinds that no change of weights can express.
    """
    if expert.card.backbone != backbone.fingerprint:
        raise InputError(f"expert {expert.name!r} belongs to another backbone ({expert.card.base_model})")
    if expert.method not in _MERGES:
        raise InputError(f"experts of kind {expert.method!r} cannot merge; expected one of: {', '.join(_MERGES)}")
    method = get_method(expert.method)
    config = read_config(method, expert.config, f"expert {expert.name!r}")
    module = copy.deepcopy(backbone.module)
    for site in dict.fromkeys(method.site(name) for name in expert.tensors):
        _MERGES[expert.method](module.get_submodule(site), config, expert, site)
    return module


def save_merged(module: nn.Module, folder: Path) -> None:
    """Write a merged model as transformers would, so that `from_pretrained` loads it; whole or not at all."""
    if not isinstance(module, PreTrainedModel):
        raise InputError(f"a {type(module).__name__} is no model of transformers; use merge_into from Python instead")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        module.save_pretrained(beside)
        beside.chmod(0o755)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _change(layer: nn.Module, name: str, change: Tensor) -> None:
    value = layer.get_parameter(name)
    value.copy_((value.float() + change.to(value.device).float()).to(value.dtype))


def _lora(layer: nn.Module, config: Any, expert: Expert, site: str) -> None:
    _change(layer, "weight", delta(config, expert.tensors, site))
    if config.lora_bias and f"{site}{DOWN}" in expert.tensors:
        if getattr(layer, "bias", None) is None:
            raise InputError(f"{site!r} has no bias for the expert's to merge into")
        _change(layer, "bias", bias_change(config, expert.tensors, site))


def _ia3(layer: nn.Module, config: Any, expert: Expert, site: str) -> None:
    factor = expert.tensors[f"{site}.ia3_l"]  # (out, 1), or (1, in) of a feed-forward module
    weight = layer.get_parameter("weight")
    _change(layer, "weight", weight.float() * (factor.to(weight.device) - 1))
    if factor.shape[1] == 1 and getattr(layer, "bias", None) is not None:
        bias = layer.get_parameter("bias")
        _change(layer, "bias", bias.float() * (factor.to(bias.device)[:, 0] - 1))


def _bitfit(layer: nn.Module, config: Any, expert: Expert, site: str) -> None:
    _change(layer, "bias", expert.tensors[f"{site}.bitfit.bias"])


def _layernorm(layer: nn.Module, config: Any, expert: Expert, site: str) -> None:
    for kind in ("weight", "bias"):
        if f"{site}.layernorm.{kind}" in expert.tensors:
            _change(layer, kind, expert.tensors[f"{site}.layernorm.{kind}"])


_MERGES = {LORA.name: _lora, IA3.name: _ia3, BITFIT.name: _bitfit, LAYERNORM.name: _layernorm}
