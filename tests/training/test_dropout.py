"""Dropout of what a LoRA reads: while it learns and at no other time, the same again in a run that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.conftest import draw_of, stopped_after

from pitune.errors import InputError
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task
from pitune.training import TrainingSettings, fit_expert
from pitune.training.dropout import dropping

SETTINGS = TrainingSettings(steps=10, batch_size=8, learning_rate=2e-2, dropout=0.3)


def test_a_share_of_the_input_is_lost_and_the_mean_is_kept(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    kind = KINDS.get("lora")
    settings = make_settings(kind, tiny_backbone)
    seen: list[torch.Tensor] = []
    with attached(tiny_backbone, kind, settings) as place, torch.no_grad():
        tensors = initial_tensors(kind, place.shapes, 0, settings)
        batch = place.prepare(tiny_tasks["taste"].examples("train"), tiny_tasks["taste"])
        assert len(place.readers) == len(tensors) // 2

        def read() -> torch.Tensor:
            seen.clear()
            hook = place.readers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
            try:
                place.scores(tensors, batch)
            finally:
                hook.remove()
            return seen[0]

        whole = read()
        with dropping(place, 0.25, "a run", 3):
            dropped = read()
        with dropping(place, 0.25, "a run", 3):
            assert torch.equal(read(), dropped)
        with dropping(place, 0.25, "a run", 4):
            assert not torch.equal(read(), dropped)
        assert torch.equal(read(), whole)
    gone = dropped == 0
    assert float(gone.float().mean()) == pytest.approx(0.25, abs=0.01)
    torch.testing.assert_close(dropped[~gone], whole[~gone] / 0.75)


def test_a_run_goes_on_to_the_same_bytes(tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path) -> None:
    draw = draw_of(tiny_tasks["taste"], 20, validate=False)
    state = torch.random.get_rng_state()
    expert, _ = fit_expert(tiny_backbone, draw, settings=SETTINGS)
    plain, _ = fit_expert(tiny_backbone, draw, settings=SETTINGS.model_copy(update={"dropout": 0.0}))
    with stopped_after(6):
        fit_expert(tiny_backbone, draw, settings=SETTINGS, run=tmp_path / "run")
    again, _ = fit_expert(tiny_backbone, draw, settings=SETTINGS, run=tmp_path / "run")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(again.tensors[name], value) for name, value in expert.tensors.items())
    assert any(not torch.equal(plain.tensors[name], value) for name, value in expert.tensors.items())


def test_layers_that_are_computed_again_drop_the_same(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    draw = draw_of(tiny_tasks["taste"], 20, validate=False)
    once, _ = fit_expert(tiny_backbone, draw, settings=SETTINGS)
    again, _ = fit_expert(tiny_backbone, draw, settings=SETTINGS.model_copy(update={"gradient_checkpointing": True}))
    for name, value in once.tensors.items():
        torch.testing.assert_close(again.tensors[name], value, rtol=1e-4, atol=1e-6)


def test_other_kinds_say_that_they_have_none(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    draw = draw_of(tiny_tasks["taste"], 8)
    with pytest.raises(InputError, match="dropout is of what a LoRA reads"):
        fit_expert(tiny_backbone, draw, method="adapter", settings=SETTINGS)
