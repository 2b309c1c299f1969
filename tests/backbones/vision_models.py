"""Tiny models that read images among text, as checkpoints in the real format, one writer a type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from tests.backbones.tiny_parts import WIDTH, tokenizer, tower
from transformers import (
    CONFIG_MAPPING,
    AutoModelForImageTextToText,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    Gemma3ImageProcessorPil,
    Idefics2ImageProcessorPil,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
)

MARKS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def configured(model_type: str, **fields: Any) -> Any:
    return CONFIG_MAPPING[model_type](**fields)


def text_of(words: Any, model_type: str, **own: Any) -> dict[str, Any]:
    usual = {"vocab_size": len(words), "max_position_embeddings": 128, "num_key_value_heads": 1, "head_dim": 8}
    return {"model_type": model_type, **tower(), **usual, **MARKS, **own}


def save(folder: Path, config: Any, words: Any, processor: Any) -> None:
    model = AutoModelForImageTextToText.from_config(config)
    for value in model.parameters():
        if value.ndim > 1 and not value.any():  # Gemma's projection of images starts at nothing
            torch.nn.init.normal_(value)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    processor.save_pretrained(folder)


def write_llava(folder: Path) -> None:
    words = tokenizer(("<image>",))
    config = configured(
        "llava",
        text_config=text_of(words, "llama"),
        vision_config={"model_type": "clip_vision_model", **tower(image_size=16, patch_size=8)},
        image_token_index=4,
        vision_feature_layer=-1,
    )
    size = {"height": 16, "width": 16}
    save(folder, config, words, CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size))


def write_paligemma(folder: Path) -> None:
    words = tokenizer(("<image>",))
    config = configured(
        "paligemma",
        text_config=text_of(words, "gemma"),
        vision_config={"model_type": "siglip_vision_model", **tower(image_size=16, patch_size=8)},
        image_token_index=4,
        projection_dim=WIDTH,
        **MARKS,
    )
    save(folder, config, words, SiglipImageProcessorPil(size={"height": 16, "width": 16}))


def write_gemma3(folder: Path) -> None:
    words = tokenizer(("<image_soft_token>", "<start_of_image>", "<end_of_image>"))
    config = configured(
        "gemma3",
        text_config=text_of(
            words, "gemma3_text", sliding_window=8, layer_types=["sliding_attention", "full_attention"]
        ),
        vision_config={"model_type": "siglip_vision_model", **tower(image_size=16, patch_size=4)},
        mm_tokens_per_image=4,
        image_token_index=4,
        boi_token_index=5,
        eoi_token_index=6,
    )
    save(folder, config, words, Gemma3ImageProcessorPil(size={"height": 16, "width": 16}))


def write_idefics2(folder: Path) -> None:
    words = tokenizer(("<image>", "<fake_token_around_image>", "<end_of_utterance>"))
    config = configured(
        "idefics2",
        text_config=text_of(words, "mistral", sliding_window=None),
        vision_config=tower(image_size=16, patch_size=4),
        perceiver_config={
            "hidden_size": WIDTH,
            "resampler_n_latents": 3,
            "resampler_depth": 1,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 1,
        },
        image_token_id=4,
    )
    size = {"shortest_edge": 8, "longest_edge": 16}
    save(folder, config, words, Idefics2ImageProcessorPil(size=size, do_image_splitting=False))


def write_qwen2_vl(folder: Path, model_type: str = "qwen2_vl", **vision: Any) -> None:
    words = tokenizer(("<|image_pad|>", "<|vision_start|>", "<|vision_end|>", "<|video_pad|>"))
    spaces = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = configured(
        model_type,
        text_config={**text_of(words, "qwen2"), "model_type": f"{model_type}_text", "rope_parameters": spaces},
        vision_config={"depth": 2, "num_heads": 2, "patch_size": 4, "hidden_size": WIDTH, **vision},
        image_token_id=4,
        vision_start_token_id=5,
        vision_end_token_id=6,
        video_token_id=7,
        **MARKS,
    )
    size = {"shortest_edge": 64, "longest_edge": 400}
    save(folder, config, words, Qwen2VLImageProcessorPil(size=size, patch_size=4, merge_size=2))


def write_qwen2(folder: Path) -> None:
    write_qwen2_vl(folder, embed_dim=WIDTH, mlp_ratio=2)


def write_qwen2_5(folder: Path) -> None:
    own = {"out_hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "window_size": 16, "fullatt_block_indexes": [1]}
    write_qwen2_vl(folder, "qwen2_5_vl", **own)


def write_blip_2(folder: Path) -> None:
    words = tokenizer(("<image>",))
    opt = {
        "model_type": "opt",
        "vocab_size": len(words),
        "hidden_size": WIDTH,
        "word_embed_proj_dim": WIDTH,
        "ffn_dim": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 128,
    }
    config = configured(
        "blip-2",
        vision_config=tower(image_size=16, patch_size=8, initializer_range=0.3),
        qformer_config={**tower(encoder_hidden_size=WIDTH, initializer_range=0.5), "cross_attention_frequency": 1},
        text_config={**opt, **MARKS},
        num_query_tokens=3,
        initializer_range=0.5,
        image_token_index=4,
    )
    save(folder, config, words, BlipImageProcessorPil(size={"height": 16, "width": 16}))


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "llava": write_llava,
    "paligemma": write_paligemma,
    "gemma3": write_gemma3,
    "idefics2": write_idefics2,
    "qwen2_vl": write_qwen2,
    "qwen2_5_vl": write_qwen2_5,
    "blip-2": write_blip_2,
}
