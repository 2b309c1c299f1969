"""Folders that open_clip saved: plain ViT CLIPs, read as transformers' CLIP by the names of their parts."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPConfig, CLIPImageProcessorPil

from pitune.errors import InputError

CONFIG = "open_clip_config.json"
_LARGEST = 1 << 20
_USUAL: Mapping[str, Mapping[str, Any]] = {  # what open_clip takes where its configuration says nothing
    "model_cfg": {"embed_dim": 512, "quick_gelu": False},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0},
    "vision_cfg": {
        "image_size": 224,
        "patch_size": 16,
        "width": 768,
        "layers": 12,
        "head_width": 64,
        "mlp_ratio": 4.0,
    },
}
_PLAIN: Mapping[str, Any] = {"pool_type": ("tok", "argmax"), "pos_embed_type": ("learnable",), "proj_type": ("linear",)}
_NO_MATTER = ("vision_cfg", "text_cfg", "custom_text", "init_logit_scale", "cast_dtype", "patch_dropout", "pad_id")
_TOKENIZER = ("hf_tokenizer_name", "tokenizer_kwargs")  # which lies in the folder
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_NAMES = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TURNED = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}


def read_config(folder: Path) -> CLIPConfig:
    """Return transformers' configuration of the same model; raise `InputError` naming what no plain ViT CLIP has."""
    said = _said(folder)
    model, text, vision = (_fields(said, part, folder) for part in ("model_cfg", "text_cfg", "vision_cfg"))
    shared = {"hidden_act": "quick_gelu" if model["quick_gelu"] else "gelu"}
    last = text["vocab_size"] - 1  # a text is read at its largest id, which ends it
    return CLIPConfig(
        text_config={
            **_tower(text, text["heads"]),
            **shared,
            "vocab_size": last + 1,
            "max_position_embeddings": text["context_length"],
            "eos_token_id": last,
            "bos_token_id": last - 1,
            "pad_token_id": last,
        },
        vision_config={
            **_tower(vision, vision["width"] // vision["head_width"]),
            **shared,
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        projection_dim=model["embed_dim"],
    )


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Return the weights under transformers' names; raise `InputError` naming one that no plain ViT CLIP has."""
    files = sorted(folder.glob("*.safetensors"))
    file = next((one for one in files if one.name.startswith("open_clip")), files[0])
    try:
        return _converted(load_file(file))
    except (OSError, KeyError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{file}: cannot be read as a plain ViT CLIP ({error!s:.200}); fetch it again") from error


def image_processor(folder: Path) -> CLIPImageProcessorPil:
    """Return how images are prepared: their shortest side brought to the model's size, the middle cut out."""
    said = _said(folder)
    how, size = said.get("preprocess_cfg") or {}, _fields(said, "vision_cfg", folder)["image_size"]
    if how.get("resize_mode", "shortest") != "shortest" or how.get("interpolation", "bicubic") != "bicubic":
        raise InputError(f"{folder / CONFIG}: prepares images otherwise ({how}); expected shortest and bicubic")
    usual = {"image_mean": how.get("mean"), "image_std": how.get("std")}
    return CLIPImageProcessorPil(
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        **{name: value for name, value in usual.items() if value},
    )


def _said(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError(f"has {file.stat().st_size >> 20} MB")
        said: dict[str, Any] = json.loads(file.read_bytes())
        said["model_cfg"]["text_cfg"].items(), said["model_cfg"]["vision_cfg"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{file}: not a configuration of open_clip ({error!r:.200}); fetch it again") from error
    return said


def _fields(said: Mapping[str, Any], part: str, folder: Path) -> dict[str, Any]:
    """Return one part's numbers; raise `InputError` at a field that a plain model does not have."""
    found = said["model_cfg"] if part == "model_cfg" else said["model_cfg"][part]
    usual = _USUAL[part]
    for name, value in found.items():
        number = isinstance(usual.get(name), int | float) and isinstance(value, int | float)
        if name in usual:
            fine = number and (value > 0 or name == "quick_gelu")
        else:
            fine = name in (*_NO_MATTER, *_TOKENIZER) or not value or value in _PLAIN.get(name, ())
        if not fine:
            raise InputError(f"{folder / CONFIG}: {part}.{name:.80} is {value!r:.80}; expected a plain ViT CLIP")
    return {**usual, **{name: value for name, value in found.items() if name in usual}}


def _tower(of: Mapping[str, Any], heads: int) -> dict[str, int]:
    return {
        "hidden_size": of["width"],
        "intermediate_size": int(of["width"] * of["mlp_ratio"]),
        "num_hidden_layers": of["layers"],
        "num_attention_heads": heads,
    }


def _converted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under transformers' names, with queries, keys and values apart and projections turned."""
    made: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = key.removeprefix("text.")
        if name in _NAMES:
            made[_NAMES[name]] = value
        elif name in _TURNED:
            made[_TURNED[name]] = value.T.contiguous()
        elif block := re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)", name):
            into = f"{'vision' if block[1] else 'text'}_model.encoder.layers.{block[2]}"
            if joined := re.fullmatch(r"attn\.in_proj_(weight|bias)", block[3]):
                for part, own in zip("qkv", value.chunk(3), strict=True):
                    made[f"{into}.self_attn.{part}_proj.{joined[1]}"] = own.contiguous()
            else:
                layer, _, kind = block[3].rpartition(".")
                made[f"{into}.{_BLOCK[layer]}.{kind}"] = value
        elif name != "attn_mask":
            raise KeyError(key)
    return made
