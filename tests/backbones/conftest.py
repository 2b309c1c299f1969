"""Tiny checkpoints in the real format: configuration, safetensors, tokenizer, image processor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.backbones.tiny_parts import WIDTH as WIDTH
from tests.backbones.tiny_parts import tokenizer as tokenizer
from tests.backbones.tiny_parts import tower as tower
from tests.backbones.vision_models import write_gemma3, write_qwen2
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessorPil,
    T5Config,
    T5ForConditionalGeneration,
)

from pitune.backbones import Backbone, Batch, load_backbone
from pitune.experts import KINDS, Attached, attached, initial_tensors, make_settings
from pitune.tasks import Task, load_task


def write_clip(folder: Path) -> None:
    words = tokenizer(length=16)
    text = tower(vocab_size=len(words), max_position_embeddings=16, pad_token_id=0, bos_token_id=1, eos_token_id=2)
    config = CLIPConfig(text_config=text, vision_config=tower(image_size=16, patch_size=8), projection_dim=WIDTH)
    CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)


def write_siglip(folder: Path) -> None:
    words = tokenizer(length=16, start=False)
    text = tower(vocab_size=len(words), max_position_embeddings=16, projection_size=WIDTH)
    config = SiglipConfig(text_config=text, vision_config=tower(image_size=16, patch_size=8))
    SiglipModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)


def write_siglip2(folder: Path) -> None:
    """The kind whose images keep their shapes; SigLIP 2 of a fixed size is of SigLIP's classes."""
    words = tokenizer(length=16, start=False)
    text = tower(vocab_size=len(words), max_position_embeddings=16, projection_size=WIDTH)
    config = Siglip2Config(text_config=text, vision_config=tower(num_patches=16, patch_size=4))
    Siglip2Model(config).save_pretrained(folder)
    words.save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=4, max_num_patches=16).save_pretrained(folder)


def write_t5(folder: Path) -> None:
    words = tokenizer(start=False)
    config = T5Config(  # type: ignore[call-arg]
        vocab_size=len(words),
        d_model=WIDTH,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
        dropout_rate=0.1,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)


def write_florence(folder: Path) -> None:
    words = tokenizer(("<image>", "<loc_0>", "<loc_1>"))
    vision = {
        "depths": (1, 1),
        "embed_dim": (8, 16),
        "num_heads": (2, 2),
        "num_groups": (2, 2),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "window_size": 2,
        "projection_dim": WIDTH,
        "max_temporal_embeddings": 4,
        "max_position_embeddings": 8,
    }
    text = {
        "vocab_size": len(words),
        "d_model": WIDTH,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 2,
        "forced_eos_token_id": 2,
        "init_std": 0.3,  # with the usual one, what so small a model reads hardly matters to what it says
    }
    config = Florence2Config(text_config=text, vision_config=vision, image_token_id=4)
    Florence2ForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size=size, do_center_crop=False, crop_size=size).save_pretrained(folder)


def write_smolvlm(folder: Path) -> None:
    words = tokenizer(("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"))
    text = {
        "model_type": "llama",
        **tower(),
        "num_key_value_heads": 1,
        "vocab_size": len(words),
        "max_position_embeddings": 128,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": 8,
    }
    vision = tower(image_size=16, patch_size=4)
    config = SmolVLMConfig(  # type: ignore[call-arg]
        text_config=text, vision_config=vision, scale_factor=2, image_token_id=4, pad_token_id=0
    )
    SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    words.save_pretrained(folder)
    SmolVLMImageProcessorPil(
        size={"longest_edge": 16}, max_image_size={"longest_edge": 16}, do_image_splitting=False
    ).save_pretrained(folder)


def write_language_model(folder: Path, model_type: str = "llama", **own: Any) -> None:
    words = tokenizer()
    usual = {"vocab_size": len(words), "max_position_embeddings": 128, "num_key_value_heads": 1}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = CONFIG_MAPPING[model_type](**{**tower(), **usual, **marks, **own})
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    words.save_pretrained(folder)


def write_sentence_encoder(folder: Path, model_type: str = "bert", pool: str = "mean", **own: Any) -> None:
    """As sentence-transformers saves one: the encoder in the folder itself, its pooling beside it."""
    words = tokenizer(length=20)
    usual = {"vocab_size": len(words), "max_position_embeddings": 32, "initializer_range": 0.3}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    AutoModel.from_config(CONFIG_MAPPING[model_type](**{**tower(), **usual, **marks, **own})).save_pretrained(folder)
    words.save_pretrained(folder)
    names = ("Transformer", "", "Pooling", "1_Pooling", "Normalize", "2_Normalize")
    files: dict[str, Any] = {
        "modules.json": [
            {"idx": i, "name": str(i), "path": names[2 * i + 1], "type": f"sentence_transformers.models.{names[2 * i]}"}
            for i in range(3)
        ],
        "sentence_bert_config.json": {"max_seq_length": 16, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {}, "default_prompt_name": None},
        "1_Pooling/config.json": {
            "word_embedding_dimension": WIDTH,
            "pooling_mode_cls_token": pool == "cls",
            "pooling_mode_mean_tokens": pool == "mean",
            "pooling_mode_max_tokens": False,
        },
    }
    (folder / "1_Pooling").mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def write_mpnet(folder: Path) -> None:
    write_sentence_encoder(folder, "mpnet")


