"""Where experts attach, found by the names that transformers gives to the layers of a block."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import nn

Sites = Mapping[str, tuple[str, ...]]

_ATTENTION = r"(self_attn|encoder_attn|SelfAttention|EncDecAttention|attention\.attn)"
_READ = r"attention\.(self\.)?(query|key|value|q_lin|k_lin|v_lin)|attn\.Wqkv"  # of encoders, named in their own ways
_OUT = r"attention\.(output\.dense|out_lin)|attn\.Wo"
_BELOW = r"((mlp|DenseReluDense)\.)?(fc2|down_proj|wo)|mlp\.Wo|ffn\.lin2|(?<!attention\.)output\.dense"
_LINEAR = {
    "attention": rf"{_ATTENTION}\.(q|k|v|o|q_proj|k_proj|v_proj|qkv_proj|o_proj|out_proj|dense)|{_READ}|{_OUT}",
    "keys_values": rf"{_ATTENTION}\.(k|v|k_proj|v_proj)|attention\.(self\.)?(key|value|k_lin|v_lin)",
    "outputs": rf"{_ATTENTION}\.(o|o_proj|out_proj|dense)|{_OUT}|{_BELOW}",
    "feedforward_output": _BELOW,
    "linear": r".*",
}
_OWN_ATTENTION = re.compile(r".*\.\d+\.(.*\.)?(self_attn|SelfAttention|attention\.self)")
_ENCODER_LAYER = re.compile(r"(.*\.)?encoder\.(layers|layer|block)\.\d+")


def find_sites(module: nn.Module, where: str = "") -> Sites:
    """Return a model's submodules by role, those whose names begin with `where`; see `Backbone.sites`.

    Layers are those of encoders alone: a decoder that keeps keys and values would have to read vectors that join
    its input again at every token.
    """
    named = {path: layer for path, layer in module.named_modules() if path.startswith(where)}
    inside = _inside_attention(named)

    def chosen(keep: Callable[[str, nn.Module], bool]) -> tuple[str, ...]:
        return tuple(path for path, layer in named.items() if path not in inside and keep(path, layer))

    sites = {}
    for role, names in _LINEAR.items():
        pattern = re.compile(rf".*\.\d+\.(.*\.)?({names})")
        sites[role] = chosen(lambda path, layer, of=pattern: isinstance(layer, nn.Linear) and _is(of, path))  # type: ignore[misc]
    sites["biased"] = chosen(lambda _, layer: isinstance(layer, nn.Linear | nn.LayerNorm) and layer.bias is not None)
    sites["norms"] = chosen(lambda _, layer: _is_norm(layer))
    sites["attention_modules"] = chosen(lambda path, layer: _is(_OWN_ATTENTION, path) and hasattr(layer, "config"))
    sites["layers"] = chosen(lambda path, _: _is(_ENCODER_LAYER, path))
    return sites


def _is(pattern: re.Pattern[str], path: str) -> bool:
    return pattern.fullmatch(path) is not None


def _is_norm(layer: nn.Module) -> bool:
    own = {name for name, _ in layer.named_parameters()}
    return type(layer).__name__.endswith("Norm") and "weight" in own and own <= {"weight", "bias"}


def _inside_attention(named: Mapping[str, nn.Module]) -> set[str]:
    """Return what lies in PyTorch's own attention, which reads its layers' weights and never calls them."""
    roots = [path for path, layer in named.items() if isinstance(layer, nn.MultiheadAttention)]
    return {path for path in named for root in roots if path.startswith(f"{root}.")}
