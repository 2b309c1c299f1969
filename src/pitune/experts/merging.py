"""Put an expert that is linear in the base weights into them: a plain model, with nothing to attach."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from pitune.backbones import Backbone, same_weights
from pitune.errors import InputError
from pitune.experts.attached import Attached, attached
from pitune.experts.expert import Expert, check_tensors
from pitune.experts.kind import Attachment
from pitune.experts.registry import KINDS
from pitune.files import atomic_folder


def merge_into(backbone: Backbone, expert: Expert) -> nn.Module:
    """Return a copy of the backbone's module with a LoRA, (IA)³, bias or norm expert in its weights.

    A parameter that another layer shares, such as an output layer's with the embeddings, is no longer shared: the
    expert changes one of them. The backbone stays as it is. Raise `InputError` for kinds that no change of weights
    can express.
    """
    if not same_weights(expert.card.backbone, backbone.fingerprint):
        raise InputError(f"expert {expert.name!r} belongs to another backbone ({expert.card.base_model})")
    if not expert.kind.merges:
        merging = ", ".join(kind.name for kind in KINDS.all() if kind.merges)
        raise InputError(f"experts of kind {expert.method!r} cannot merge; expected one of: {merging}")
    with attached(backbone, expert.kind, expert.settings) as place:
        check_tensors(place.shapes, expert.tensors, f"expert {expert.name!r}")
    changed = changed_parameters(backbone.module, expert)
    if lost := next((path for path, value in changed.items() if not value.isfinite().all()), None):
        raise InputError(f"expert {expert.name!r}: with it {lost!r:.200} would not be finite; train it again")
    module = untied_copy(backbone.module, changed)
    with torch.no_grad():
        for path, value in changed.items():
            module.get_parameter(path).copy_(value)
    return module


def untied_copy(module: nn.Module, paths: Iterable[str]) -> nn.Module:
    """Return a copy of a module in which these parameters are shared with no other layer."""
    own = copy.deepcopy(module)
    shared = _shared(own)
    for path in paths:
        if path in shared:
            _untie(own, path, own.get_parameter(path))
    return own


def merged(backbone: Backbone, expert: Expert) -> tuple[Attached, dict[str, Tensor]] | None:
    """Return the bare backbone, to be called with these of its own parameters, which hold the expert.

    So an expert costs nothing to run, whatever its rank. Modules that share a parameter with one of these keep the
    backbone's. None where the outputs would not be the same to float32's precision: kinds that no change of weights
    can express, and half formats.
    """
    if not expert.kind.merges:
        return None
    try:
        changed = changed_parameters(backbone.module, expert)
    except InputError:  # a layer that has no place for the change
        return None
    if any(value.dtype != torch.float32 for value in changed.values()):
        return None
    return Attached(
        backbone, Attachment({path: path for path in changed}, lambda: None), tied=False, layered=True
    ), changed


def save_merged(module: nn.Module, folder: Path) -> None:
    """Write a merged model as transformers would, so that `from_pretrained` loads it; whole or not at all."""
    if not isinstance(module, PreTrainedModel):
        raise InputError(f"a {type(module).__name__} is no model of transformers; use merge_into from Python instead")
    with atomic_folder(folder) as beside:
        module.save_pretrained(beside)


@torch.no_grad()
def changed_parameters(module: nn.Module, expert: Expert) -> dict[str, Tensor]:
    """Return the parameters that an expert changes, by path, with the change in them.

    Raise `InputError` where one has no place, or its weights are held in so few bits that a sum would be rounded away.
    """
    changed = {}
    for site in expert.sites:
        layer = module.get_submodule(site)
        for name, change in expert.kind.changes(layer, expert.settings, expert.tensors, site).items():
            value = layer.get_parameter(name)
            if not value.is_floating_point():
                held = "8 bits" if value.dtype == torch.int8 else "4 bits"
                raise InputError(f"{site!r} is held in {held}; nothing can merge into it; export the expert instead")
            if change.shape != value.shape:  # which would be spread over it in silence
                found = f"its change of {site!r:.200} has the shape {tuple(change.shape)}"
                raise InputError(f"expert {expert.name!r}: {found}; expected {tuple(value.shape)}")
            changed[f"{site}.{name}"] = (value.float() + change.to(value.device).float()).to(value.dtype)
    return changed


def _shared(module: nn.Module) -> set[str]:
    """Return the paths of parameters that a model has under several names."""
    paths: dict[int, list[str]] = {}
    for path, value in module.named_parameters(remove_duplicate=False):
        paths.setdefault(id(value), []).append(path)
    return {path for several in paths.values() if len(several) > 1 for path in several}


def _untie(module: nn.Module, path: str, parameter: nn.Parameter) -> None:
    """Give one place of a shared parameter a parameter of its own, and have the model saved and loaded so."""
    site, _, name = path.rpartition(".")
    own = nn.Parameter(parameter.detach().clone(), requires_grad=parameter.requires_grad)
    setattr(module.get_submodule(site), name, own)
    config = getattr(module, "config", None)
    while config is not None:
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
        inner = config.get_text_config() if hasattr(config, "get_text_config") else config
        config = inner if inner is not config else None
