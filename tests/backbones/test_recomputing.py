"""Layers that are computed again give the same gradients, of every family, and keep less in memory until then."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.conftest import FAMILIES, TEXTS_ALONE
from torch import Tensor

from pitune.backbones import Backbone, layers_recomputed
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.tasks import load_task

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}


IN_WORDS = {"target_modules": r"text_model.*(q_proj|v_proj|fc1)"}  # where texts are read with their start in common


@pytest.mark.parametrize(
    ("kind", "method", "config"),
    [*((kind, method, {}) for kind in FAMILIES for method in ("lora", "prefix")), ("clip", "lora", IN_WORDS)],
)
def test_gradients_are_the_same_and_less_is_kept(
    kind: str, method: str, config: dict[str, Any], backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone, chosen = backbones[kind], KINDS.get(method)
    if not chosen.has_place(backbone):
        pytest.skip(f"{kind} has no place for {method}")
    task = load_task(data["taste" if kind in TEXTS_ALONE else "colour"])
    task = replace(task, answer_template="a photo of {}" if kind in ("clip", "siglip", "siglip2") else "{}")
    settings = make_settings(chosen, backbone, **config)
    with attached(backbone, chosen, settings) as place:
        start = initial_tensors(chosen, place.shapes, 0, settings)
        generator = torch.Generator().manual_seed(1)
        tensors = {n: (v + 0.1 * torch.randn(v.shape, generator=generator)).requires_grad_() for n, v in start.items()}
        batch = place.prepare(task.examples("train")[:4], task)

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
