"""Where experts attach, found by the names that transformers gives to the layers of a block."""

from __future__ import annotations

import re

from torch import nn

from pitune.errors import InputError

_KINDS = {
    "lora": r"(self_attn|encoder_attn|SelfAttention|EncDecAttention)\.(q|k|v|o|q_proj|k_proj|v_proj|o_proj|out_proj)",
    "adapter": r"(self_attn|encoder_attn|SelfAttention|EncDecAttention)\.(o|o_proj|out_proj)"
    r"|(mlp\.|DenseReluDense\.)?(fc2|down_proj|wo)",
}


def find_sites(module: nn.Module, method: str, name: str, where: str = "") -> tuple[str, ...]:
    """Return the linear layers of a model's blocks to which a kind of expert attaches, under names that match `where`.

    Raises `InputError` if the kind is unknown here.
    """
    if method not in _KINDS:
        raise InputError(f"{name} has no place for experts of kind {method!r}; expected {' or '.join(_KINDS)}")
    pattern = re.compile(rf".*\.\d+\.(.*\.)?({_KINDS[method]})")
    return tuple(
        path
        for path, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and path.startswith(where) and pattern.fullmatch(path)
    )
