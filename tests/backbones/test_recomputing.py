"""Layers that are computed again give the same gradients, of every family, and keep less in memory until then."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.conftest import FAMILIES, learning, worded_task
from torch import Tensor

from pitune.backbones import Backbone, layers_recomputed
from pitune.experts import KINDS

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


IN_WORDS = {"target_modules": r"text_model.*(q_proj|v_proj|fc1)"}  # where texts are read with their start in common


@pytest.mark.parametrize(
    ("kind", "method", "config"),
    [*((kind, method, {}) for kind in FAMILIES for method in ("lora", "prefix")), ("clip", "lora", IN_WORDS)],
)
def test_gradients_are_the_same_and_less_is_kept(
    kind: str, method: str, config: dict[str, Any], backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone = backbones[kind]
    if not KINDS.get(method).has_place(backbone):
        pytest.skip(f"{kind} has no place for {method}")
    with learning(backbone, worded_task(kind, data), method, **config) as (place, tensors, batch):

        def learned(again: bool) -> tuple[list[Tensor | None], int]:
            kept: dict[int, int] = {}

            def pack(value: Tensor) -> Tensor:
                kept[value.data_ptr()] = value.untyped_storage().nbytes()
                return value

            hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value)
            with layers_recomputed(backbone) if again else nullcontext(), hooks:
                loss = place.losses(tensors, batch).mean() + place.scores(tensors, batch).exp().square().mean()
                size = sum(kept.values())
                return list(torch.autograd.grad(loss, list(tensors.values()), allow_unused=True)), size

        (plain, whole), (again, less) = learned(False), learned(True)
    assert any(value is not None and bool(value.any()) for value in plain)
    torch.testing.assert_close(again, plain, **CLOSE)
    assert less < 0.8 * whole
    assert not any("forward" in vars(module) for module in backbone.module.modules())
