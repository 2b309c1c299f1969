"""Load a backbone by name, folder or hub id."""

from __future__ import annotations

import torch

from pitune import defaults
from pitune.backbones.base import Backbone
from pitune.errors import InputError


def load_backbone(name: str = defaults.BACKBONE, device: str | None = None, dtype: str | None = None) -> Backbone:
    """Return a frozen backbone on a device (`cuda` where there is one, unless told) in a number format (`float32`).

    `name` is `pocket`, a checkpoint folder, or `OWNER/NAME` of the hub, with `@REVISION` to pin it. Weights are
    read from safetensors alone, and no code of a checkpoint's own is run. Raise `InputError` if the name, the
    device or the number format is unknown, or the checkpoint is of no family that is known here.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); expected cpu or cuda"
        ) from error
    if name != "pocket":
        return _load_checkpoint(name, place, dtype)
    if dtype not in (None, "float32"):
        raise InputError(f"pocket computes in float32; found dtype {dtype!r}")
    from pitune.pocket.backbone import load_pocket

    return load_pocket(place)


def _load_checkpoint(name: str, device: torch.device, dtype: str | None) -> Backbone:
    """Open a checkpoint and load it as the family that its configuration says."""
    from pitune.backbones.checkpoint import open_checkpoint, read_dtype
    from pitune.backbones.dual_encoder import load_dual_encoder
    from pitune.backbones.seq2seq import load_seq2seq
    from pitune.backbones.vision_language import MODEL_TYPES, load_vision_language

    number = read_dtype(dtype)
    found = open_checkpoint(name)
    if found.config.model_type in MODEL_TYPES:
        return load_vision_language(found, device, number)
    if found.config.is_encoder_decoder:
        return load_seq2seq(found, device, number)
    return load_dual_encoder(found, device, number)
