"""Read experts from disk: PEFT's layout, and `expert.json` with the hash of every file. Loading executes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors

from pitune.errors import InputError
from pitune.experts.card import Card
from pitune.experts.expert import CONFIG, FISHER, PREFIX, RECORD, WEIGHTS, Expert
from pitune.experts.kind import Kind, read_settings
from pitune.experts.registry import KINDS
from pitune.files import sha256_bytes


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    method: str
    config: dict[str, Any]
    card: Card
    files: dict[Literal["adapter_config.json", "adapter_model.safetensors", "fisher.safetensors", "README.md"], str]
    package: str = Field(default="", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}|", description="adds the kind of expert")


def check_name(name: str) -> str:
    """Return `name` if it may name an expert; raise `InputError` if not."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        expected = "1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        raise InputError(f"{name!r} cannot name an expert; expected {expected}")
    return name


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
    kind = _kind(record, folder)
    settings = read_settings(kind, record.config, str(folder / RECORD))
    stored = _decode(folder / WEIGHTS, data[WEIGHTS])
    tensors = {tensor.removeprefix(PREFIX): value for tensor, value in stored.items()}
    for tensor, value in tensors.items():
        if not torch.isfinite(value).all():
            raise InputError(f"{folder / WEIGHTS}: tensor {tensor!r} holds values that are not finite; train it again")
    fisher = _decode(folder / FISHER, data[FISHER]) if FISHER in data else None
    return Expert(kind, settings, tensors, record.card, fisher)


def _kind(record: _Record, folder: Path) -> Kind:
    """Return a record's kind of expert; only what is installed is ever imported, whatever a file says."""
    if record.method not in KINDS.names() and record.package:
        raise InputError(
            f"{folder / RECORD}: experts of kind {record.method!r} come with the package {record.package}; "
            f"install it (pip install {record.package}) if you trust it"
        )
    return KINDS.get(record.method)


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
