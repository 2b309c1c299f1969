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
from pitune.experts.expert import Expert
from pitune.experts.kind import Attached, Attachment, read_config
from pitune.experts.kinds.bitfit import BITFIT
from pitune.experts.kinds.ia3 import IA3
from pitune.experts.kinds.layernorm import LAYERNORM
from pitune.experts.kinds.lora import DOWN, LORA, bias_change, delta
from pitune.experts.registry import get_method

Changes = dict[str, Tensor]  # by name of a layer's parameter, in its shape


def merge_into(backbone: Backbone, expert: Expert) -> nn.Module:
    """Return a copy of the backbone's module with a LoRA, (IA)³, bias or norm expert in its weights.

    The backbone stays as it is. Raise `InputError` for kinds that no change of weights can express.
    """
    if expert.card.backbone != backbone.fingerprint:
        raise InputError(f"expert {expert.name!r} belongs to another backbone ({expert.card.base_model})")
    if expert.method not in _CHANGES:
        raise InputError(f"experts of kind {expert.method!r} cannot merge; expected one of: {', '.join(_CHANGES)}")
    module = copy.deepcopy(backbone.module)
    with torch.no_grad():
        for path, value in _changed(module, expert).items():
            module.get_parameter(path).copy_(value)
    return module


def merged(backbone: Backbone, expert: Expert) -> tuple[Attached, dict[str, Tensor]] | None:
    """Return the bare backbone, to be called with these of its own parameters, which hold the expert.

    So an expert costs nothing to run, whatever its rank. Modules that share a parameter with one of these keep the
    backbone's. None where the outputs would not be the same to float32's precision: kinds that no change of weights
    can express, and half formats.
    """
    if expert.method not in _CHANGES:
        return None
    try:
        found = _changed(backbone.module, expert)
    except InputError:  # a layer that has no place for the change
        return None
    if any(value.dtype != torch.float32 for value in found.values()):
        return None
    return Attached(backbone, Attachment({path: path for path in found}, lambda: None), tied=False), found


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


@torch.no_grad()
def _changed(module: nn.Module, expert: Expert) -> dict[str, Tensor]:
    """Return the parameters that an expert changes, by path, with the change in them."""
    method = get_method(expert.method)
    config = read_config(method, expert.config, f"expert {expert.name!r}")
    found = {}
    for site in dict.fromkeys(method.site(name) for name in expert.tensors):
        layer = module.get_submodule(site)
        for name, change in _CHANGES[expert.method](layer, config, expert, site).items():
            value = layer.get_parameter(name)
            found[f"{site}.{name}"] = (value.float() + change.to(value.device).float()).to(value.dtype)
    return found


def _lora(layer: nn.Module, config: Any, expert: Expert, site: str) -> Changes:
    if not isinstance(layer, nn.Linear):
        raise InputError(f"{site!r} is a {type(layer).__name__}; expected a linear layer for ΔW to merge into")
    changes = {"weight": delta(config, expert.tensors, site)}
    if config.lora_bias and f"{site}{DOWN}" in expert.tensors:
        if getattr(layer, "bias", None) is None:
            raise InputError(f"{site!r} has no bias for the expert's to merge into")
        changes["bias"] = bias_change(config, expert.tensors, site)
    return changes


def _ia3(layer: nn.Module, config: Any, expert: Expert, site: str) -> Changes:
    factor = expert.tensors[f"{site}.ia3_l"]  # (out, 1), or (1, in) of a feed-forward module
    weight = layer.get_parameter("weight")
    changes = {"weight": weight.float() * (factor.to(weight.device) - 1)}
    if factor.shape[1] == 1 and getattr(layer, "bias", None) is not None:
        bias = layer.get_parameter("bias")
        changes["bias"] = bias.float() * (factor.to(bias.device)[:, 0] - 1)
    return changes


def _bitfit(layer: nn.Module, config: Any, expert: Expert, site: str) -> Changes:
    return {"bias": expert.tensors[f"{site}.bitfit.bias"]}


def _layernorm(layer: nn.Module, config: Any, expert: Expert, site: str) -> Changes:
    kinds = [kind for kind in ("weight", "bias") if f"{site}.layernorm.{kind}" in expert.tensors]
    return {kind: expert.tensors[f"{site}.layernorm.{kind}"] for kind in kinds}


_CHANGES = {LORA.name: _lora, IA3.name: _ia3, BITFIT.name: _bitfit, LAYERNORM.name: _layernorm}
