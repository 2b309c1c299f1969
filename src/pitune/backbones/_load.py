"""Load a backbone by name, folder or hub id."""

from __future__ import annotations

import torch

from pitune.backbones._contract import Backbone
from pitune.errors import InputError


def load_backbone(name: str = "pocket", device: str | None = None, dtype: str | None = None) -> Backbone:
    """Return a frozen backbone on a device (`cuda` where there is one, unless told).

    Raise `InputError` if the name, or the device, is unknown.
    """
    try:
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {device!r} cannot be used ({str(error).splitlines()[0]}); expected cpu or cuda"
        ) from error
    if name != "pocket":
        raise InputError(f"unknown backbone {name!r}; expected: pocket")
    from pitune.backbones.pocket import load_pocket

    return load_pocket(place)
