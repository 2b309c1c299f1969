"""Fisher information on disk: one byte a value, the logarithm to an eighth of an octave.

What is compared of two tasks is the difference of logarithms alone. Similarities of twenty tasks move by 0.0001, the
order of neighbours not at all (`benchmarks/pool_scale.py recall`), and an embedding takes a quarter of the room that
single precision does. Files of single precision, as written before, are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from pitune.errors import InputError

TOPS = "tops"
_STEPS = 8  # an octave; 254 of them reach 9.5 decades below a tensor's largest value
_HIGHEST = 255
_RANGE = (-149 * _STEPS, 128 * _STEPS)  # of single precision
_MEANT = np.exp2(np.arange(_RANGE[0] - _HIGHEST, _RANGE[1]) / _STEPS).astype(np.float32)


def encode_fisher(fisher: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors: codes by name, and for all in order the logarithm that the highest code means.

    Code 0 is zero, and code c > 0 is `2^((top + c − 255) / 8)`. Raise `InputError` naming a tensor that is negative or
    not finite.
    """
    stored, tops = {}, []
    for name in sorted(fisher):
        value = fisher[name].detach().cpu().double()
        if not torch.isfinite(value).all() or (value < 0).any():
            raise InputError(f"Fisher information {name!r} is negative or not finite; embed the task again")
        logs = _STEPS * value.log2()
        top = int(logs.max().clamp_min(_RANGE[0]).round()) if value.numel() else 0
        codes = (logs.round() - top + _HIGHEST).clamp_min(1)
        stored[name] = torch.where(value > 0, codes, 0.0).to(torch.uint8).contiguous()
        tops.append(top)
    return safetensors.torch.save({**stored, TOPS: torch.tensor(tops, dtype=torch.int16)})


def decode_fisher(stored: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors in single precision that codes mean; raise `InputError` if they are malformed.

    Tensors without codes come back as they are.
    """
    if TOPS not in stored:
        return dict(stored)
    names = sorted(stored.keys() - {TOPS})
    tops = stored[TOPS]
    if tops.dtype != torch.int16 or tops.shape != (len(names),) or any(stored[n].dtype != torch.uint8 for n in names):
        raise InputError(f"{where}: its codes are malformed; embed the task again")
    if any(not _RANGE[0] <= top < _RANGE[1] for top in tops.tolist()):
        raise InputError(f"{where}: its codes mean numbers that single precision does not hold; embed the task again")
    return {name: _values(stored[name], top) for name, top in zip(names, tops.tolist(), strict=True)}


def _values(codes: Tensor, top: int) -> Tensor:
    first = top - _RANGE[0]
    meant = _MEANT[first : first + _HIGHEST + 1].copy()
    meant[0] = 0.0
    return torch.from_numpy(np.asarray(meant[codes.numpy()]))
