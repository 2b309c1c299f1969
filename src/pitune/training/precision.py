"""In which number format a run computes its losses; what it learns stays in float32."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]
_FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def computing(precision: Precision, device: torch.device) -> torch.autocast:
    """Return the context within which products are of a format's numbers, and sums of many in float32 (autocast)."""
    return torch.autocast(device.type, _FORMATS.get(precision), enabled=precision in _FORMATS)


def scaler_of(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return what multiplies losses so that small gradients are not 0 in float16; it does nothing in other formats."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
