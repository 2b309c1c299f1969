"""PEFT's own ways to mix LoRAs, for comparison: `add_weighted_adapter` on the same experts."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor

from pitune.backbones import Backbone
from pitune.experts import Expert
from pitune.experts.kinds.lora import peft_config
from pitune.experts.kinds.lora_update import DOWN, UP, LoraSettings
from pitune.interpolation import best_scale, equal_shares, mix
from pitune.studies.baselines.baseline import Baseline
from pitune.studies.trial import Trial

_DENSITY = 0.5
COMBINATIONS: Mapping[str, dict[str, object]] = {
    "linear": {},
    "cat": {},
    "svd": {},
    "ties": {"density": _DENSITY},
    "dare_ties": {"density": _DENSITY},
}


def settings_of(expert: Expert) -> LoraSettings:
    """Return a LoRA expert's settings."""
    assert isinstance(expert.settings, LoraSettings)
    return expert.settings


def with_peft(backbone: Backbone, experts: Sequence[Expert], weights: Sequence[float]) -> Callable[[str], Expert]:
    """Load the experts into PEFT and return what mixes them there, read back as an expert of ours."""
    names = [f"expert{i}" for i in range(len(experts))]
    module = copy.deepcopy(backbone.module)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # PEFT's, of names that transformers gives up
        model = get_peft_model(module, peft_config(settings_of(experts[0])), adapter_name=names[0])
    for name, expert in zip(names[1:], experts[1:], strict=True):
        model.add_adapter(name, peft_config(settings_of(expert)))
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}
    for name, expert in zip(names, experts, strict=True):
        for site, layer in layers.items():
            if f"{site}{DOWN}" in expert.tensors:
                layer.lora_A[name].weight.data.copy_(expert.tensors[f"{site}{DOWN}"])
                layer.lora_B[name].weight.data.copy_(expert.tensors[f"{site}{UP}"])

    def combine(kind: str) -> Expert:
        torch.manual_seed(0)  # DARE draws what it drops
        if "mixed" in model.peft_config:
            model.delete_adapter("mixed")
        model.add_weighted_adapter(names, list(weights), "mixed", combination_type=kind, **COMBINATIONS[kind])
        return _read_back(layers, experts[0])

    return combine


def _read_back(layers: Mapping[str, LoraLayer], like: Expert) -> Expert:
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for site, layer in layers.items():
        if "mixed" in layer.lora_A:
            tensors[f"{site}{DOWN}"] = layer.lora_A["mixed"].weight.detach().cpu().clone()
            tensors[f"{site}{UP}"] = layer.lora_B["mixed"].weight.detach().cpu().clone()
            ranks[site] = tensors[f"{site}{DOWN}"].shape[0]
            alphas[site] = layer.scaling["mixed"] * ranks[site]
    settings = LoraSettings(
        r=max(ranks.values()), target_modules=tuple(ranks), rank_pattern=ranks, alpha_pattern=alphas
    )
    return Expert(like.kind, settings, tensors, like.card)


def _mixed(kind: str, trial: Trial) -> Expert:
    """Return the neighbours mixed in PEFT, at the scale of its result that serves the labels best."""
    near = trial.near()
    mixed = with_peft(trial.backbone, near, [1.0] * len(near) if kind == "ties" else equal_shares(near))(kind)
    return mix([mixed], [best_scale(trial.backbone, trial.draw, [mixed])], name=kind)


LINEAR = Baseline(
    "PEFT linear", partial(_mixed, "linear"), "the neighbours' factors, scaled by the labels", default=True
)
TIES = Baseline("PEFT ties", partial(_mixed, "ties"), "the neighbours by TIES, scaled by the labels", default=True)
