"""What lower layers make of an input is kept where an expert changes the upper ones alone, and nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.conftest import draw_of

from pitune.backbones import Batch
from pitune.backbones.cache import Kept
from pitune.experts import KINDS, Attached, attached, initial_tensors, make_settings
from pitune.experts.attached import lowest_layer
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task
from pitune.training import TrainingSettings, evaluate_expert, fit_every_label

UPPER = r"encoder\.layer\.1\..*(query|key|value|dense)"
ABOVE: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": UPPER},
    "ia3": {"target_modules": ("encoder.layer.1.attention.self.key",), "feedforward_modules": ()},
    "bitfit": {"target_modules": ("encoder.layer.1.output.dense",)},
    "layernorm": {"target_modules": ("encoder.layer.1.output.LayerNorm",)},
}
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}
SETTINGS = TrainingSettings(steps=6, batch_size=8, learning_rate=2e-2)


@contextmanager
def placed(backbone: Pocket, method: str, **config: Any) -> Iterator[tuple[Attached, dict[str, torch.Tensor]]]:
    kind = KINDS.get(method)
    settings = make_settings(kind, backbone, **config)
    with attached(backbone, kind, settings) as place:
        tensors = initial_tensors(kind, place.shapes, 0, settings)
        generator = torch.Generator().manual_seed(1)
        yield (
            place,
            {n: (v + 0.1 * torch.randn(v.shape, generator=generator)).requires_grad_() for n, v in tensors.items()},
        )


def gradients(place: Attached, tensors: dict[str, torch.Tensor], batch: Batch) -> list[torch.Tensor]:
    return list(torch.autograd.grad(place.losses(tensors, batch).mean(), list(tensors.values())))


@pytest.mark.parametrize("name", ["place", "colour"])
@pytest.mark.parametrize("method", list(ABOVE))
def test_an_upper_expert_learns_the_same_of_what_is_kept(
    method: str, name: str, tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    task = tiny_tasks[name]
    examples = task.examples("train")[:7]
    with placed(tiny_backbone, method, **ABOVE[method]) as (place, tensors):
        whole, kept = tiny_backbone.prepare(examples, task), place.prepare(examples, task)
        assert (whole.layer, kept.layer) == (0, 1)
        torch.testing.assert_close(place.scores(tensors, kept), place.scores(tensors, whole), **CLOSE)
        torch.testing.assert_close(place.features(tensors, kept), place.features(tensors, whole), **CLOSE)
        torch.testing.assert_close(gradients(place, tensors, kept), gradients(place, tensors, whole), **CLOSE)


def test_an_image_beside_a_text_is_kept_whole(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["colour"]
    examples = [replace(one, text="wave " * i) for i, one in enumerate(task.examples("train")[:4], 1)]
    with placed(tiny_backbone, "lora", target_modules=UPPER) as (place, tensors):
        whole, kept = tiny_backbone.prepare(examples, task), place.prepare(examples, task)
        torch.testing.assert_close(place.scores(tensors, kept), place.scores(tensors, whole), **CLOSE)


def test_an_input_goes_through_the_lower_layers_once(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    draw = draw_of(tiny_tasks["mood"], 9)
    runs: list[int] = []
    watched = tiny_backbone.module.get_submodule("encoder.layer.0")
    hook = watched.register_forward_hook(lambda _, args, __: runs.append(len(args[0])))
    try:
        expert, _ = fit_every_label(tiny_backbone, draw, settings=SETTINGS, target_modules=UPPER)
        evaluate_expert(tiny_backbone, draw.task, expert, draw.labels)
    finally:
        hook.remove()
    assert runs == [1] * len({example.text for example in draw.labels})


def test_a_whole_expert_reads_from_the_bottom(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["mood"]
    for method in ("lora", "prefix", "visual_prompt"):
        with placed(tiny_backbone, method) as (place, _):
            assert place.prepare(task.examples("test"), task).layer == 0
    layers = [f"encoder.layer.{i}.output.dense.bias" for i in (0, 1)]
    assert [lowest_layer(tiny_backbone, some) for some in (layers, layers[1:], ["embeddings.x"], [])] == [0, 1, 0, 0]


def test_what_is_kept_has_bounds(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_tasks["place"]
    examples = task.examples("train")[:12]
    room = 4 * tiny_backbone.width * 40  # of forty tokens
    monkeypatch.setattr(tiny_backbone, "_kept", Kept(room))
    with placed(tiny_backbone, "lora", target_modules=UPPER) as (place, tensors):
        found = place.scores(tensors, place.prepare(examples, task))
        torch.testing.assert_close(found, place.scores(tensors, tiny_backbone.prepare(examples, task)), **CLOSE)
    assert 0 < tiny_backbone._kept.nbytes <= room < 4 * tiny_backbone.width * 12 * 10
