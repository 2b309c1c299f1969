"""LoRA (arXiv 2106.09685) through PEFT; what is mixed is the product ΔW = s·B·A, never the factors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.kind import (
    Attachment,
    Changes,
    Kind,
    KindSettings,
    Tell,
    Tensors,
    kaiming,
    read_settings,
)
from pitune.experts.kinds.lora_import import check_supported, translate
from pitune.experts.kinds.lora_update import BIAS, DOWN, UP, LoraSettings, bias_change, delta, rank_in, rank_of, scaling
from pitune.experts.patterns import ALL_LINEAR, full_names, modules_matching, pattern_key
from pitune.experts.peft_layers import inject, peft_json, restore
from pitune.experts.sketches import directions

if TYPE_CHECKING:
    from pitune.experts.expert import Expert


class Lora(Kind):
    """Low-rank updates of linear layers."""

    name = "lora"
    settings = LoraSettings
    roles = ("attention",)
    linear = True
    merges = True
    exports = True
    ranked = True
    learning_rate = 1e-2
    steady_rate = 3e-3
    peft_type = "LORA"

    def attach(self, backbone: Backbone, settings: LoraSettings) -> Attachment:
        """Put PEFT's layers in place of the targets: `y ← y + s B A h`; h is what training may drop out of."""
        module = backbone.module
        layers = inject(module, peft_config(settings), LoraLayer, settings.target_modules)
        paths = _paths(layers, settings)
        readers = tuple(path.removesuffix(".weight") for name, path in paths.items() if name.endswith(DOWN))
        return Attachment(paths, lambda: restore(module, layers), readers)

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return 0 for B (out, r) and the bias (out,); A (r, in) starts as a linear layer's weight does."""
        return kaiming(shape, generator) if tensor.endswith(DOWN) else torch.zeros(shape)

    def check(self, settings: LoraSettings, tensors: Tensors, where: str) -> None:
        """Raise `InputError` unless the tensors are those of the modules that the settings name, at their ranks."""
        super().check(settings, tensors, where)
        sites = self._sites([tensors])
        for site in sites:
            _check_factors(settings, tensors, site, where)
        if settings.target_modules == ALL_LINEAR:  # which the backbone alone can tell
            return
        try:
            others = set(sites).difference(modules_matching(settings.target_modules, sites))
        except InputError as error:
            raise InputError(f"{where}: {error}; fetch it again") from error
        if others:
            found = f"target_modules does not name {min(others)!r:.200}, which has tensors"
            raise InputError(f"{where}: {found}; fetch it again")

    def site(self, tensor: str) -> str:
        """Return the linear layer that a factor or a bias belongs to."""
        return tensor.removesuffix(DOWN).removesuffix(UP).removesuffix(BIAS)

    def combined(self, settings: Sequence[LoraSettings], tensors: Sequence[Tensors]) -> LoraSettings:
        """Return settings of rank Σ r_j at each site and scale 1: any LoRAs mix, as the factors carry their scales."""
        ranks = {site: sum(rank_in(one, site) for one in tensors) for site in self._sites(tensors)}
        common = max(ranks.values(), key=list(ranks.values()).count)
        other = {site: rank for site, rank in ranks.items() if rank != common}
        return LoraSettings(
            r=common,
            lora_alpha=common,
            target_modules=tuple(ranks),
            rank_pattern=full_names(other, ranks),
            alpha_pattern=full_names(other, ranks),
            lora_bias=any(one.lora_bias for one in settings),
        )

    def combine(
        self, settings: Sequence[LoraSettings], tensors: Sequence[Tensors], weights: Tensors
    ) -> dict[str, Tensor]:
        """Sum the products exactly by laying the factors side by side: ΔW = Σ w_j s_j B_j A_j."""
        mixed = {}
        biased = any(one.lora_bias for one in settings)
        for site in self._sites(tensors):
            have = [j for j, one in enumerate(tensors) if f"{site}{DOWN}" in one]
            factors = {j: weights[site][j] * scaling(settings[j], site, rank_in(tensors[j], site)) for j in have}
            mixed[f"{site}{DOWN}"] = torch.cat([tensors[j][f"{site}{DOWN}"] for j in have], 0)
            mixed[f"{site}{UP}"] = torch.cat([factor * tensors[j][f"{site}{UP}"] for j, factor in factors.items()], 1)
            if biased:
                bias = mixed[f"{site}{UP}"].new_zeros(mixed[f"{site}{UP}"].shape[0])
                for j, factor in factors.items():
                    bias = bias + factor * tensors[j].get(f"{site}{BIAS}", torch.zeros_like(bias))
                mixed[f"{site}{BIAS}"] = bias
        return mixed

    def adds_nothing(self, settings: LoraSettings, tensors: Tensors) -> bool:
        """Return whether every ΔW is 0: where B is, whatever A holds, and a bias with it."""
        return not any(bool(value.any()) for name, value in tensors.items() if not name.endswith(DOWN))

    def distance(self, settings: LoraSettings, tensors: Tensors, other: Tensors) -> Tensor:
        """Return `Σ ‖ΔW − ΔW'‖²` (Frobenius) over sites, and of biases, from Gram matrices: no ΔW is laid out."""
        total = []
        for site in self._sites([tensors]):
            scale = scaling(settings, site, rank_in(tensors, site))
            down = torch.cat([tensors[f"{site}{DOWN}"], other[f"{site}{DOWN}"]], 0)
            up = torch.cat([tensors[f"{site}{UP}"], -other[f"{site}{UP}"]], 1)
            total.append(scale**2 * ((up.T @ up) * (down @ down.T)).sum())
            if settings.lora_bias:
                total.append((scale * (tensors[f"{site}{BIAS}"] - other[f"{site}{BIAS}"])).square().sum())
        return torch.stack(total).sum()

    def projection(self, settings: LoraSettings, tensors: Tensors) -> Tensor:
        """Return uᵀ ΔW v (16,), summed over sites, for random u and v: whatever the factors, it is ΔW that counts."""
        total = torch.zeros(len(directions("", 1)))
        for site in self._sites([tensors]):
            down, up = tensors[f"{site}{DOWN}"].float(), tensors[f"{site}{UP}"].float()
            left, right = directions(f"{site} out", len(up)) @ up, directions(f"{site} in", down.shape[1]) @ down.T
            total += scaling(settings, site, len(down)) * (left * right).sum(1)
            if settings.lora_bias:
                bias = bias_change(settings, tensors, site).float()
                total += directions(f"{site} bias", len(bias)) @ bias
        return total

    def rank_and_scale(self, settings: LoraSettings) -> tuple[int, float]:
        """Return the rank of most sites and `lora_alpha / r` there, or by its square root."""
        return settings.r, scaling(settings, "", settings.r)

    def beside(self, backbone: Backbone, neighbour: KindSettings, changes: Mapping[str, Any]) -> KindSettings:
        """Return the usual settings, with changes: LoRAs mix whatever the ranks and places of the others are."""
        return read_settings(self, {**self.default(backbone), **changes}, f"method {self.name!r}")

    def changes(self, layer: nn.Module, settings: LoraSettings, tensors: Tensors, site: str) -> Changes:
        """Return `ΔW = s B A` (out, in) and a bias's change (out,); `InputError` if the layer has no place for one."""
        if not isinstance(layer, nn.Linear):
            raise InputError(f"{site!r} is a {type(layer).__name__}; expected a linear layer for ΔW to merge into")
        changes = {"weight": delta(settings, tensors, site)}
        if settings.lora_bias and f"{site}{DOWN}" in tensors:
            change = bias_change(settings, tensors, site)
            if getattr(layer, "bias", None) is not None:
                changes["bias"] = change
            elif change.any():
                raise InputError(f"{site!r} has no bias for the expert's to merge into")
        return changes

    def truncate(
        self, settings: LoraSettings, tensors: Tensors, rank: int
    ) -> tuple[LoraSettings, dict[str, Tensor], float]:
        """Return the best approximation of every ΔW by `rank` (Eckart–Young), and its relative Frobenius error."""
        kept: dict[str, Tensor] = {}
        lost = whole = 0.0
        sites = tuple(self._sites([tensors]))
        for site in sites:
            u, values, v = _decomposed(settings, tensors, site)
            root = values[:rank].sqrt()
            missing = rank - len(root)  # zeros where the update has no such rank
            kept[f"{site}{DOWN}"] = F.pad(root[:, None] * v[:rank], (0, 0, 0, max(missing, 0))).float().contiguous()
            kept[f"{site}{UP}"] = F.pad(u[:, :rank] * root, (0, max(missing, 0))).float().contiguous()
            if settings.lora_bias:
                kept[f"{site}{BIAS}"] = bias_change(settings, tensors, site)
            lost += float(values[rank:].square().sum())
            whole += float(values.square().sum())
        made = LoraSettings(r=rank, lora_alpha=rank, target_modules=sites, lora_bias=settings.lora_bias)
        return made, kept, math.sqrt(lost / whole) if whole else 0.0

    def rank_within(self, settings: LoraSettings, tensors: Tensors, error: float) -> int:
        """Return the smallest rank whose dropped singular values have at most `error`² of the squared sum of all."""
        squares = [_decomposed(settings, tensors, site)[1].square() for site in self._sites([tensors])]
        longest = max(map(len, squares))
        total = torch.stack([F.pad(one, (0, longest - len(one))) for one in squares]).sum(0)
        lost = total.sum() - total.cumsum(0)  # of rank 1, 2, …
        enough = (lost <= error**2 * total.sum()).nonzero()
        return int(enough[0]) + 1 if len(enough) else longest

    def peft(self, settings: LoraSettings) -> dict[str, Any]:
        """Return PEFT's configuration of LORA, whose field names these settings share."""
        return {**peft_json(peft_config(settings)), "init_lora_weights": True}

    def to_peft(self, expert: Expert, backbone: Backbone | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return PEFT's LORA with its modules by name: a pattern of a stranger's may take PEFT for ever."""
        return self.peft(_by_name(expert.settings, expert.sites)), dict(expert.tensors)

    def from_peft(
        self, config: Mapping[str, Any], stored: Tensors, backbone: Backbone, where: str, tell: Tell
    ) -> tuple[LoraSettings, dict[str, Tensor]]:
        """Return settings and tensors of a LoRA that PEFT saved; `InputError` names the field that is not supported."""
        check_supported(config, where, tell)
        return translate(config, stored, backbone, where, tell)

    def _sites(self, tensors: Sequence[Tensors]) -> list[str]:
        return list(dict.fromkeys(self.site(name) for one in tensors for name in one))


def peft_config(settings: LoraSettings) -> LoraConfig:
    """Return PEFT's configuration of the same expert."""
    targets = settings.target_modules if isinstance(settings.target_modules, str) else list(settings.target_modules)
    return LoraConfig(**{**settings.model_dump(), "target_modules": targets}, init_lora_weights=False)


def _by_name(settings: Any, sites: Sequence[str]) -> LoraSettings:
    """Return settings that mean the same at these sites without a regular expression of their own."""
    by_name = {}
    for field in ("rank_pattern", "alpha_pattern"):
        given = getattr(settings, field)
        keys = {site: pattern_key(tuple(given), site) for site in sites} if given else {}
        by_name[field] = full_names({site: given[key] for site, key in keys.items() if key in given}, sites)
    targets = tuple(sites) if isinstance(settings.target_modules, str) else settings.target_modules
    return LoraSettings(**{**settings.model_dump(), **by_name, "target_modules": targets})


def _check_factors(settings: LoraSettings, tensors: Tensors, site: str, where: str) -> None:
    """Raise `InputError` unless a site has an A (r, in), a B (out, r), and a bias (out,) where the settings say so."""
    rank = rank_of(settings, site)
    axes = {DOWN: (2, 0), UP: (2, 1), **({BIAS: (1, None)} if settings.lora_bias else {})}
    if not settings.lora_bias and f"{site}{BIAS}" in tensors:
        raise InputError(f"{where}: the settings give {site!r:.200} no bias, and it has one; fetch it again")
    for name, (dimensions, axis) in axes.items():
        tensor = tensors.get(f"{site}{name}")
        if tensor is None or tensor.ndim != dimensions:
            found = "is missing" if tensor is None else f"has the shape {tuple(tensor.shape)}"
            raise InputError(
                f"{where}: tensor {site + name!r:.200} {found}; expected one of {dimensions} dimensions; fetch it again"
            )
        if axis is not None and tensor.shape[axis] != rank:
            found = f"the settings give {site!r:.200} the rank {rank}, its tensors {tensor.shape[axis]}"
            raise InputError(f"{where}: {found}; fetch it again")


def _decomposed(settings: LoraSettings, tensors: Tensors, site: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return the singular values of ΔW at one site with their vectors, (out, r), (r,), (r, in), in double precision.

    From its factors: no matrix larger than they are is laid out.
    """
    down, up = tensors[f"{site}{DOWN}"].double(), tensors[f"{site}{UP}"].double()
    left, right = torch.linalg.qr(scaling(settings, site, down.shape[0]) * up), torch.linalg.qr(down.T)
    u, values, v = torch.linalg.svd(left.R @ right.R.T)
    return left.Q @ u, values, v @ right.Q.T


def _paths(layers: Mapping[str, LoraLayer], settings: LoraSettings) -> dict[str, str]:
    parts = [("lora_A", "weight"), ("lora_B", "weight"), *([("lora_B", "bias")] if settings.lora_bias else [])]
    return {f"{name}.{part}.{kind}": f"{name}.{part}.default.{kind}" for name in layers for part, kind in parts}


LORA = Lora()
