"""A checkpoint folder: what family it is of, what identifies its weights, and loading that runs no code of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, CLIPModel, PretrainedConfig

from pitune.backbones import open_clip_files
from pitune.errors import InputError
from pitune.extras import need
from pitune.files import sha256_bytes, sha256_file

_WANTED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
_HUB_ID = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?"
_SHOWN = 5  # fields of a configuration that is none
_LARGEST_JSON = 1 << 20
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_HELD: dict[str, dict[str, Any]] = {  # bitsandbytes' settings by format
    "int8": {"load_in_8bit": True},
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": torch.bfloat16},
}


@dataclass(frozen=True)
class Checkpoint:
    """A folder with a configuration and safetensors; `name` says where it came from, with the hub's commit.

    `held` is the format that linear layers are held in, `int8` or `nf4`, where it is not that of the rest.
    """

    name: str
    folder: Path
    revision: str
    config: PretrainedConfig
    held: str | None = None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 over the weights' files, by name, and the revision; `:nf4` after it says how they are held."""
        files = {file.name: sha256_file(file) for file in sorted(self.folder.glob("*.safetensors"))}
        whole = sha256_bytes(json.dumps([files, self.revision], sort_keys=True).encode())
        return f"{whole}:{self.held}" if self.held else whole

    def model(self, kind: Any, dtype: torch.dtype, **more: Any) -> Any:
        """Load the weights into transformers' class for them; raise `InputError` if they do not fit it."""
        where: dict[str, Any] = {"pretrained_model_name_or_path": self.folder}
        if _is_open_clip(self.folder):
            kind, tensors = CLIPModel, open_clip_files.read_tensors(self.folder)
            where = {"pretrained_model_name_or_path": None, "config": self.config, "state_dict": tensors}
        if self.held is not None:
            need("bitsandbytes", "quantised")
            from transformers import BitsAndBytesConfig

            where["quantization_config"] = BitsAndBytesConfig(**_HELD[self.held])  # type: ignore[no-untyped-call]
        try:
            loaded, report = kind.from_pretrained(**where, dtype=dtype, output_loading_info=True, **{**_CLOSED, **more})
        except (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError) as error:
            raise InputError(f"{self.folder}: cannot be loaded ({_first_line(error)})") from error
        missing = sorted(report["missing_keys"])
        if missing:
            raise InputError(
                f"{self.folder}: the weights lack {missing[0]!r} and {len(missing) - 1} more; fetch them again"
            )
        return loaded

    def json(self, name: str) -> Any:
        """Return what a JSON file of the folder holds, None if there is none; raise `InputError` if it is malformed."""
        file = self.folder / name
        if not file.is_file():
            return None
        if file.stat().st_size > _LARGEST_JSON:
            raise InputError(f"{file}: has {file.stat().st_size >> 20} MB; expected at most {_LARGEST_JSON >> 20}")
        try:
            return json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file}: not JSON ({_first_line(error)}); fetch it again") from error

    def tokenizer(self) -> Any:
        """Load the tokenizer; raise `InputError` if there is none."""
        return self._part(AutoTokenizer, "tokenizer")

    def image_processor(self) -> Any:
        """Load the image processor in its PIL form; raise `InputError` if there is none."""
        if _is_open_clip(self.folder):
            return open_clip_files.image_processor(self.folder)
        return self._part(AutoImageProcessor, "image processor", backend="pil")

    def _part(self, kind: Any, called: str, **more: Any) -> Any:
        try:
            return kind.from_pretrained(self.folder, trust_remote_code=False, local_files_only=True, **more)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise InputError(f"{self.folder}: has no {called} that can be loaded ({_first_line(error)})") from error


_CLOSED: dict[str, Any] = {"trust_remote_code": False, "use_safetensors": True, "local_files_only": True}


def read_dtype(name: str | None) -> tuple[torch.dtype, str | None]:
    """Return a number format by name, and that of linear layers where they are held in fewer bits (QLoRA's `nf4`).

    What is beside such layers, and what they compute, is in bfloat16. Raise `InputError` if the name is unknown.
    """
    if name in _HELD:
        return torch.bfloat16, name
    if name is not None and name not in _DTYPES:
        raise InputError(f"unknown number format {name!r}; expected one of: {', '.join((*_DTYPES, *_HELD))}")
    return _DTYPES[name or "float32"], None


def is_checkpoint(name: str) -> bool:
    """Return whether a name is a folder's or has the form of a hub id."""
    return Path(name).is_dir() or re.fullmatch(_HUB_ID, name) is not None


def open_checkpoint(name: str) -> Checkpoint:
    """Open a local folder, `OWNER/NAME` or `OWNER/NAME@REVISION` of the hub, as far as its configuration.

    Raises `InputError` if there is none, or it is of no kind that transformers knows by itself.
    """
    folder, revision = Path(name), ""
    if not folder.is_dir():
        folder = _fetch(name, ("config.json", open_clip_files.CONFIG))
        revision = folder.name  # the commit, whatever branch or tag was asked for
        name = f"{name.split('@')[0]}@{revision}"
    if _is_open_clip(folder):
        return Checkpoint(name, folder, revision, open_clip_files.read_config(folder))
    return Checkpoint(name, folder, revision, _read_config(folder / "config.json"))


def _is_open_clip(folder: Path) -> bool:
    return (folder / open_clip_files.CONFIG).is_file() and not (folder / "config.json").is_file()


def with_weights(found: Checkpoint) -> Checkpoint:
    """Return a checkpoint with all its files; raise `InputError` if its weights are not in safetensors."""
    folder = _fetch(found.name, _WANTED) if found.revision else found.folder
    if not list(folder.glob("*.safetensors")):
        raise InputError(f"{folder}: has no *.safetensors; convert the weights, other formats can run code when loaded")
    return replace(found, folder=folder)


def _read_config(file: Path) -> PretrainedConfig:
    try:
        fields = json.loads(file.read_bytes())
        named = "model_type" in fields
    except FileNotFoundError as error:
        raise InputError(
            f"{file.parent}: has no config.json; expected a checkpoint that transformers or open_clip saved"
        ) from error
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{file}: not JSON ({_first_line(error)}); fetch it again") from error
    if not named:
        found = ", ".join(map(str, list(fields)[:_SHOWN])) or "nothing"
        raise InputError(f"{file}: names no model_type (it has {found:.200}); expected one that transformers saved")
    try:
        config: PretrainedConfig = AutoConfig.from_pretrained(
            file.parent, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # a configuration is code of transformers that runs on whatever the file says
        raise InputError(f"{file}: not a known configuration ({_first_line(error)})") from error
    return config


def _fetch(name: str, wanted: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None, allow_patterns=list(wanted)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise InputError(f"backbone {name!r}: cannot be fetched from the hub ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
