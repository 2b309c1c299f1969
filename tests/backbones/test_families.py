"""Every family on a small checkpoint in the real format: what the contract says of its calls holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.conftest import FAMILIES, TEXTS_ALONE, worded_task
from torch import Tensor
from transformers import CONFIG_MAPPING, BertConfig, EncoderDecoderConfig, OwlViTConfig, OwlViTModel, ViTConfig

from pitune import TrainingSettings, evaluate, fit
from pitune.backbones import FAMILIES as REGISTERED
from pitune.backbones import Backbone, Family, load_backbone
from pitune.errors import InputError
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.prediction.fisher import expert_fisher, probe_fisher
from pitune.tasks import load_task

WRITE = ("t5", "florence", "smolvlm", "qwen2_vl", "gemma3", "llama")
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


def numbers(backbone: Backbone) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in backbone.module.state_dict().items()}


@pytest.mark.parametrize("kind", FAMILIES)
def test_scores_losses_and_features(kind: str, backbones: dict[str, Backbone], data: dict[str, Path]) -> None:
    backbone, task = backbones[kind], worded_task(kind, data)
    examples = task.examples("train")[:5]
    batch = backbone.prepare(examples, task)
    scores = backbone.scores(batch)
    answers = task.answers or ()
    assert scores.shape == (5, len(answers))
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(5), **CLOSE)
    assert backbone.losses(batch).shape == (5,)
    assert backbone.features(batch).ndim == 2
    assert all(len(value) == 5 for value in batch.inputs.values())
    one_by_one = [backbone.scores(backbone.prepare([example], task)) for example in examples]
    torch.testing.assert_close(torch.cat(one_by_one), scores, **CLOSE)
    texts = [task.answer_text(answer) for answer in answers]
    torch.testing.assert_close(backbone.scores(batch, texts), scores, **CLOSE)
    mixed = replace(examples[0], candidates=answers[:2], target=answers[0])
    assert backbone.scores(backbone.prepare([mixed], task))[0, 2:].isneginf().all()


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_experts_attach_train_and_leave_no_trace(
    kind: str, method: str, backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone, task = backbones[kind], worded_task(kind, data)
    before = numbers(backbone)
    batch = backbone.prepare(task.examples("train")[:4], task)
    expected = backbone.scores(batch)
    chosen = KINDS.get(method)
    with attached(backbone, chosen, make_settings(chosen, backbone)) as place:
        start = {name: value.requires_grad_() for name, value in initial_tensors(chosen, place.shapes, 0).items()}
        again = backbone.prepare(task.examples("train")[:4], task)
        torch.testing.assert_close(
            place.scores(start, again), expected, rtol=1e-2, atol=2e-2
        )  # features are kept in half
        place.losses(start, again).sum().backward()
        assert sum(value.grad is not None and bool(value.grad.any()) for value in start.values()) >= len(start) // 4
    assert all(torch.equal(value, before[name]) for name, value in backbone.module.state_dict().items())
    torch.testing.assert_close(backbone.scores(batch), expected)


@pytest.mark.parametrize("kind", FAMILIES)
def test_fit_evaluate_and_fisher(kind: str, backbones: dict[str, Backbone], data: dict[str, Path]) -> None:
    backbone, task = backbones[kind], worded_task(kind, data)
    expert = fit(backbone, task, shots=2, settings=TrainingSettings(steps=4, learning_rate=1e-2, evaluations=1), r=2)
    assert expert.card.backbone == backbone.fingerprint
    assert 0 <= float(evaluate(backbone, task, expert)["value"]) <= 1
    examples = task.examples("train")[:4]
    found = expert_fisher(backbone, task, expert, examples, labels="empirical", chunk=3)
    again = expert_fisher(backbone, task, expert, examples, labels="empirical", chunk=4)
    assert any(bool(value.any()) for value in found.values())
    for name, value in found.items():
        torch.testing.assert_close(value, again[name], rtol=1e-3, atol=1e-9)
    assert all(bool(value.isfinite().all()) for value in probe_fisher(backbone, task, examples[:2]).values())


@pytest.mark.parametrize("kind", WRITE)
def test_open_answers(kind: str, backbones: dict[str, Backbone], data: dict[str, Path]) -> None:
    task = load_task(data["captions"])
    if kind in TEXTS_ALONE:
        splits = {part: [replace(one, image=None, text="tell") for one in found] for part, found in task.splits.items()}
        task = replace(task, splits=splits)
    backbone = backbones[kind]
    batch = backbone.prepare(task.examples("train")[:3], task)
    torch.testing.assert_close(backbone.scores(batch), -backbone.losses(batch)[:, None], **CLOSE)
    written = backbone.generate(batch)
    assert len(written) == 3
    assert all("<pad>" not in text and "</s>" not in text for text in written)
    expert = fit(backbone, task, shots=4, settings=TrainingSettings(steps=2, evaluations=1), r=2)
    assert evaluate(backbone, task, expert)["metric"] == "cider"


@pytest.mark.parametrize("kind", ["florence", "smolvlm", "qwen2_vl", "gemma3"])
def test_questions_about_images(kind: str, backbones: dict[str, Backbone], data: dict[str, Path]) -> None:
    task = load_task(data["questions"])
    assert evaluate(backbones[kind], task)["n"] == len(task.examples("test"))


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(("method", "size"), [("lora", {"r": 2}), ("adapter", {"width": 4})])
def test_number_formats(
    kind: str, dtype: str, method: str, size: dict[str, Any], checkpoints: dict[str, Path], data: dict[str, Path]
) -> None:
    backbone, task = load_backbone(str(checkpoints[kind]), "cpu", dtype), worded_task(kind, data)
    kept = {torch.float32} if kind == "t5" else set()  # transformers keeps T5's `wo` in full under float16
    assert {value.dtype for value in backbone.module.parameters()} - kept == {getattr(torch, dtype)}
    settings = TrainingSettings(steps=1, evaluations=1)
    expert = fit(backbone, task, method=method, shots=1, settings=settings, **size)
    assert {value.dtype for value in expert.tensors.values()} == {torch.float32}
    assert 0 <= float(evaluate(backbone, task, expert)["value"]) <= 1
    assert backbone.fingerprint == load_backbone(str(checkpoints[kind]), "cpu").fingerprint


def test_what_a_family_cannot_read(backbones: dict[str, Backbone], data: dict[str, Path]) -> None:
    texts, images, both = (load_task(data[name]) for name in ("taste", "colour", "questions"))
    for kind, task, said in (
        ("clip", texts, "has text; .* matches an image alone"),
        ("clip", both, "has text besides its image"),
        ("t5", images, "has images, and .* reads text alone"),
        ("llama", images, "has images, and .* reads text alone"),
        ("bert", images, "has images, and .* reads text alone"),
    ):
        with pytest.raises(InputError, match=said):
            backbones[kind].prepare(task.examples("train")[:2], task)
    batch = backbones["clip"].prepare(images.examples("train")[:2], images)
    with pytest.raises(InputError, match="cannot write text"):
        backbones["clip"].generate(batch)
    assert backbones["t5"].sites("nothing") == ()
    mixed = [images.examples("train")[0], texts.examples("train")[0]]
    with pytest.raises(InputError, match="mixes kinds of input"):
        backbones["florence"].prepare(mixed, images)


def copy(folder: Path, to: Path, leave: str = "") -> Path:
    to.mkdir()
    for file in folder.iterdir():
        if file.name != leave:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_checkpoints_that_cannot_be_loaded(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    def refuse(folder: Path | str, said: str, dtype: str | None = None) -> None:
        with pytest.raises(InputError, match=said) as caught:
            load_backbone(str(folder), "cpu", dtype)
        assert "\n" not in str(caught.value)

    t5 = checkpoints["t5"]
    refuse("nothing", "unknown backbone 'nothing'; expected one of: a checkpoint folder, a hub id OWNER/NAME, pocket")
    refuse(copy(t5, tmp_path / "a", "config.json"), "has no config.json")
    pickled = copy(t5, tmp_path / "b", "model.safetensors")
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04")
    refuse(pickled, r"has no \*.safetensors; convert the weights, other formats can run code")
    refuse(copy(t5, tmp_path / "c", "tokenizer.json"), "has no tokenizer that can be loaded")
    refuse(copy(checkpoints["clip"], tmp_path / "d", "preprocessor_config.json"), "has no image processor")
    foreign = copy(t5, tmp_path / "e")
    config = {"model_type": "stranger", "auto_map": {"AutoConfig": "code.Config"}}
    (foreign / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (foreign / "code.py").write_text("raise SystemExit('ran')", encoding="utf-8")
    refuse(foreign, "not a known configuration")
    cut = copy(t5, tmp_path / "f")
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-9])
    refuse(cut, "cannot be loaded")
    refuse(t5, "unknown number format 'float8'; expected one of: float32, bfloat16, float16", "float8")
    refuse("pocket", "pocket computes in float32; found dtype 'float16'", "float16")


@pytest.mark.parametrize("kind", ["vit", "git", "whisper", "align", "flava", "encoder-decoder"])
def test_models_of_no_family_are_refused_by_their_type_before_weights_are_read(kind: str, tmp_path: Path) -> None:
    config = EncoderDecoderConfig(encoder=BertConfig().to_dict(), decoder=BertConfig().to_dict())
    (config if kind == "encoder-decoder" else CONFIG_MAPPING[kind]()).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=f"no backbone family reads models of type '{kind}'; expected") as caught:
        load_backbone(str(tmp_path), "cpu")
    assert "\n" not in str(caught.value)
    for family in ("dual encoder (clip, ", "causal language model (llama, qwen3, ", "sentence encoder (bert, mpnet, "):
        assert family in str(caught.value)


def test_a_folder_of_timm_or_no_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    for text, said in (
        (
            '{"architecture": "resnet18", "pretrained_cfg": {}}',
            r"names no model_type \(it has architecture, pretrained_cfg\); expected .* transformers",
        ),
        ("{", "not JSON"),
        ("5", "not JSON"),
        ('{"model_type": "clip", "text_config": 5}', "not a known configuration"),
    ):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said) as caught:
            load_backbone(str(tmp_path), "cpu")
        assert "\n" not in str(caught.value)


def test_any_other_dual_encoder_of_transformers_is_read(
    checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path
) -> None:
    """A type that no family lists is read where the model has all that a dual encoder needs."""
    tower = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**tower, "vocab_size": 64, "eos_token_id": 2, "max_position_embeddings": 16}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    config = OwlViTConfig(text_config=text, vision_config=vision, projection_dim=16)
    OwlViTModel(config).save_pretrained(copy(checkpoints["clip"], tmp_path / "owl", "model.safetensors"))
    backbone, task = load_backbone(str(tmp_path / "owl"), "cpu"), worded_task("clip", data)
    assert evaluate(backbone, task)["n"] == len(task.examples("test"))


def test_a_family_of_a_program_s_own_is_one_registration(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    ViTConfig().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    family = Family(
        named={"mine": lambda device, dtype: backbones["t5"]},
        types=("vit",),
        load=lambda found, device, dtype: backbones["clip"],
    )
    REGISTERED.register("mine", family)
    try:
        assert load_backbone("mine", "cpu") is backbones["t5"]
        assert load_backbone(str(tmp_path), "cpu") is backbones["clip"]
    finally:
        REGISTERED.forget("mine")
    with pytest.raises(InputError, match="unknown backbone 'mine'"):
        load_backbone("mine", "cpu")


def test_the_fingerprint_follows_the_weights(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    first = load_backbone(str(checkpoints["t5"]), "cpu")
    assert load_backbone(str(copy(checkpoints["t5"], tmp_path / "same")), "cpu").fingerprint == first.fingerprint
    assert len({load_backbone(str(folder), "cpu").fingerprint for folder in checkpoints.values()}) == len(checkpoints)


def test_a_hub_id_is_pinned_to_its_commit(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789abcdef"
    snapshot = copy(checkpoints["t5"], tmp_path / commit)
    asked: list[object] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision, allow_patterns))
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    backbone = load_backbone("some/t5@v1.0", "cpu")
    weights = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    assert asked == [("some/t5", "v1.0", ["config.json", "open_clip_config.json"]), ("some/t5", commit, weights)]
    assert backbone.name == f"some/t5@{commit}"
    assert backbone.fingerprint != load_backbone(str(checkpoints["t5"]), "cpu").fingerprint

    def fail(*_: object, **__: object) -> str:
        raise OSError("no network\nat all")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(InputError, match=r"backbone 'some/t5': cannot be fetched from the hub \(no network\)"):
        load_backbone("some/t5", "cpu")
