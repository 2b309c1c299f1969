"""Load a backbone by name, folder or hub id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from pitune import defaults
from pitune.backbones.base import Backbone
from pitune.backbones.checkpoint import Checkpoint, is_checkpoint, open_checkpoint, read_dtype, with_weights
from pitune.backbones.family import FAMILIES
from pitune.errors import InputError
from pitune.processes import team
from pitune.registry import unknown

_SHOWN = 5  # types of a family, the commonest, where none reads a model


def load_backbone(name: str = defaults.BACKBONE, device: str | None = None, dtype: str | None = None) -> Backbone:
    """Return a frozen backbone on a device (`cuda` where there is one, unless told) in a number format (`float32`).

    In `int8` or `nf4` the linear layers of a checkpoint are held in 8 or 4 bits (bitsandbytes), and all else is in
    bfloat16. `name` is one that a family of `FAMILIES` loads by itself, a checkpoint folder, or `OWNER/NAME` of the
    hub, with `@REVISION` to pin it. Weights are read from safetensors alone, and no code of a checkpoint's own is run.
    Raise `InputError` if the name, the device or the number format is unknown, or no family reads the checkpoint.
    """
    place, (number, held) = read_device(device), read_dtype(dtype)
    families = FAMILIES.all()
    for family in families:
        if name in family.named:
            if held is not None:
                raise InputError(f"{name} cannot be held in {held}; expected a checkpoint, or another number format")
            return family.named[name](place, number)
    if not is_checkpoint(name):
        named = [one for family in families for one in family.named]
        raise unknown("backbone", name, [*named, "a checkpoint folder", "a hub id OWNER/NAME"])
    return _load_checkpoint(replace(open_checkpoint(name), held=held), place, number)


def _load_checkpoint(found: Checkpoint, device: torch.device, dtype: torch.dtype) -> Backbone:
    """Load a checkpoint as the family that lists its type, or else as the first that reads its configuration."""
    families, kind = FAMILIES.all(), found.config.model_type
    reading = [one for one in families if kind in one.types] or [one for one in families if one.reads(found.config)]
    for family in reading:
        if family.load is not None:
            return family.load(with_weights(found), device, dtype)
    listed = {name: FAMILIES.get(name).types for name in FAMILIES.names()}
    known = "; ".join(f"{name} ({_commonest(types)})" for name, types in listed.items() if types)
    raise InputError(f"{found.folder}: no backbone family reads models of type {kind!r}; expected {known}")


def _commonest(types: Sequence[str]) -> str:
    rest = f" and {len(types) - _SHOWN} more" if len(types) > _SHOWN else ""
    return f"{', '.join(types[:_SHOWN])}{rest}"


def read_device(name: str | None) -> torch.device:
    """Return a device by name, `cuda` where there is one unless told; raise `InputError` if it cannot be used."""
    try:
        place = team().device(torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu")))
        torch.zeros(1, device=place).item()  # which holds values, as `meta` does not
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}); expected cpu or cuda"
        ) from error
    return place
