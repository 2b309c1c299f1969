"""LoRA (arXiv 2106.09685) through PEFT; what is mixed is the product ΔW = s·B·A, never the factors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig
from peft.functional import inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key
from pydantic import Field
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.experts._method import Attachment, MethodConfig, Tensors, kaiming

_SUFFIXES = (".lora_A.weight", ".lora_B.weight")


class LoraSettings(MethodConfig):
    """PEFT's own field names, so that a configuration reads the same there."""

    r: int = Field(default=8, ge=1, description="rank")
    lora_alpha: float = Field(default=16, gt=0, description="ΔW is scaled by lora_alpha / r")
    target_modules: tuple[str, ...] = Field(min_length=1)
    use_rslora: bool = Field(default=False, description="scale by lora_alpha / √r instead")
    rank_pattern: dict[str, int] = Field(default_factory=dict)
    alpha_pattern: dict[str, float] = Field(default_factory=dict)


class Lora:
    """Low-rank updates of linear layers."""

    name = "lora"
    config = LoraSettings

    def default(self, backbone: Backbone) -> dict[str, Any]:
        return {"target_modules": backbone.attachment(self.name)}

    def attach(self, backbone: Backbone, config: LoraSettings) -> Attachment:
        module = backbone.module
        with torch.random.fork_rng(devices=[]):  # PEFT draws starting values that we replace
            inject_adapter_in_model(peft_config(config), module)
        layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, LoraLayer)}
        paths = {
            f"{name}.{factor}.weight": f"{name}.{factor}.default.weight"
            for name in layers
            for factor in ("lora_A", "lora_B")
        }
        return Attachment(paths, lambda: _detach(module, layers))

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
        return torch.zeros(shape) if tensor.endswith(".lora_B.weight") else kaiming(shape, generator)

    def site(self, tensor: str) -> str:
        return tensor.removesuffix(_SUFFIXES[0]).removesuffix(_SUFFIXES[1])

    def combined(self, configs: Sequence[LoraSettings], tensors: Sequence[Tensors]) -> LoraSettings:
        ranks = {site: sum(_rank(one, site) for one in tensors) for site in _sites(self, tensors)}
        common = max(ranks.values(), key=list(ranks.values()).count)
        other = {site: rank for site, rank in ranks.items() if rank != common}
        return LoraSettings(
            r=common, lora_alpha=common, target_modules=tuple(ranks), rank_pattern=other, alpha_pattern=dict(other)
        )

    def combine(
        self, configs: Sequence[LoraSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        """Sum the products exactly by laying the factors side by side: ΔW = Σ w_j s_j B_j A_j."""
        mixed = {}
        for site in _sites(self, tensors):
            down, up = f"{site}{_SUFFIXES[0]}", f"{site}{_SUFFIXES[1]}"
            have = [j for j, one in enumerate(tensors) if down in one]
            mixed[down] = torch.cat([tensors[j][down] for j in have], 0)
            scaled = [
                weights[site][j] * scaling(configs[j], site, _rank(tensors[j], site)) * tensors[j][up] for j in have
            ]
            mixed[up] = torch.cat(scaled, 1)
        return mixed


def peft_config(config: LoraSettings) -> LoraConfig:
    """Return PEFT's configuration of the same expert."""
    values = config.model_dump()
    return LoraConfig(**{**values, "target_modules": list(config.target_modules)}, init_lora_weights=False)


def scaling(config: LoraSettings, site: str, rank: int) -> float:
    """Return the factor s of ΔW = s·B·A at one site."""
    alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), site), config.lora_alpha)
    return alpha / math.sqrt(rank) if config.use_rslora else alpha / rank


def delta(config: LoraSettings, tensors: Tensors, site: str) -> Tensor:
    """Return ΔW (out, in) at one site."""
    down, up = tensors[f"{site}{_SUFFIXES[0]}"], tensors[f"{site}{_SUFFIXES[1]}"]
    return scaling(config, site, down.shape[0]) * up @ down


def truncate(config: LoraSettings, tensors: Tensors, rank: int) -> tuple[LoraSettings, dict[str, Tensor], float]:
    """Return the best approximation of every ΔW by `rank` (Eckart–Young), and its relative Frobenius error."""
    kept: dict[str, Tensor] = {}
    lost = whole = 0.0
    for site in _sites(LORA, [tensors]):
        u, values, v = torch.linalg.svd(delta(config, tensors, site).double(), full_matrices=False)
        root = values[:rank].sqrt()
        kept[f"{site}{_SUFFIXES[0]}"] = (root[:, None] * v[:rank]).float().contiguous()
        kept[f"{site}{_SUFFIXES[1]}"] = (u[:, :rank] * root).float().contiguous()
        lost += float(values[rank:].square().sum())
        whole += float(values.square().sum())
    sites = tuple(_sites(LORA, [tensors]))
    settings = LoraSettings(r=rank, lora_alpha=rank, target_modules=sites)
    return settings, kept, math.sqrt(lost / whole) if whole else 0.0


def _sites(method: Lora, tensors: Sequence[Tensors]) -> list[str]:
    return list(dict.fromkeys(method.site(name) for one in tensors for name in one))


def _rank(tensors: Tensors, site: str) -> int:
    factor = tensors.get(f"{site}{_SUFFIXES[0]}")
    return 0 if factor is None else factor.shape[0]


def _detach(module: nn.Module, layers: dict[str, LoraLayer]) -> None:
    for name, layer in layers.items():
        module.set_submodule(name, layer.get_base_layer())
    if hasattr(module, "peft_config"):
        del module.peft_config


LORA = Lora()
