"""Fisher information on disk: one byte a value, the logarithm to an eighth of an octave.

What is compared of two tasks is the difference of logarithms alone. Similarities of twenty tasks move by 0.0001, the
order of neighbours not at all (`benchmarks/pool_scale.py recall`), and an embedding takes a quarter of the room that
single precision does. Files of single precision, as written before, are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
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


def decode_alike(stored: Sequence[Mapping[str, Mapping[str, Any]]], prefix: str) -> dict[str, Tensor] | None:
    """Return tensors (N, …) of the names that begin so, of N files as `safetensors.deserialize` reads them.

    That is what `decode_fisher` says of each, sooner. None unless all have codes of the same names and shapes.
    """
    first = stored[0]
    layout = {name: ("U8", first[name]["shape"]) for name in first if name != TOPS} | {TOPS: ("I16", [len(first) - 1])}
    if any({name: (one["dtype"], one["shape"]) for name, one in file.items()} != layout for file in stored):
        return None
    tops = np.stack([np.frombuffer(file[TOPS]["data"], np.int16) for file in stored])
    if not ((tops >= _RANGE[0]) & (tops < _RANGE[1])).all():
        return None
    found = {}
    for number, name in enumerate(sorted(layout.keys() - {TOPS})):
        if name.startswith(prefix):
            codes = (np.frombuffer(file[name]["data"], np.uint8) for file in stored)
            values = [_meant(top).take(one) for top, one in zip(tops[:, number].tolist(), codes, strict=True)]
            found[name] = torch.from_numpy(np.stack(values)).view(-1, *first[name]["shape"])
    return found


def _values(codes: Tensor, top: int) -> Tensor:
    return torch.from_numpy(np.asarray(_meant(top).take(codes.numpy())))


@lru_cache(maxsize=512)
def _meant(top: int) -> NDArray[np.float32]:
    """Return what the codes 0 to 255 mean."""
    first = top - _RANGE[0]
    meant = _MEANT[first : first + _HIGHEST + 1].copy()
    meant[0] = 0.0
    return meant
