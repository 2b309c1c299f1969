"""Half formats: the losses are computed in them, what is learned is float32, and a run goes on to the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.conftest import draw_of, stopped_after

from pitune.pocket.backbone import Pocket
from pitune.tasks import Task
from pitune.training import TrainingSettings, fit_expert
from pitune.training import loop as loop_module
from pitune.training.precision import Precision, computing

SETTINGS = TrainingSettings(steps=16, batch_size=8, learning_rate=2e-2, evaluations=4)


def of(precision: Precision) -> TrainingSettings:
    return SETTINGS.model_copy(update={"precision": precision})


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_half_format_learns_what_float32_does(
    precision: Precision, tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    draw = draw_of(tiny_tasks["taste"], 9, validate=False)
    whole, _ = fit_expert(tiny_backbone, draw, settings=SETTINGS)
    half, trained = fit_expert(tiny_backbone, draw, settings=of(precision))
    assert {value.dtype for value in half.tensors.values()} == {torch.float32}
    assert half.card.hyperparameters["precision"] == precision
    moved = sum(float((half.tensors[name] - value).square().sum()) for name, value in whole.tensors.items())
    size = sum(float(value.square().sum()) for name, value in whole.tensors.items() if "lora_B" in name)
    assert 0 < moved < 0.3 * size  # rounded, and no other run
    assert trained.steps == SETTINGS.steps


def test_scores_keep_float32s_resolution(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    batch = tiny_backbone.prepare(tiny_tasks["taste"].examples("test"), tiny_tasks["taste"])
    with computing("bf16", torch.device("cpu")):
        scores = tiny_backbone.scores(batch)
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, tiny_backbone.scores(batch))  # it was computed in the other format
    assert not torch.equal(scores, scores.bfloat16().float())


@pytest.mark.parametrize("scale", [2.0**100, 2.0**16])
def test_a_step_whose_gradients_are_too_large_is_taken_again_at_a_lower_scale(
    scale: float, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[torch.amp.GradScaler] = []

    def scaler_of(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
        made.append(torch.amp.GradScaler(device.type, init_scale=scale))
        return made[-1]

    monkeypatch.setattr(loop_module, "scaler_of", scaler_of)
    draw = draw_of(tiny_tasks["taste"], 9, validate=False)
    expert, trained = fit_expert(tiny_backbone, draw, settings=of("fp16"))
    assert (trained.steps, trained.stopped) == (SETTINGS.steps, None)
    assert 1 <= made[-1].get_scale() <= 2.0**20
    with stopped_after(7):
        fit_expert(tiny_backbone, draw, settings=of("fp16"), run=tmp_path / "run")
    again, _ = fit_expert(tiny_backbone, draw, settings=of("fp16"), run=tmp_path / "run")
    assert all(torch.equal(again.tensors[name], value) for name, value in expert.tensors.items())
