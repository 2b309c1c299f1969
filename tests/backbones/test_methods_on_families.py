"""Every kind of expert on every family that can carry it, on checkpoints in the real format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.conftest import worded_task
from torch import Tensor

from pitune.backbones import Backbone, Batch, load_backbone
from pitune.errors import InputError
from pitune.experts import (
    KINDS,
    Expert,
    attached,
    initial_tensors,
    load_expert,
    make_settings,
)
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, fit_expert

ENCODERS = ("lora", "adapter", "ia3", "bitfit", "layernorm", "prefix", "prompt", "deep_prompt")
CARRIES: Mapping[str, tuple[str, ...]] = {
    "clip": (*ENCODERS, "text_prompt", "visual_prompt", "unified_prompt"),
    "siglip": (*ENCODERS, "visual_prompt"),  # its texts are read at their last place, behind the padding
    "siglip2": (*ENCODERS, "visual_prompt"),
    "t5": tuple(method for method in ENCODERS if method != "bitfit"),  # it has no biases
    "florence": ENCODERS,
    "smolvlm": ("lora", "adapter", "ia3", "layernorm", "prefix"),  # a decoder with a key cache, and no biases
    "llama": ("lora", "adapter", "ia3", "layernorm", "prefix"),
    "qwen2_vl": ("lora", "adapter", "ia3", "bitfit", "layernorm", "prefix"),
    "gemma3": ("lora", "adapter", "ia3", "layernorm", "prefix"),
    "bert": ENCODERS,
    "mpnet": tuple(method for method in ENCODERS if "pr" not in method),  # a number is added for every two places
    "modernbert": ("lora", "adapter", "layernorm"),  # keys and values come out of one layer, and it has no biases
}
CASES = [(kind, method) for kind, methods in CARRIES.items() for method in methods]
SETTINGS = TrainingSettings(steps=2, batch_size=4, learning_rate=3e-2, evaluations=1)


def small(method: str) -> dict[str, Any]:
    """Settings that fit the 16 places of the tiny text towers."""
    small = {"length": 3, "text_length": 2, "visual_length": 2, "width": 8, "r": 2}
    return {name: value for name, value in small.items() if name in KINDS.get(method).settings.model_fields}


def state(backbone: Backbone) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in backbone.module.state_dict().items()}


@torch.no_grad()
def losses_and_scores(
    backbone: Backbone, task: Task, expert: Expert, tensors: Mapping[str, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    method = KINDS.get(expert.method)
    with attached(backbone, method, expert.settings) as place:
        batch = backbone.prepare(task.examples("train")[:4], task)
        values = tensors or expert.tensors
        return place.losses(values, batch), place.scores(values, batch)


@pytest.mark.parametrize(("kind", "method"), CASES, ids=["-".join(case) for case in CASES])
def test_trains_comes_back_from_disk_and_leaves_no_trace(
    kind: str, method: str, backbones: dict[str, Backbone], data: dict[str, Path], tmp_path: Path
) -> None:
    backbone, task = backbones[kind], worded_task(kind, data)
    before, modules = state(backbone), [(name, type(layer)) for name, layer in backbone.module.named_modules()]
    drawn = replace(few_shot(task, 2, 0), validation=())
    expert, _ = fit_expert(backbone, drawn, method=method, settings=SETTINGS, **small(method))

    chosen = KINDS.get(method)
    shapes = {name: value.shape for name, value in expert.tensors.items()}
    start = initial_tensors(chosen, shapes, 0, expert.settings)
    losses, scores = losses_and_scores(backbone, task, expert)
    assert bool(losses.isfinite().all())
    assert not torch.allclose(losses_and_scores(backbone, task, expert, start)[0], losses, rtol=1e-5, atol=1e-6)
    moved = [name for name, value in expert.tensors.items() if not torch.equal(value, start[name])]
    assert len(moved) > len(start) // 2

    expert.save(tmp_path / "expert")
    assert torch.equal(losses_and_scores(backbone, task, load_expert(tmp_path / "expert"))[1], scores)

    after = state(backbone)
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert [(name, type(layer)) for name, layer in backbone.module.named_modules()] == modules
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in backbone.module.modules())


@pytest.mark.parametrize("kind", CARRIES)
def test_other_kinds_are_refused_by_names_of_those_it_carries(kind: str, backbones: dict[str, Backbone]) -> None:
    for method in KINDS.names():
        if method in CARRIES[kind]:
            assert make_settings(KINDS.get(method), backbones[kind])
        else:
            with pytest.raises(InputError, match=f"has no place for experts of kind '{method}'") as caught:
                make_settings(KINDS.get(method), backbones[kind])
            listed = re.split(", ", str(caught.value).split("expected one of: ")[1])
            assert sorted(listed) == sorted(CARRIES[kind])


@pytest.mark.parametrize(("kind", "method"), [case for case in CASES if case[0] in ("clip", "siglip", "siglip2")])
def test_only_the_tower_with_the_expert_is_run_again(
    kind: str, method: str, checkpoints: dict[str, Path], data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, task = load_backbone(str(checkpoints[kind]), "cpu"), worded_task(kind, data)
    examples = task.examples("train")[:4]
    backbone.prepare(examples, task)
    calls = {"image": 0, "text": 0}
    model: Any = backbone.module
    for tower in calls:
        taken = getattr(model, f"get_{tower}_features")

        def counted(tower: str = tower, taken: Any = taken, **inputs: Tensor) -> object:
            calls[tower] += 1
            return taken(**inputs)

        monkeypatch.setattr(model, f"get_{tower}_features", counted)
    chosen = KINDS.get(method)
    config = make_settings(chosen, backbone, **small(method))
    with attached(backbone, chosen, config) as place:
        start = initial_tensors(chosen, place.shapes, 0, config)
        tensors = {name: value.requires_grad_() for name, value in start.items()}
        for _ in range(2):
            place.losses(tensors, backbone.prepare(examples, task)).sum().backward()
        assert all(value.grad is not None for value in tensors.values())
    again = {"text_prompt": (0, 2), "unified_prompt": (2, 2)}.get(method, (2, 0))
    assert (calls["image"], calls["text"]) == again


WRITING = [
    case for case in CASES if case[0] in ("t5", "florence", "smolvlm", "llama") and case[1] not in ("lora", "adapter")
]


@torch.no_grad()
@pytest.mark.parametrize(("kind", "method"), WRITING, ids=["-".join(case) for case in WRITING])
def test_answers_scored_from_kept_keys_and_values_are_those_of_one_whole_pass(
    kind: str, method: str, checkpoints: dict[str, Path], data: dict[str, Path]
) -> None:
    backbone, task = load_backbone(str(checkpoints[kind]), "cpu"), worded_task(kind, data)
    chosen = KINDS.get(method)
    examples = task.examples("train")[:4]
    free = backbone.scores(backbone.prepare(examples, task))
    place = chosen.attach(backbone, make_settings(chosen, backbone, **small(method)))
    generator = torch.Generator().manual_seed(0)
    for path in place.paths.values():
        value = backbone.module.get_parameter(path)
        value.copy_(torch.randn(value.shape, generator=generator))
    together = backbone.scores(backbone.prepare(examples, task))
    assert not torch.allclose(together, free, atol=1e-4)
    for row, example in enumerate(examples):
        batch = backbone.prepare([example], task)
        whole = torch.stack([one_pass(backbone, batch, answer[answer >= 0]) for answer in batch.answers])
        torch.testing.assert_close(together[row], whole.log_softmax(0), rtol=1e-4, atol=1e-4)
    assert len(backbone.generate(backbone.prepare(examples, task))) == 4


def one_pass(backbone: Backbone, batch: Batch, answer: Tensor) -> Tensor:
    """Return log p(answer | input) of one example, with every token read at once."""
    model: Any = backbone.module
    given = {name: value for name, value in batch.inputs.items() if name != "target_tokens"}
    if model.config.is_encoder_decoder:
        start = torch.tensor([model.config.get_text_config().decoder_start_token_id])
        said = torch.cat([start, answer[:-1]])[None]
        logits = model(**given, decoder_input_ids=said, use_cache=False).logits[0]
    else:
        read = torch.cat([given["input_ids"], answer[None, :-1]], 1)
        given |= {"input_ids": read, "attention_mask": torch.ones_like(read)}
        logits = model(**given, use_cache=False).logits[0, -len(answer) :]
    chosen: Tensor = logits.float().log_softmax(-1).gather(1, answer[:, None]).sum()
    return chosen
