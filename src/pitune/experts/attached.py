"""A backbone with an expert's modules in place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pitune.backbones import Backbone, Batch, Called, Layered
from pitune.errors import InputError
from pitune.experts.kind import Attachment, Kind, KindSettings, Tensors, read_settings
from pitune.experts.registry import KINDS
from pitune.files import sha256_bytes
from pitune.tasks import Example, Task


class Attached:
    """A backbone with an expert's modules in place; each call says with which tensors.

    Where a tensor's place is `tied`, it takes the place of every parameter that is the same in the backbone. `layered`
    says that nothing changes but the layers that the tensors lie in, and what comes above these.
    """

    def __init__(self, backbone: Backbone, attachment: Attachment, *, tied: bool = True, layered: bool = False) -> None:
        self.backbone = backbone
        self._tied = tied
        self._called = Called(backbone.module, lambda call, *arguments: getattr(backbone, call)(*arguments))
        self._paths = {name: f"module.{path}" for name, path in attachment.paths.items()}
        parameters = dict(backbone.module.named_parameters(remove_duplicate=tied))
        self.shapes = {name: parameters[path].shape for name, path in attachment.paths.items()}
        self.readers = tuple(backbone.module.get_submodule(path) for path in attachment.readers)
        self._lowest = lowest_layer(backbone, attachment.paths.values()) if layered else 0
        self._cast: dict[str, Tensor] = {}

    def prepare(self, examples: Sequence[Example], task: Task) -> Batch:
        """Turn examples into tensors; what the expert does not change is computed once where the backbone keeps it."""
        if self._lowest and isinstance(self.backbone, Layered):
            return self.backbone.prepare_from(self._lowest, examples, task)
        return self.backbone.prepare(examples, task)

    @contextmanager
    def casting(self, dtype: torch.dtype | None) -> Iterator[None]:
        """Cast the frozen weights of linear layers to a number format once, where autocast would at each call."""
        if dtype is not None:
            frozen = _linear_weights(self.backbone.module)
            self._cast = {path: value.to(dtype) for path, value in frozen.items() if path not in self._paths.values()}
        try:
            yield
        finally:
            self._cast = {}

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

    def sample(self, tensors: Tensors, batch: Batch, draws: Tensor) -> Batch:
        """Return the batch with answers drawn under the expert `tensors` at `draws` (B, T); see `Writing.sample`."""
        drawn: Batch = self._call("sample", tensors, batch, draws)
        return drawn

    def _call(self, call: str, tensors: Tensors, *arguments: Any) -> Any:
        device = self.backbone.device
        placed = self._cast | {path: tensors[name].to(device) for name, path in self._paths.items()}
        return functional_call(self._called, placed, (call, *arguments), tie_weights=self._tied)


def _linear_weights(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights and biases that linear layers alone read, by path in what an expert is called with."""
    named = list(module.named_parameters(remove_duplicate=False))
    shared = Counter(id(value) for _, value in named)
    layers = {path for path, layer in module.named_modules() if type(layer) is nn.Linear}
    return {
        f"module.{path}": value.detach()
        for path, value in named
        if path.rpartition(".")[0] in layers and shared[id(value)] == 1
    }


@contextmanager
def attached(backbone: Backbone, kind: Kind, settings: KindSettings) -> Iterator[Attached]:
    """Put a kind's modules into a backbone; on leaving, the backbone is as it was, to the bit."""
    attachment = kind.attach(backbone, settings)
    try:
        yield Attached(backbone, attachment, layered=kind.merges)
    finally:
        attachment.detach()


def lowest_layer(backbone: Backbone, paths: Iterable[str]) -> int:
    """Return the number of the lowest of a backbone's blocks that parameters lie in, by path; 0 if one is in none."""
    layers = {layer: i for i, layer in enumerate(backbone.blocks if isinstance(backbone, Layered) else ())}
    found = [next((i for layer, i in layers.items() if path.startswith(f"{layer}.")), 0) for path in paths]
    return min(found, default=0)


def make_settings(kind: Kind, backbone: Backbone, **changes: Any) -> KindSettings:
    """Return a kind's settings for a backbone.

    Raise `InputError` naming the field that is wrong, or the kinds that have a place where this one has none.
    """
    if not kind.has_place(backbone):
        others = ", ".join(other.name for other in KINDS.all() if other.has_place(backbone))
        raise InputError(
            f"{backbone.name} has no place for experts of kind {kind.name!r}; expected one of: {others or 'none'}"
        )
    return read_settings(kind, {**kind.default(backbone), **kind.resolved(backbone, changes)}, f"method {kind.name!r}")


def initial_tensors(
    kind: Kind, shapes: Mapping[str, torch.Size], seed: int, settings: KindSettings | None = None
) -> dict[str, Tensor]:
    """Return starting values that depend on the seed, the settings and each tensor's name alone.

    All experts of a pool start from the same values, whatever task they are for: that keeps them in one
    basin, where a mix of them still works (π-Tuning, step 1).
    """
    values = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(int(sha256_bytes(f"{seed}/{name}".encode())[:15], 16))
        values[name] = kind.initial(name, shape, generator, settings)
    return values
