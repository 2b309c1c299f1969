"""What a kind of expert must offer, and how one is put into a backbone and taken out again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from torch.func import functional_call

from pitune.backbones import Backbone, Batch
from pitune.errors import InputError
from pitune.files import sha256_bytes

Tensors = Mapping[str, Tensor]


class MethodConfig(BaseModel):
    """The settings of one kind of expert, checked when read."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Attachment:
    """Modules put into a backbone: `paths` maps an expert tensor's name to its parameter's path."""

    paths: Mapping[str, str]
    detach: Callable[[], None]


class Method(Protocol):
    """A kind of expert. Tensors are named `<submodule of the backbone>.<parameter>`.

    `linear` says whether what a site computes from its input is affine in the mixing weights.
    """

    name: str
    linear: bool

    @property
    def config(self) -> type[MethodConfig]:
        """The class of the method's settings."""

    def default(self, backbone: Backbone) -> dict[str, Any]:
        """Return the settings that depend on the backbone, such as where to attach."""

    def attach(self, backbone: Backbone, config: Any) -> Attachment:
        """Put the expert's modules into `backbone.module`."""

    def initial(self, tensor: str, shape: torch.Size, generator: torch.Generator, config: Any) -> Tensor:
        """Return the starting value of one tensor.

        Together they leave the backbone's outputs as they are, unless the expert adds to what is read
        (prompts and prefixes).
        """

    def site(self, tensor: str) -> str:
        """Return the submodule that a tensor belongs to, the smallest unit that a mixing weight covers."""

    def combined(self, configs: Sequence[Any], tensors: Sequence[Tensors]) -> MethodConfig:
        """Return the configuration of a mix."""

    def combine(self, configs: Sequence[Any], tensors: Sequence[Tensors], weights: Tensors) -> dict[str, Tensor]:
        """Mix K experts with weights (K,) per site, differentiably, to the tensors of one."""

    def peft(self, config: Any) -> dict[str, Any] | None:
        """Return PEFT's `adapter_config.json` of the same expert, or None where PEFT has no such kind."""


def make_config(method: Method, backbone: Backbone, **changes: Any) -> MethodConfig:
    """Return a method's configuration for a backbone; raise `InputError` naming the field that is wrong."""
    return read_config(method, {**method.default(backbone), **changes}, f"method {method.name!r}")


def read_config(method: Method, values: Mapping[str, Any], where: str) -> MethodConfig:
    """Check the settings of a method; raise `InputError` naming the field that is wrong."""
    try:
        return method.config.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "configuration"
        raise InputError(f"{where}: {field}: {first['msg'].lower()} (found {first['input']!r})") from error


class _Called(nn.Module):
    """A backbone's calls as one module, so that `functional_call` can put tensors in."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.module = backbone.module
        self._backbone = backbone

    def forward(self, call: str, *arguments: Any) -> Any:
        return getattr(self._backbone, call)(*arguments)


class Attached:
    """A backbone with an expert's modules in place; each call says with which tensors.

    Where a tensor's place is `tied`, it takes the place of every parameter that is the same in the backbone.
    """

    def __init__(self, backbone: Backbone, attachment: Attachment, tied: bool = True) -> None:
        self.backbone = backbone
        self._tied = tied
        self._called = _Called(backbone)
        self._paths = {name: f"module.{path}" for name, path in attachment.paths.items()}
        parameters = dict(backbone.module.named_parameters(remove_duplicate=tied))
        self.shapes = {name: parameters[path].shape for name, path in attachment.paths.items()}

    def losses(self, tensors: Tensors, batch: Batch) -> Tensor:
        """Return −log p(target | input) per example (B,) under the expert `tensors`."""
        result: Tensor = self._call("losses", tensors, batch)
        return result

    def scores(self, tensors: Tensors, batch: Batch, candidates: Sequence[str] | None = None) -> Tensor:
        """Return log-scores (B, C) of the batch's answers, or of other answer texts, under the expert `tensors`."""
        result: Tensor = self._call("scores", tensors, batch, *([] if candidates is None else [candidates]))
        return result

    def features(self, tensors: Tensors, batch: Batch) -> Tensor:
        """Return one vector (B, D) for each input under the expert `tensors`."""
        result: Tensor = self._call("features", tensors, batch)
        return result

    def generate(self, tensors: Tensors, batch: Batch) -> list[str]:
        """Return an answer in free text for each example under the expert `tensors`."""
        written: list[str] = self._call("generate", tensors, batch)
        return written

    def _call(self, call: str, tensors: Tensors, *arguments: Any) -> Any:
        device = self.backbone.device
        placed = {path: tensors[name].to(device) for name, path in self._paths.items()}
        return functional_call(self._called, placed, (call, *arguments), tie_weights=self._tied)


@contextmanager
def attached(backbone: Backbone, method: Method, config: MethodConfig) -> Iterator[Attached]:
    """Put a method's modules into a backbone; on leaving, the backbone is as it was, to the bit."""
    attachment = method.attach(backbone, config)
    try:
        yield Attached(backbone, attachment)
    finally:
        attachment.detach()


def initial_tensors(
    method: Method, shapes: Mapping[str, torch.Size], seed: int, config: MethodConfig | None = None
) -> dict[str, Tensor]:
    """Return starting values that depend on the seed, the configuration and each tensor's name alone.

    All experts of a pool start from the same values, whatever task they are for: that keeps them in one
    basin, where a mix of them still works (π-Tuning, step 1).
    """
    values = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(int(sha256_bytes(f"{seed}/{name}".encode())[:15], 16))
        values[name] = method.initial(name, shape, generator, config)
    return values


def kaiming(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return values uniform in ±1/√(inputs), PyTorch's own start for a linear layer's weight (out, in)."""
    bound = 1.0 / math.sqrt(shape[-1])
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


def normal(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Return values of N(0, 0.02²), where prompts start."""
    return torch.empty(shape).normal_(std=0.02, generator=generator)


def same_config(method: str, configs: Sequence[MethodConfig]) -> MethodConfig:
    """Return the configuration that all experts share; raise `InputError` naming the first setting that differs."""
    for other in configs[1:]:
        for field, value in configs[0]:
            if getattr(other, field) != value:
                raise InputError(
                    f"cannot mix {method} experts that differ in {field}: "
                    f"found {value!r} and {getattr(other, field)!r}; expected one setting"
                )
    return configs[0]


def combine_parameters(
    method: Method, tensors: Sequence[Tensors], weights: Tensors, around: float = 0.0
) -> dict[str, Tensor]:
    """Mix parameters name by name: `φ̄ = Σ_j α_j φ_j` with one weight vector α per site (π-Tuning, step 3).

    `around` is the value that leaves the backbone as it is; what is mixed is the distance from it, so that
    weights of sum 0 are no expert at all: `φ̄ = φ₀ + Σ_j α_j (φ_j − φ₀)`.
    """
    mixed = {}
    for name in tensors[0]:
        weight = weights[method.site(name)]
        stacked = torch.stack([one[name] for one in tensors]) - around
        mixed[name] = torch.einsum("k,k...->...", weight, stacked) + around
    return mixed
