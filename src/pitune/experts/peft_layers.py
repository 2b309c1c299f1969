"""What the kinds of expert that go through PEFT share."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from peft import PeftConfig
from peft.functional import inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from pitune.errors import InputError
from pitune.experts.patterns import endings_of_others, full_names, modules_matching, pattern_key

Layer = TypeVar("Layer")


def inject(module: nn.Module, config: PeftConfig, kind: type[Layer], targets: str | Sequence[str]) -> dict[str, Layer]:
    """Let PEFT wrap the target modules and return the wrappers by name; raise `InputError` if a target is missing."""
    names = [name for name, _ in module.named_modules()]
    found = modules_matching(targets, names)
    if not isinstance(found, str):
        config.target_modules, config.exclude_modules = set(found), set(endings_of_others(found, names)) or None
    for field in ("rank_pattern", "alpha_pattern"):
        if not (given := getattr(config, field, None)):
            continue
        chosen = {site: pattern_key(tuple(given), site) for site in (names if isinstance(found, str) else found)}
        setattr(config, field, full_names({site: given[key] for site, key in chosen.items() if key in given}, chosen))
    try:
        with torch.random.fork_rng(devices=[]):  # PEFT draws starting values that we replace
            inject_adapter_in_model(config, module)
    except (ValueError, re.error) as error:
        restore(module, {name: layer for name, layer in module.named_modules() if isinstance(layer, BaseTunerLayer)})
        raise InputError(f"the expert cannot attach: {error}") from error
    return {name: layer for name, layer in module.named_modules() if isinstance(layer, kind)}


def restore(module: nn.Module, layers: Mapping[str, Any]) -> None:
    """Put the layers that PEFT wrapped back into their places."""
    for name, layer in layers.items():
        module.set_submodule(name, layer.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config


def peft_json(config: PeftConfig) -> dict[str, Any]:
    """Return a PEFT configuration as what `adapter_config.json` holds."""
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    values: dict[str, Any] = json.loads(json.dumps(plain, default=str))
    return values
