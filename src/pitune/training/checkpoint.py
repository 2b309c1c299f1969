"""What a run needs to go on where it stopped: numbers in safetensors, nothing that executes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pitune.errors import InputError
from pitune.files import write_atomic

FILE = "checkpoint.safetensors"


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    best_step: int = -1
    best_value: float = float("-inf")
    best_losses: list[float] = field(default_factory=list)
    best_loss: float = float("inf")
    since_best: int = 0
    done: bool = False
    stopped: int | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    scale: dict[str, Any] = field(default_factory=dict)  # of the loss in float16, and since when
    best: list[Tensor] = field(default_factory=list)


def save_checkpoint(
    folder: Path, key: str, progress: Progress, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Write a run's state in one atomic file; `key` says which run it is."""
    tensors = {}
    for i, parameter in enumerate(parameters):
        tensors[f"{i}.value"] = parameter.detach().clone()
        tensors |= {f"{i}.{name}": value for name, value in optimizer.state.get(parameter, {}).items()}
    tensors |= {f"{i}.best": value for i, value in enumerate(progress.best)}
    words = {name: value for name, value in vars(progress).items() if name != "best"}
    data = safetensors.torch.save(tensors, metadata={"key": key, "progress": json.dumps(words)})
    write_atomic(folder / FILE, data)


def load_checkpoint(
    folder: Path, key: str, parameters: Sequence[Tensor], optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Put a run's state back and return its progress; None if there is none of this run."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = {name: value.clone() for name, value in safetensors.torch.load_file(path).items()}
        if metadata["key"] != key:
            return None
        progress = Progress(**json.loads(metadata["progress"]))
        for i, parameter in enumerate(parameters):
            parameter.data.copy_(tensors[f"{i}.value"])
            state = {name.split(".", 1)[1]: value for name, value in tensors.items() if name.startswith(f"{i}.")}
            progress.best.append(state.pop("best"))
            del state["value"]
            optimizer.state[parameter] = {name: value.to(parameter.device) for name, value in state.items()}
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: not a checkpoint of this run ({error}); delete it to start over") from error
    return progress
