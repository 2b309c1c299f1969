"""Experts on disk: PEFT's layout, and `expert.json` with the hash of every file. Loading executes nothing."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from pitune.errors import InputError
from pitune.experts.expert import Card, Expert
from pitune.experts.kind import read_config
from pitune.experts.registry import get_method
from pitune.files import json_bytes, sha256_bytes

RECORD = "expert.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FISHER = "fisher.safetensors"
README = "README.md"
_PREFIX = "base_model.model."


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    method: str
    config: dict[str, Any]
    card: Card
    files: dict[Literal["adapter_config.json", "adapter_model.safetensors", "fisher.safetensors", "README.md"], str]


def check_name(name: str) -> str:
    """Return `name` if it may name an expert; raise `InputError` if not."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        expected = "1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        raise InputError(f"{name!r} cannot name an expert; expected {expected}")
    return name


def digest(expert: Expert) -> str:
    """Return the SHA-256 of an expert's weights as they are stored."""
    return sha256_bytes(weights(expert))


def save_expert(expert: Expert, folder: Path) -> None:
    """Write an expert as one folder, whole or not at all; an expert that was there is replaced.

    Raise `InputError` if `folder` exists and is something else.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and ((folder / RECORD).is_file() or not any(folder.iterdir()))):
        raise InputError(f"{folder}: exists and is not an expert; choose another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, data in _encode(expert).items():
            with (beside / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        beside.chmod(0o755)
        _put(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def load_expert(folder: str | Path) -> Expert:
    """Read an expert; raise `InputError` naming the file that is missing, altered or malformed."""
    folder = Path(folder)
    record = _read_record(folder)
    data: dict[str, bytes] = {}
    for name, expected in record.files.items():
        data[name] = _read(folder / name)
        found = sha256_bytes(data[name])
        if found != expected:
            problem = f"altered or cut short: found sha256 {found[:16]}…, expected {expected[:16]}…"
            raise InputError(f"{folder / name}: {problem}; fetch or train the expert again")
    if missing := {CONFIG, WEIGHTS} - data.keys():
        raise InputError(f"{folder / RECORD}: does not list {sorted(missing)[0]}; train the expert again")
    method = get_method(record.method)
    read_config(method, record.config, str(folder / RECORD))
    stored = _decode(folder / WEIGHTS, data[WEIGHTS])
    tensors = {tensor.removeprefix(_PREFIX): value for tensor, value in stored.items()}
    for tensor, value in tensors.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{folder / WEIGHTS}: tensor {tensor!r} holds values that are not finite; train it again")
    fisher = _decode(folder / FISHER, data[FISHER]) if FISHER in data else None
    return Expert(record.method, record.config, tensors, record.card, fisher)


def _put(beside: Path, folder: Path) -> None:
    """Rename a finished folder into place; what was there is put aside first and deleted last."""
    aside = beside.with_name(f"{beside.name}.old")
    if folder.exists():
        os.replace(folder, aside)
    try:
        os.replace(beside, folder)
    except OSError:
        if aside.exists():
            os.replace(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)
    handle = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _encode(expert: Expert) -> dict[str, bytes]:
    files = {
        CONFIG: json_bytes(_adapter_config(expert)),
        WEIGHTS: weights(expert),
        README: readme(expert, "pitune" if peft_json(expert) is None else "peft"),
    }
    if expert.fisher is not None:
        files[FISHER] = safetensors.torch.save({name: value.contiguous() for name, value in expert.fisher.items()})
    record = {
        "schema_version": 1,
        "method": expert.method,
        "config": dict(expert.config),
        "card": expert.card.model_dump(mode="json"),
        "files": {name: sha256_bytes(data) for name, data in files.items()},
    }
    return {**files, RECORD: json_bytes(record)}


def weights(expert: Expert) -> bytes:
    """Return an expert's tensors as safetensors, under the names that PEFT gives them."""
    tensors = {f"{_PREFIX}{name}": value.detach().cpu().contiguous() for name, value in sorted(expert.tensors.items())}
    return safetensors.torch.save(tensors, metadata={"format": "pt"})


def _adapter_config(expert: Expert) -> dict[str, Any]:
    base = {"base_model_name_or_path": expert.card.base_model}
    if (known := peft_json(expert)) is not None:
        return {**known, **base, "inference_mode": True}
    return {"peft_type": f"PITUNE_{expert.method.upper().replace('-', '_')}", **base, **expert.config}


def peft_json(expert: Expert) -> dict[str, Any] | None:
    """Return PEFT's configuration of an expert, or None where plain PEFT cannot load its tensors."""
    method = get_method(expert.method)
    return method.peft(read_config(method, expert.config, f"expert {expert.name!r}"))


def readme(expert: Expert, library: str) -> bytes:
    """Return an expert's model card, in a library that loads it."""
    card = expert.card
    lines = [
        "---",
        f"base_model: {card.base_model}",
        f"library_name: {library}",
        "---",
        f"# {card.name}",
        "",
        f"A {expert.method} expert with {expert.parameters:,} parameters for the task `{card.task}`.",
        "",
        f"- backbone `{card.base_model}`, fingerprint `{card.backbone[:16]}`",
        f"- data `{card.data_hash[:16]}`, shots {'all' if card.shots is None else card.shots}, seed {card.seed}",
    ]
    if card.validation is not None:
        lines.append(f"- {card.metric} on validation data: {card.validation:.4f}")
    lines += [f"- mixed from `{parent.name}` (`{parent.digest[:16]}`)" for parent in card.parents]
    return ("\n".join(lines) + "\n").encode()


def _read(path: Path) -> bytes:
    if path.is_symlink():
        raise InputError(f"{path}: is a link; an expert's files must lie in its own folder")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); expected a file of an expert") from error


def _read_record(folder: Path) -> _Record:
    path = folder / RECORD
    if not path.is_file():
        raise InputError(f"{folder}: is not an expert (no {RECORD}); expected a folder that pitune wrote")
    try:
        return _Record.model_validate_json(_read(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path}: malformed at {field or 'the top'}: {first['msg'].lower()}; fetch it again"
        ) from error


def _decode(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    try:
        # in one order and copied: sums in another order, or over memory aligned otherwise, may round otherwise
        return {name: value.clone() for name, value in sorted(load_safetensors(data).items())}
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error}); fetch or train the expert again") from error
