"""An expert: a flat, named set of tensors, the configuration of its method, and a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pitune.errors import InputError


class Parent(BaseModel):
    """An expert that was mixed into another, and with which weight at each site."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    digest: str
    weights: dict[str, float]


class Card(BaseModel):
    """Where an expert comes from and how good it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    backbone: str = Field(description="fingerprint of the backbone's weights")
    base_model: str = Field(description="name, folder or hub id under which the backbone was loaded")
    task: str = ""
    data_hash: str = ""
    shots: int | None = None
    seed: int = 0
    metric: str = ""
    validation: float | None = None
    hyperparameters: dict[str, Any] = Field(default_factory=dict)
    parents: tuple[Parent, ...] = ()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of all tasks that it was trained on: one, or those of a mixture."""
        named = self.hyperparameters.get("tasks")
        return tuple(map(str, named)) if isinstance(named, list | tuple) else (self.task,)


@dataclass(frozen=True, eq=False)
class Expert:
    """Light parameters for a frozen backbone.

    `tensors` are named by the module they attach to and the parameter, such as
    `encoder.layer.0.attention.self.query.lora_A.weight`; `config` is the method's own.
    `fisher` holds the diagonal Fisher information with the tensors' names and shapes, where it is known.
    Both are on the CPU, wherever the expert was trained; calls of a backbone take them to its device.
    """

    method: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    card: Card
    fisher: Mapping[str, Tensor] | None = None

    @property
    def name(self) -> str:
        """The name under which a pool keeps it."""
        return self.card.name

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(tensor.numel() for tensor in self.tensors.values())

    def save(self, folder: str | Path) -> None:
        """Write the expert as one folder in PEFT's layout, whole or not at all; see `save_expert`."""
        from pitune.experts.storage import save_expert

        save_expert(self, Path(folder))


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
