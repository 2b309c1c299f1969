"""A LoRA as the GGUF that llama.cpp reads beside its base model, written and read back with the `gguf` library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.card import hub_id
from pitune.experts.expert import README, Expert
from pitune.experts.kinds.lora_update import DOWN, UP
from pitune.extras import need
from pitune.files import atomic_folder

ARCHITECTURES: Mapping[str, str] = {
    name: name
    for name in (
        *("cohere2", "gemma", "gemma2", "granite", "llama", "nemotron", "olmo", "olmo2", "phi3", "qwen2", "qwen3"),
        *("seed_oss", "smollm3", "stablelm", "starcoder2"),
    )
} | {"cohere": "command-r", "gemma3_text": "gemma3", "mistral": "llama", "olmo3": "olmo2", "phi": "phi2"}
"""What llama.cpp calls the models whose layers it keeps one by one, by transformers' model type."""
_TURNED = ("granite", "llama", "olmo", "smollm3")  # queries and keys lie as llama.cpp's rotation takes them


def write_gguf(expert: Expert, folder: Path, backbone: Backbone) -> None:
    """Write a LoRA of one rank and scale 1 as `NAME.gguf` in a folder; `InputError` if it does not read back.

    Factors are A (r, in) and B (out, r), in float32, with `adapter.lora.alpha` = r.
    """
    gguf = need("gguf", "gguf")
    config: Any = backbone.module.config
    tensors = _named(gguf, expert, config)
    rank = float(expert.settings.r)  # type: ignore[attr-defined]
    with atomic_folder(folder) as beside:
        path = beside / f"{expert.name}.gguf"
        writer = gguf.GGUFWriter(path, ARCHITECTURES[config.model_type])
        writer.add_type(gguf.GGUFType.ADAPTER)
        writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
        writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, rank)
        writer.add_name(expert.name)
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, hub_id(expert.card.base_model)[0])
        for name, value in tensors.items():
            writer.add_tensor(name, value.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        (beside / README).write_bytes(expert.readme("llama.cpp"))
        _check_read(gguf.GGUFReader(path), tensors, expert.name)


def _named(gguf: Any, expert: Expert, config: Any) -> dict[str, Tensor]:
    """Return the factors under llama.cpp's names, with the rows of queries and keys in its order."""
    architecture = ARCHITECTURES[config.model_type]
    number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(number, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors = {}
    for site in expert.sites:
        called, layer = names.get_name(site), site.rpartition(".")[2]
        if called is None:
            raise InputError(
                f"gguf: llama.cpp's {architecture!r} has no layer for {site!r:.200}; write a whole model (--merged)"
            )
        up = expert.tensors[f"{site}{UP}"]
        if architecture in _TURNED and layer in heads:
            up = up.reshape(heads[layer], 2, -1, up.shape[1]).transpose(1, 2).reshape(up.shape)
        tensors[f"{called}.weight.lora_a"] = expert.tensors[f"{site}{DOWN}"].contiguous()
        tensors[f"{called}.weight.lora_b"] = up.contiguous()
    return tensors


def _check_read(reader: Any, tensors: Mapping[str, Tensor], name: str) -> None:
    """Raise `InputError` unless a reader finds these tensors, all of them and nothing else."""
    read = {one.name: one.data for one in reader.tensors}
    for key in sorted(read.keys() | tensors.keys()):
        if key not in read or key not in tensors or not np.array_equal(read[key], tensors[key].numpy()):
            raise InputError(f"expert {name!r}: not written, {key!r:.200} is read otherwise; update gguf")
