"""An expert: a flat, named set of tensors, the settings of its kind, and a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from pitune.errors import InputError
from pitune.experts.card import Card, base_of
from pitune.experts.fisher_file import encode_fisher
from pitune.experts.kind import Kind, KindSettings, read_settings
from pitune.experts.model_card import model_card
from pitune.experts.registry import KINDS
from pitune.files import atomic_folder, json_bytes, sha256_bytes

RECORD = "expert.json"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
FISHER = "fisher.safetensors"
README = "README.md"
PREFIX = "base_model.model."  # of a tensor's name, as PEFT writes it


@dataclass(frozen=True, eq=False)
class Expert:
    """Light parameters for a frozen backbone.

    `tensors` are named by the module they attach to and the parameter, such as
    `encoder.layer.0.attention.self.query.lora_A.weight`; `settings` are those of its kind.
    `fisher` holds the diagonal Fisher information with the tensors' names and shapes, where it is known; on disk it is
    rounded to an eighth of an octave.
    Both are on the CPU, wherever the expert was trained; calls of a backbone take them to its device.
    """

    kind: Kind
    settings: KindSettings
    tensors: Mapping[str, Tensor]
    card: Card
    fisher: Mapping[str, Tensor] | None = None

    @property
    def name(self) -> str:
        """The name under which a pool keeps it."""
        return self.card.name

    @property
    def method(self) -> str:
        """The name of its kind, such as `lora`."""
        return self.kind.name

    @property
    def config(self) -> dict[str, Any]:
        """Its settings as JSON holds them."""
        return self.settings.model_dump(mode="json")

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    @property
    def sites(self) -> tuple[str, ...]:
        """The submodules that it attaches to, in order."""
        return tuple(dict.fromkeys(self.kind.site(name) for name in self.tensors))

    @property
    def untouched(self) -> bool:
        """Whether it changes nothing: the backbone answers with it as without."""
        return self.kind.untouched(self.settings, self.tensors)

    def noting(self, **more: Any) -> Expert:
        """Return the expert with more hyperparameters in its card, in place of any of the same name."""
        hyperparameters = {**self.card.hyperparameters, **more}
        return replace(self, card=self.card.model_copy(update={"hyperparameters": hyperparameters}))

    def readme(self, exported: str = "") -> bytes:
        """Return its card in words, as its own folder holds it or as one that is `exported` for a library alone."""
        peft = "peft" if self.kind.peft(self.settings) is not None else ""
        return model_card(
            self.card,
            method=self.method,
            config=self.config,
            parameters=self.parameters,
            library=exported or peft or "pitune",
            loads=(exported,) if exported else ("pitune", peft),
        )

    def save(self, folder: str | Path, *, replace: bool = True) -> None:
        """Write the expert as one folder in PEFT's layout, whole or not at all; an expert that was there is replaced.

        Raise `InputError` if `folder` exists and is something else, and `FileExistsError` if an expert is there that is
        not to be replaced: of several processes that save at once, one wins.
        """
        folder = Path(folder)
        if folder.exists() and not (folder.is_dir() and ((folder / RECORD).is_file() or not any(folder.iterdir()))):
            raise InputError(f"{folder}: exists and is not an expert; choose another folder")
        files = encode(self)
        with atomic_folder(folder, replace=replace) as beside:
            for name, data in files.items():
                (beside / name).write_bytes(data)


def expert_of(method: str, config: Mapping[str, Any], tensors: Mapping[str, Tensor], card: Card) -> Expert:
    """Return an expert by its kind's name and its settings as JSON holds them; raise `InputError` if they are wrong."""
    kind = KINDS.get(method)
    return Expert(kind, read_settings(kind, config, f"expert {card.name!r}"), tensors, card)


def check_tensors(expected: Mapping[str, torch.Size], found: Mapping[str, Tensor], where: str) -> None:
    """Raise `InputError` naming the first missing, extra, mis-shaped or non-finite tensor."""
    for name in sorted(expected.keys() - found.keys()):
        raise InputError(f"{where}: tensor {name!r} is missing; expected shape {tuple(expected[name])}")
    for name in sorted(found.keys() - expected.keys()):
        raise InputError(f"{where}: tensor {name!r} is not part of this kind of expert; remove it")
    for name in sorted(expected):
        if found[name].shape != expected[name]:
            shapes = f"found {tuple(found[name].shape)}, expected {tuple(expected[name])}"
            raise InputError(f"{where}: tensor {name!r} has the wrong shape: {shapes}")
        if not torch.isfinite(found[name]).all():
            raise InputError(f"{where}: tensor {name!r} holds values that are not finite; train the expert again")


def digest(expert: Expert) -> str:
    """Return the SHA-256 of an expert's weights as they are stored."""
    return sha256_bytes(weights_bytes(expert.tensors))


def weights_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return tensors as safetensors, under the names that PEFT gives them."""
    named = {f"{PREFIX}{name}": value.detach().cpu().contiguous() for name, value in sorted(tensors.items())}
    return safetensors.torch.save(named, metadata={"format": "pt"})


def encode(expert: Expert, card: bytes | None = None) -> dict[str, bytes]:
    """Return an expert's files by name; a `card` given takes the README's place, and may change without the record."""
    peft = expert.kind.peft(expert.settings)
    base = base_of(expert.card)
    if peft is None:
        config = {"peft_type": f"PITUNE_{expert.method.upper().replace('-', '_')}", **base, **expert.config}
    else:
        config = {**peft, **base, "inference_mode": True}
    files = {CONFIG: json_bytes(config), WEIGHTS: weights_bytes(expert.tensors), README: card or expert.readme()}
    if expert.fisher is not None:
        files[FISHER] = encode_fisher(expert.fisher)
    package = KINDS.package(expert.method)
    record = {
        "schema_version": 1,
        "method": expert.method,
        "config": expert.config,
        "card": expert.card.model_dump(mode="json"),
        "files": {name: sha256_bytes(data) for name, data in files.items() if name != README or card is None},
        **({"package": package} if package else {}),
    }
    return {**files, RECORD: json_bytes(record)}