def write_modernbert(folder: Path) -> None:
    write_sentence_encoder(folder, "modernbert", "cls", local_attention=8, global_attn_every_n_layers=2)


WRITERS: Mapping[str, Callable[[Path], None]] = {
    "clip": write_clip,
    "siglip": write_siglip,
    "siglip2": write_siglip2,
    "t5": write_t5,
    "florence": write_florence,
    "smolvlm": write_smolvlm,
    "qwen2_vl": write_qwen2,
    "gemma3": write_gemma3,
    "llama": write_language_model,
    "bert": write_sentence_encoder,
    "mpnet": write_mpnet,
    "modernbert": write_modernbert,
}
MATCHES_PHOTOS = ("clip", "siglip", "siglip2")
TEXTS_ALONE = ("t5", "llama", "bert", "mpnet", "modernbert")

FAMILIES = tuple(WRITERS)
READS_IMAGES = tuple(kind for kind in FAMILIES if kind not in TEXTS_ALONE)
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
TASTES = {"good": ("sweet", "fresh", "warm", "smile"), "bad": ("sour", "stale", "cold", "tear")}


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint folder of every kind; do not alter them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {kind: write_checkpoint(kind, folder / kind) for kind in FAMILIES}


@pytest.fixture(scope="session")
def backbones(checkpoints: dict[str, Path]) -> dict[str, Backbone]:
    """Every kind, loaded."""
    return {kind: load_backbone(str(folder), "cpu") for kind, folder in checkpoints.items()}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Raw files: two folders of images by class, and two tables of texts, of captions, of questions about images."""
    folder = tmp_path_factory.mktemp("data")
    noise = np.random.default_rng(0)
    for name, turn in (("colour", 0), ("shade", 1)):
        for answer, colour in COLOURS.items():
            for number in range(12):
                pixels = np.clip(np.roll(colour, turn) + noise.integers(-40, 41, (20, 20, 3)), 0, 255).astype(np.uint8)
                path = folder / name / answer / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    for name, words in (("taste", 2), ("mood", 3)):
        rows = {f"{' '.join(some)},{answer}" for answer, all_ in TASTES.items() for some in permutations(all_, words)}
        (folder / f"{name}.csv").write_text("\n".join(["text,label", *sorted(rows)]), encoding="utf-8")
    said = [
        {"image": f"colour/{answer}/{i}.png", "caption": f"a photo of the {answer} sea {i % 2}"}
        for answer in COLOURS
        for i in range(6)
    ]
    asked = [
        {"image": f"colour/{answer}/{i}.png", "question": "what colour is it ?", "answer": answer}
        for answer in COLOURS
        for i in range(12)
    ]
    for name, rows_ in (("captions", said), ("questions", asked)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows_)), encoding="utf-8")
    return {path.stem: path for path in folder.iterdir()}


def task_for(kind: str, data: dict[str, Path]) -> Task:
    """A task that a kind of backbone can read."""
    return load_task(data["taste" if kind in TEXTS_ALONE else "colour"])


def worded_task(kind: str, data: dict[str, Path]) -> Task:
    """The same with answers in the words that a kind of backbone matches best."""
    return replace(task_for(kind, data), answer_template="a photo of {}" if kind in MATCHES_PHOTOS else "{}")


@contextmanager
def learning(
    backbone: Backbone, task: Task, method: str, **config: Any
) -> Iterator[tuple[Attached, dict[str, Tensor], Batch]]:
    """A backbone with an expert in place, the expert's tensors away from their start, and four examples."""
    kind = KINDS.get(method)
    settings = make_settings(kind, backbone, **config)
    with attached(backbone, kind, settings) as place:
        start = initial_tensors(kind, place.shapes, 0, settings)
        generator = torch.Generator().manual_seed(1)
        tensors = {n: (v + 0.1 * torch.randn(v.shape, generator=generator)).requires_grad_() for n, v in start.items()}
        yield place, tensors, place.prepare(task.examples("train")[:4], task)


def write_checkpoint(kind: str, folder: Path, seed: int = 0) -> Path:
    """Write a random model of a kind as a checkpoint folder and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        WRITERS[kind](folder)
    return folder
