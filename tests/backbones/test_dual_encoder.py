"""Dual encoders agree with transformers' own forward; what carries no expert is encoded once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pitune.backbones import Backbone, load_backbone
from pitune.backbones.dual_encoder import DualEncoder
from pitune.errors import InputError
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.tasks import Task, load_task, open_image

TEXT_SITES = tuple(f"text_model.encoder.layers.{i}.self_attn.q_proj" for i in range(2))
VISION_SITES = tuple(f"vision_model.encoder.layers.{i}.self_attn.q_proj" for i in range(2))


@pytest.fixture
def task(data: dict[str, Path]) -> Task:
    return replace(load_task(data["colour"]), answer_template="a photo of the {}")


def plain_logits(backbone: Backbone, task: Task, number: int) -> Tensor:
    """What transformers' model itself says of images and texts."""
    assert isinstance(backbone, DualEncoder)
    examples = task.examples("train")[:number]
    tokens = backbone._tokens([task.answer_text(answer) for answer in task.answers or ()])
    pictures = backbone._processor([open_image(one) for one in examples], return_tensors="pt")
    mask = {} if backbone._sigmoid else {"attention_mask": tokens[1]}
    logits: Tensor = backbone._model(input_ids=tokens[0], **pictures, **mask).logits_per_image
    return logits


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_logits_are_those_of_transformers(kind: str, checkpoints: dict[str, Path], task: Task) -> None:
    backbone = load_backbone(str(checkpoints[kind]), "cpu")
    batch = backbone.prepare(task.examples("train")[:6], task)
    expected = plain_logits(backbone, task, 6)
    torch.testing.assert_close(backbone.scores(batch), expected.log_softmax(-1), rtol=2e-3, atol=5e-3)
    sign = 2.0 * F.one_hot(batch.target, 3) - 1
    own = {
        "clip": F.cross_entropy(expected, batch.target, reduction="none"),
    }.get(kind, -F.logsigmoid(sign * expected).sum(1))
    torch.testing.assert_close(backbone.losses(batch), own, rtol=2e-3, atol=5e-3)


def count_calls(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    assert isinstance(backbone, DualEncoder)
    calls = {"image": 0, "text": 0}
    for kind in calls:
        taken = getattr(backbone._model, f"get_{kind}_features")

        def counted(kind: str = kind, taken: object = taken, **inputs: Tensor) -> object:
            calls[kind] += len(next(iter(inputs.values())))
            return taken(**inputs)  # type: ignore[operator]

        monkeypatch.setattr(backbone._model, f"get_{kind}_features", counted)
    return calls


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
@pytest.mark.parametrize(
    ("sites", "again"), [(VISION_SITES, "image"), (TEXT_SITES, "text"), (VISION_SITES + TEXT_SITES, "both")]
)
def test_only_the_tower_with_the_expert_is_run_again(
    kind: str,
    sites: tuple[str, ...],
    again: str,
    checkpoints: dict[str, Path],
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone = load_backbone(str(checkpoints[kind]), "cpu")
    examples = task.examples("train")[:6]
    backbone.prepare(examples, task)
    calls = count_calls(backbone, monkeypatch)
    backbone.scores(backbone.prepare(examples, task))
    assert calls == {"image": 0, "text": 0}
    method = KINDS.get("lora")
    with attached(backbone, method, make_settings(method, backbone, r=2, target_modules=sites)) as place:
        tensors = {name: value.requires_grad_() for name, value in initial_tensors(method, place.shapes, 0).items()}
        for _ in range(3):
            place.losses(tensors, backbone.prepare(examples, task)).sum().backward()
        ups = [value for name, value in tensors.items() if name.endswith("lora_B.weight")]
        assert all(bool(value.grad.any()) for value in ups if value.grad is not None)
        assert all(value.grad is not None for value in ups)
    assert calls == {"image": 18 if again in ("image", "both") else 0, "text": 9 if again in ("text", "both") else 0}


@pytest.mark.parametrize(("site", "tower"), [("visual_projection", "vision"), ("text_projection", "text")])
def test_an_expert_on_a_projection_is_seen(site: str, tower: str, checkpoints: dict[str, Path]) -> None:
    """PEFT puts a module of its own in the projection's place, which stands beside the tower."""
    backbone = load_backbone(str(checkpoints["clip"]), "cpu")
    assert isinstance(backbone, DualEncoder)
    method = KINDS.get("lora")
    with attached(backbone, method, make_settings(method, backbone, r=2, target_modules=(site,))):
        assert [kind for kind in ("text", "vision") if backbone.carries_expert(kind)] == [tower]
    assert not any(backbone.carries_expert(kind) for kind in ("text", "vision"))


def test_many_classes_are_encoded_in_chunks_whose_activations_are_not_kept(
    checkpoints: dict[str, Path], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = load_backbone(str(checkpoints["clip"]), "cpu")
    method = KINDS.get("lora")
    losses = []
    for size in (2, 64):
        monkeypatch.setattr("pitune.backbones.dual_encoder._TEXTS", size)
        with attached(backbone, method, make_settings(method, backbone, r=2, target_modules=TEXT_SITES)) as place:
            tensors = {name: value.requires_grad_() for name, value in initial_tensors(method, place.shapes, 0).items()}
            loss = place.losses(tensors, backbone.prepare(task.examples("train")[:4], task)).sum()
            loss.backward()
            losses.append([loss.detach(), *(value.grad for value in tensors.values())])
    for one, other in zip(*losses, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("words", [(), (5, 6)])
def test_classes_keep_vectors_of_their_own_in_every_chunk(
    words: tuple[int, ...], checkpoints: dict[str, Path], task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where all begin at the same words, as equal values of different parameters."""
    backbone = load_backbone(str(checkpoints["clip"]), "cpu")
    method = KINDS.get("text_prompt")
    config = make_settings(method, backbone, length=2, classes=3, words=words)
    found = []
    for size in (2, 64):
        monkeypatch.setattr("pitune.backbones.dual_encoder._TEXTS", size)
        with attached(backbone, method, config) as place:
            (vectors,) = initial_tensors(method, place.shapes, 0, config).values()
            tensors = dict.fromkeys(place.shapes, vectors.requires_grad_())
            loss = place.losses(tensors, backbone.prepare(task.examples("train")[:4], task)).sum()
            loss.backward()
            found.append((loss.detach(), vectors.grad))
    assert found[0][1] is not None
    assert bool(found[0][1].flatten(1).any(1).all())
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert backbone.joined is None  # type: ignore[attr-defined]
    fewer = replace(task.examples("train")[0], candidates=("red", "blue"), target="red")
    with attached(backbone, method, config) as place:
        batch = backbone.prepare([fewer], replace(task, splits={}, answers=None))
        with pytest.raises(InputError, match="for 3 classes was given 2 answers"):
            place.losses(tensors, batch)


def test_several_labels(checkpoints: dict[str, Path], task: Task) -> None:
    some = [replace(one, references=("red", "blue")) for one in task.examples("train")[:4]]
    several = replace(task, metric="11-point-map")
    for kind in ("clip", "siglip"):
        backbone = load_backbone(str(checkpoints[kind]), "cpu")
        batch = backbone.prepare(some, several)
        assert batch.relevant is not None
        assert batch.relevant.sum(1).tolist() == [2, 2, 2, 2]
        logits = backbone.scores(batch)
        p = logits.log_softmax(-1)
        right = batch.relevant
        own = {
            "clip": -(p * right).sum(1) / 2,
            "siglip": -F.logsigmoid(torch.where(right, logits, -logits)).sum(1),
        }
        torch.testing.assert_close(backbone.losses(batch), own[kind])
