"""In which number format a run computes its losses; what it learns stays in float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["fp32", "bf16", "fp16"]
FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def quickest(device: torch.device) -> Precision:
    """Return bf16 where the device's products of it are the faster: a GPU with it, a processor with tiles for it."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    tiles = device.type == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
    return "bf16" if tiles else "fp32"


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
