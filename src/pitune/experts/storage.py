"""Read experts from disk: PEFT's layout, and `expert.json` with the hash of every file. Loading executes nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError, deserialize
from safetensors.torch import load as load_safetensors

from pitune.errors import InputError, first_problem
from pitune.experts.card import Card, check_numbers
from pitune.experts.expert import CONFIG, FISHER, PREFIX, RECORD, WEIGHTS, Expert
from pitune.experts.fisher_file import TOPS, decode_alike, decode_fisher
from pitune.experts.kind import Kind, read_settings
from pitune.experts.registry import KINDS
from pitune.files import opened, sha256_bytes
from pitune.tasks.formats.parsing import json_value

_RESERVED = r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\."
_LARGEST = 1e15  # of a weight; those of trained experts stay below 1e3
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: Annotated[int, Field(strict=True, ge=1, le=1)] = 1
    method: str
    config: Annotated[dict[str, Any], AfterValidator(check_numbers)]
    card: Card
    files: dict[Literal["adapter_config.json", "adapter_model.safetensors", "fisher.safetensors", "README.md"], str]
    package: str = Field(default="", pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}|", description="adds the kind of expert")


def check_name(name: str) -> str:
    """Return `name` if it may name an expert; raise `InputError` if not."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", name):
        expected = "1 to 64 of a-z, 0-9, '.', '_', '-', starting with a letter or digit"
        raise InputError(f"{name!r} cannot name an expert; expected {expected}")
    if re.fullmatch(_RESERVED, name):
        raise InputError(f"{name!r} cannot name an expert: some systems keep it for themselves; choose another name")
    return name


def files_of(folder: Path) -> list[str]:
    """Return the names of the files that an expert's record lists; raise `InputError` if it is malformed."""
    return list(_read_record(folder).files)


def record_hash(folder: Path) -> str:
    """Return the SHA-256 of an expert's record, which holds that of its files; raise `InputError` if there is none."""
    return sha256_bytes(_read(folder / RECORD))


def load_expert(folder: str | Path) -> Expert:
    """Read an expert; raise `InputError` naming the file that is missing, altered or malformed."""
    folder = Path(folder)
    record = _read_record(folder)
    data: dict[str, bytes] = {name: _verified(folder / name, expected) for name, expected in record.files.items()}
    if missing := {CONFIG, WEIGHTS} - data.keys():
        raise InputError(f"{folder / RECORD}: does not list {sorted(missing)[0]}; train the expert again")
    kind = _kind(record, folder)
    settings = read_settings(kind, record.config, str(folder / RECORD))
    stored = _weights(folder / WEIGHTS, decode(folder / WEIGHTS, data[WEIGHTS]))
    tensors = {tensor.removeprefix(PREFIX): value for tensor, value in stored.items()}
    kind.check(settings, tensors, str(folder / RECORD))
    fisher = _fisher(folder / FISHER, data[FISHER]) if FISHER in data else None
    return Expert(kind, settings, tensors, record.card, fisher)


def load_fisher(folder: str | Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """Read the Fisher information alone of an expert that was loaded before, of tensors whose names begin so.

    It is not hashed again. Raise `InputError` if there is none, or it is malformed.
    """
    path = Path(folder) / FISHER
    stored = decode(path, read_file(path))
    if TOPS in stored:
        wanted = [name.startswith(prefix) for name in stored if name != TOPS]
        stored[TOPS] = stored[TOPS][torch.tensor(wanted)]
    return decode_fisher({name: v for name, v in stored.items() if name.startswith(prefix) or name == TOPS}, str(path))


def load_fishers(folders: Sequence[str | Path], prefix: str = "") -> dict[str, torch.Tensor]:
    """Read what `load_fisher` does of N experts whose tensors have the same names and shapes, as tensors (N, …)."""
    with suppress(SafetensorError):
        files = [dict(deserialize(read_file(Path(folder) / FISHER))) for folder in folders]  # type: ignore[no-untyped-call]
        if (found := decode_alike(files, prefix)) is not None:
            return found
    each = [load_fisher(folder, prefix) for folder in folders]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def _verified(path: Path, expected: str) -> bytes:
    """Return a file's bytes; raise `InputError` unless their SHA-256 is the record's."""
    data = _read(path)
    found = sha256_bytes(data)
    if found != expected:
        problem = f"altered or cut short: found sha256 {found[:16]}…, expected {expected[:16]}…"
        raise InputError(f"{path}: {problem}; fetch or train the expert again")
    return data


def _fisher(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    fisher = _numbers(path, decode_fisher(decode(path, data), str(path)))
    if negative := [tensor for tensor, value in fisher.items() if (value < 0).any()]:
        raise InputError(f"{path}: {negative[0]!r:.200} has values below zero; embed the task again")
    return fisher


def _numbers(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of an expert's file; raise `InputError` unless all are finite floats that layers take."""
    for tensor, value in tensors.items():
        if value.dtype not in _DTYPES:
            expected = ", ".join(str(one).removeprefix("torch.") for one in _DTYPES)
            found = str(value.dtype).removeprefix("torch.")
            raise InputError(
                f"{path}: tensor {tensor!r:.200} holds {found} values; expected {expected}; train it again"
            )
        if not torch.isfinite(value).all():
            raise InputError(f"{path}: tensor {tensor!r:.200} holds values that are not finite; train it again")
    return tensors


def _weights(path: Path, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return an expert's tensors; raise `InputError` unless they are of one format and their products are finite."""
    for tensor, value in _numbers(path, tensors).items():
        if value.numel() and float(value.abs().max()) > _LARGEST:
            found = f"tensor {tensor!r:.200} holds values above {_LARGEST:g}"
            raise InputError(f"{path}: {found}, of which products overflow; train it again")
    formats = sorted({str(value.dtype).removeprefix("torch.") for value in tensors.values()})
    if len(formats) > 1:
        raise InputError(f"{path}: holds {' and '.join(formats)} values; expected one format; train it again")
    return tensors


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
    return read_file(path)


def read_file(path: Path, most: int | None = None) -> bytes:
    """Return a regular file's bytes; raise `InputError` for what is none, such as a pipe, or is larger than `most`."""
    try:
        with opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            if most is not None and size > most:
                raise InputError(f"{path}: has {size >> 20} MB; expected at most {most >> 20}")
            return file.read()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason}); expected a file of an expert") from error


def _read_record(folder: Path) -> _Record:
    path = folder / RECORD
    if not os.path.lexists(path):
        raise InputError(f"{folder}: is not an expert (no {RECORD}); expected a folder that pitune wrote")
    try:
        return _Record.model_validate(json_value(_read(path)))
    except ValidationError as error:
        raise InputError(f"{path}: malformed at {first_problem(error)}; fetch it again") from error
    except ValueError as error:
        raise InputError(f"{path}: malformed ({error!s:.200}); fetch it again") from error


def decode(path: Path, data: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file's bytes, by name in order; raise `InputError` if it is none."""
    try:
        # in one order and copied: sums in another order, or over memory aligned otherwise, may round otherwise
        return {name: value.clone() for name, value in sorted(load_safetensors(data).items())}
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: not a safetensors file ({reason:.200}); fetch or train it again") from error
