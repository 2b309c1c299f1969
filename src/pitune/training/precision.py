"""In which number format a run computes its losses; what it learns stays in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["fp32", "bf16", "fp16"]
FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def computing(precision: Precision, device: torch.device) -> Iterator[None]:
    """Let products be of a format's numbers, and sums of many in float32 (autocast).

    On the CPU attention is plain products then: the backward pass of torch's own kernel takes most of a step there.
    """
    if precision not in FORMATS:
        yield
        return
    attention = sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()
    with torch.autocast(device.type, FORMATS[precision]), attention:
        yield


def scaler_of(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Return what multiplies losses so that small gradients are not 0 in float16; it does nothing in other formats."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
