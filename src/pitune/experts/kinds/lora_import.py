"""PEFT's LoRAs, read as ours: which of its settings we understand, and which tensor is which."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from peft.utils.other import get_pattern_key
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.kinds.lora import BIAS, DOWN, UP, LoraSettings, scaling

_OWN_BIAS = re.compile(r"(\.base_layer)?\.bias$")
# settings that say how a LoRA was found or trained, and those that we translate; any other must ask for nothing
# fmt: off
_KNOWN = frozenset((
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "use_rslora", "lora_bias",
    "eva_config", "corda_config", "lora_ga_config", "loftq_config", "runtime_config", "megatron_core",
    "qalora_group_size", "ensure_weight_tying",
))
# fmt: on
_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", "lora_only", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),  # the others change the base too
}


def check_supported(config: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` naming the first field that asks for more than `B A`, its scale and a bias.

    Fields that are not known, as a later PEFT may write, must ask for nothing: None, False, 0 or empty.

    """
    for field, value in config.items():
        refused = value not in _ALLOWED[field] if field in _ALLOWED else field not in _KNOWN and bool(value)
        if refused:
            raise InputError(f"{where}: {field} is {value!r}, which is not supported; train without it")


def translate(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], backbone: Backbone, where: str
) -> tuple[LoraSettings, dict[str, Tensor]]:
    """Return settings that name every site, and tensors by our names; biases of the base become changes of them."""
    sites = [name.removesuffix(DOWN) for name in stored if name.endswith(DOWN)]
    if not sites:
        raise InputError(f"{where}: has no LoRA factors; expected tensors named …{DOWN}")
    alphas, ranks = dict(config.get("alpha_pattern") or {}), {}
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    settings: dict[str, float] = {}
    for site in sites:
        ours = _site_in(backbone.module, site, where)
        ranks[ours] = stored[f"{site}{DOWN}"].shape[0]
        settings[ours] = float(alphas.get(get_pattern_key(alphas.keys(), site), config.get("lora_alpha", 8)))
        for suffix in (DOWN, UP, BIAS):
            if f"{site}{suffix}" in stored:
                tensors[f"{ours}{suffix}"] = stored[f"{site}{suffix}"].contiguous()
                used.add(f"{site}{suffix}")
    rank, alpha = int(config.get("r", 8)), float(config.get("lora_alpha", 8))
    own = {site: name for name in stored if (site := _OWN_BIAS.sub("", name)) in sites and _OWN_BIAS.search(name)}
    biased = bool(config.get("lora_bias")) or bool(own)
    made = LoraSettings(
        r=rank,
        lora_alpha=alpha,
        target_modules=tuple(ranks),
        use_rslora=bool(config.get("use_rslora")),
        rank_pattern={site: value for site, value in ranks.items() if value != rank},
        alpha_pattern={site: value for site, value in settings.items() if value != alpha},
        lora_bias=biased,
    )
    for site, name in own.items():
        ours = _site_in(backbone.module, site, where)
        base = backbone.module.get_submodule(ours).get_parameter("bias").detach().float().cpu()
        change = (stored[name] - base) / scaling(made, ours, ranks[ours])
        tensors[f"{ours}{BIAS}"] = change + tensors.get(f"{ours}{BIAS}", 0.0)
        used.add(name)
    if extra := sorted(stored.keys() - used):
        raise InputError(f"{where}: tensor {extra[0]!r} is not part of a LoRA of linear layers; it is not supported")
    return made, tensors


def _site_in(module: nn.Module, site: str, where: str) -> str:
    """Return the name of a site inside the backbone's module; adapters of a model with a head say one name more."""
    shorter = site.removeprefix(f"{getattr(module, 'base_model_prefix', '')}.")
    for name in dict.fromkeys((site, shorter)):
        try:
            layer = module.get_submodule(name)
        except AttributeError:
            continue
        if not isinstance(layer, nn.Linear):
            raise InputError(f"{where}: targets {site!r}, a {type(layer).__name__}; only linear layers are supported")
        return name
    raise InputError(f"{where}: targets {site!r}, which the backbone does not have; it belongs to another base model")
