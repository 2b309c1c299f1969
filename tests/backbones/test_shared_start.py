"""What all texts begin with is read once, and nothing that is learned comes out differently."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pitune.backbones import Backbone, load_backbone
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.tasks import Task, load_task

TEXT = "text_model.encoder.layers"
NAMES = {"red": "red", "green": "the green sea of salt", "blue": "blue wave"}
EXPERTS: dict[str, tuple[str, dict[str, Any], int]] = {  # with how many places the three texts then share
    "end": ("text_prompt", {"length": 4, "name_at": "end"}, 5),
    "middle": ("text_prompt", {"length": 4, "name_at": "middle"}, 3),
    "front": ("text_prompt", {"length": 4, "name_at": "front"}, 1),
    "words": ("text_prompt", {"length": 2, "words": (5, 6)}, 3),
    "unified": ("unified_prompt", {"text_length": 3, "visual_length": 2, "width": 8}, 4),
    "lora": ("lora", {"r": 2, "target_modules": [f"{TEXT}.{i}.self_attn.{n}_proj" for i in (0, 1) for n in "qkv"]}, 1),
    "adapter": ("adapter", {"width": 4, "target_modules": [f"{TEXT}.1.mlp.fc2", f"{TEXT}.0.self_attn.out_proj"]}, 1),
    "layernorm": ("layernorm", {"target_modules": [f"{TEXT}.0.layer_norm1", "text_model.final_layer_norm"]}, 1),
}


@pytest.fixture
def task(data: dict[str, Path]) -> Task:
    found = load_task(data["colour"])
    renamed = {part: [replace(one, target=NAMES[one.target]) for one in some] for part, some in found.splits.items()}
    return replace(found, splits=renamed, answers=tuple(NAMES.values()), answer_template="{} .")


class Rows(list[tuple[int, int]]):
    """The sizes (texts, places) of what the text tower's layers were given."""

    def __init__(self, backbone: Backbone) -> None:
        self._hook = backbone.module.get_submodule(f"{TEXT}.0.mlp").register_forward_pre_hook(
            lambda _, given: self.append(tuple(given[0].shape[:2]))
        )

    def close(self) -> list[tuple[int, int]]:
        self._hook.remove()
        return list(self)


def losses_and_gradients(backbone: Backbone, task: Task, method: str, settings: dict[str, Any]) -> list[Tensor]:
    chosen = KINDS.get(method)
    config = make_settings(chosen, backbone, **settings)
    with attached(backbone, chosen, config) as place:
        generator = torch.Generator().manual_seed(0)
        leaves = {
            name: (value + 0.1 * torch.randn(value.shape, generator=generator)).requires_grad_()
            for name, value in initial_tensors(chosen, place.shapes, 0, config).items()
        }
        losses = place.losses(leaves, backbone.prepare(task.examples("train")[:4], task))
        losses.sum().backward()
    assert all(value.grad is not None and bool(value.grad.any()) for value in leaves.values())
    return [losses.detach(), *(value.grad for value in leaves.values() if value.grad is not None)]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", EXPERTS)
@pytest.mark.parametrize("texts", [128, 2])
def test_losses_and_gradients_are_those_of_texts_read_apart(
    name: str, attention: str, texts: int, checkpoints: dict[str, Path], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu")
    backbone.module.set_attn_implementation(attention)
    method, settings, shared = EXPERTS[name]
    monkeypatch.setattr("pitune.backbones.dual_encoder._TEXTS", texts)
    rows = Rows(backbone)
    found = losses_and_gradients(backbone, task, method, settings)
    vectors = settings.get("length", settings.get("text_length", 0))
    own = [len(name.split()) + 3 + vectors - shared for name in NAMES.values()]  # with the marks and the full stop
    sizes = rows.close()
    assert texts != 128 or sizes == [(1, shared + sum(own))]
    assert backbone.module.config.text_config._attn_implementation == attention
    monkeypatch.setattr("pitune.backbones.dual_encoder.shared_start", lambda tower: nullcontext())
    for one, other in zip(found, losses_and_gradients(backbone, task, method, settings), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-5 * float(other.abs().max()))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.module.modules())


@pytest.mark.parametrize(
    ("method", "sites"),
    [("prefix", [f"{TEXT}.{i}.self_attn" for i in (0, 1)]), ("deep_prompt", [f"{TEXT}.{i}" for i in (0, 1)])],
)
def test_texts_are_read_apart_where_an_expert_sees_them_whole(
    method: str, sites: list[str], checkpoints: dict[str, Path], task: Task
) -> None:
    backbone = load_backbone(str(checkpoints["clip"]), "cpu")
    rows = Rows(backbone)
    field = "layers" if method == "deep_prompt" else "target_modules"
    losses_and_gradients(backbone, task, method, {"length": 2, field: sites})
    assert [size[0] for size in rows.close()] == [3]


def test_a_template_is_read_once(checkpoints: dict[str, Path], task: Task) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu")
    texts = tuple(f"a photo of {name}" for name in NAMES.values())
    rows = Rows(backbone)
    vectors = backbone._encoded(texts)
    assert rows.close() == [(1, 4 + sum(len(name.split()) + 1 for name in NAMES.values()))]
    apart = torch.cat([backbone._encoded((text,)) for text in texts])
    torch.testing.assert_close(vectors, apart, rtol=1e-5, atol=1e-6)


def test_a_tower_that_is_not_causal_reads_texts_apart(checkpoints: dict[str, Path], task: Task) -> None:
    backbone: Any = load_backbone(str(checkpoints["siglip"]), "cpu")
    rows = Rows(backbone)
    backbone._encoded(tuple(NAMES.values()))
    assert rows.close() == [(3, 16)]


def test_two_texts_that_are_the_same_or_one_the_start_of_the_other(checkpoints: dict[str, Path]) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu")
    texts = ("red", "red", "red sea", "")
    together = backbone._encoded(texts)
    apart = torch.cat([backbone._encoded((text,)) for text in texts])
    torch.testing.assert_close(together, apart, rtol=1e-5, atol=1e-6)


def test_half_precision_is_kept(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu", "bfloat16")
    texts = tuple(NAMES.values())
    vectors = backbone._encode_texts(texts)
    monkeypatch.setattr("pitune.backbones.dual_encoder.shared_start", lambda tower: nullcontext())
    torch.testing.assert_close(vectors, backbone._encode_texts(texts), rtol=2e-2, atol=2e-2)


def test_what_fails_half_way_leaves_no_trace(checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu")

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no")

    layer: nn.Module = backbone.module.get_submodule(f"{TEXT}.1.mlp")
    monkeypatch.setattr(layer, "forward", fail)
    with pytest.raises(RuntimeError, match="no"):
        backbone._encoded(("red", "blue"))
    assert backbone.module.config.text_config._attn_implementation == "sdpa"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.module.modules())
