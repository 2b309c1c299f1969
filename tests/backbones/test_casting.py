"""Frozen weights that are cast once give what autocast gives, to the bit, and are as they were afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.backbones.conftest import FAMILIES, learning, worded_task
from torch import Tensor

from pitune.backbones import Backbone
from pitune.experts import KINDS
from pitune.training.precision import Precision, computing


@pytest.mark.parametrize("method", ["lora", "bitfit"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_losses_and_gradients_are_those_of_autocast(
    kind: str, method: str, backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone = backbones[kind]
    if not KINDS.get(method).has_place(backbone):
        pytest.skip(f"{kind} has no place for {method}")
    before = {name: value.clone() for name, value in backbone.module.state_dict().items()}
    with learning(backbone, worded_task(kind, data), method) as (place, tensors, batch):

        def computed(precision: Precision, dtype: torch.dtype | None = None) -> list[Tensor | None]:
            with place.casting(dtype):
                with computing(precision, torch.device("cpu")):
                    losses = place.losses(tensors, batch)
                found = torch.autograd.grad(losses.mean(), list(tensors.values()), allow_unused=True)
            return [losses.detach(), *found]

        cast, plain, whole = computed("bf16", torch.bfloat16), computed("bf16"), computed("fp32")
    for one, other in zip(cast, plain, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.equal(one, other)
    assert whole[0] is not None
    assert plain[0] is not None
    assert not torch.equal(whole[0], plain[0])  # it was computed in the other format
    assert all(torch.equal(value, before[name]) for name, value in backbone.module.state_dict().items())
