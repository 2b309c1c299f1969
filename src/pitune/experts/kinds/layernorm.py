"""LayerNorm tuning (arXiv 2312.11420): scales and shifts of the norms, as what is added to the backbone's own.

PEFT's LN_TUNING keeps whole copies of the norms. Mixing those with weights that do not sum to 1 would rescale
the backbone itself, so the distance from the backbone's values is kept here; `export_peft` writes the copies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.expert import Expert
from pitune.experts.insertion import Insertion
from pitune.experts.kind import Attachment, Changes, Kind, KindSettings, Names, Tensors


class LayernormSettings(KindSettings):
    """Target modules are norms of any kind that have a `weight`, and a `bias` or not."""

    target_modules: Names


class _TunedNorm(nn.Module):
    """A norm, computed with `weight + Δweight` and `bias + Δbias`."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base
        for name, value in base.named_parameters():
            self.register_parameter(name, nn.Parameter(torch.zeros_like(value)))

    def forward(self, hidden: Tensor) -> Tensor:
        tuned = {name: value + getattr(self, name).to(value.dtype) for name, value in self.base.named_parameters()}
        output: Tensor = functional_call(self.base, tuned, (hidden,))
        return output


class Layernorm(Kind):
    """Changes of the norms' scales and shifts."""

    name = "layernorm"
    settings = LayernormSettings
    roles = ("norms",)
    linear = True
    merges = True
    exports = True

    def attach(self, backbone: Backbone, settings: LayernormSettings) -> Attachment:
        """Wrap each target, whose parameters are `weight` and perhaps `bias`; `InputError` if it has others."""
        with Insertion(backbone.module) as insertion:
            for target in settings.target_modules:
                base = insertion.find(target)
                if {name for name, _ in base.named_parameters()} - {"weight", "bias"} or not hasattr(base, "weight"):
                    raise InputError(f"{target!r} is a {type(base).__name__}; expected a norm with a weight")
                insertion.replace(target, self.name, _TunedNorm(base))
            return insertion.finish()

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, settings: Any) -> Tensor:
        """Return 0, no change of scale or shift."""
        return torch.zeros(shape)

    def changes(self, layer: nn.Module, settings: LayernormSettings, tensors: Tensors, site: str) -> Changes:
        """Return `Δweight` and, where the norm has one, `Δbias`, of the norm's own shapes."""
        kinds = [kind for kind in ("weight", "bias") if f"{site}.{self.name}.{kind}" in tensors]
        return {kind: tensors[f"{site}.{self.name}.{kind}"] for kind in kinds}

    def to_peft(self, expert: Expert, backbone: Backbone | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return PEFT's LN_TUNING, which keeps whole norms."""
        if backbone is None:
            raise InputError("layernorm experts hold changes, PEFT whole norms; name the backbone to export them")
        tensors = {}
        for name, change in expert.tensors.items():
            site, kind = self.site(name), name.rsplit(".", 1)[1]
            base = backbone.module.get_submodule(site).get_parameter(kind).detach().cpu()
            tensors[f"{site}.ln_tuning_layers.{kind}"] = (base + change.detach().cpu()).contiguous()
        return {"peft_type": "LN_TUNING", "target_modules": list(expert.config["target_modules"])}, tensors


LAYERNORM = Layernorm()
