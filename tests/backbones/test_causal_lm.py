"""Language models of every make are asked, padded and scored alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.conftest import WIDTH, tokenizer, write_language_model
from torch.nn import functional as F

from pitune.backbones import Backbone, layers_recomputed, load_backbone
from pitune.errors import InputError
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.tasks import Task, load_task

CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-5}
KIN: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 8},
    "qwen2": {},
    "qwen3": {"head_dim": 8},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]},
    "phi": {},
    "phi3": {"original_max_position_embeddings": 128},
    "smollm3": {},
    "olmo2": {},
    "granite": {},
    "stablelm": {},
}


def write(model_type: str, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        write_language_model(folder, model_type, num_key_value_heads=2, **KIN[model_type])
    return folder


def texts_of(data: dict[str, Path]) -> Task:
    """Texts and answers of differing lengths, longer than a window of eight tokens."""
    task = load_task(data["taste"])
    train = [
        replace(one, target=("red", "the green sea")[i % 2], text=f"{one.text} {'what ' * (5 * (i % 3))}")
        for i, one in enumerate(task.examples("train")[:6])
    ]
    return Task("mixed", {"train": tuple(train)}, answers=("red", "the green sea"))


@torch.no_grad()
@pytest.mark.parametrize("model_type", list(KIN))
def test_answers_are_scored_as_one_plain_forward_of_each_unpadded_text_does(
    model_type: str, data: dict[str, Path], tmp_path: Path
) -> None:
    backbone: Any = load_backbone(str(write(model_type, tmp_path / model_type)), "cpu")
    task = texts_of(data)
    examples = task.examples("train")
    batch = backbone.prepare(examples, task)
    expected = torch.zeros(len(examples), 2)
    for b, example in enumerate(examples):
        prompt = [1, *backbone._tokenizer(f"{example.text}\nAnswer:", add_special_tokens=False)["input_ids"]]
        for c, answer in enumerate(task.answers or ()):
            own = [*backbone._tokenizer(f" {answer}", add_special_tokens=False)["input_ids"], 2]
            logits = backbone.module(torch.tensor([[*prompt, *own]])).logits[0, len(prompt) - 1 : -1]
            expected[b, c] = -F.cross_entropy(logits.float(), torch.tensor(own), reduction="sum")
    torch.testing.assert_close(backbone.scores(batch), expected.log_softmax(-1), rtol=1e-3, atol=1e-3)
    assert backbone.features(batch).shape == (len(examples), WIDTH)


@pytest.mark.parametrize("model_type", list(KIN))
def test_a_lora_finds_its_place(model_type: str, data: dict[str, Path], tmp_path: Path) -> None:
    backbone = load_backbone(str(write(model_type, tmp_path / model_type)), "cpu")
    kind = KINDS.get("lora")
    task = texts_of(data)
    with attached(backbone, kind, make_settings(kind, backbone)) as place:
        assert len(place.shapes) >= 2 * 2 * 2  # two layers of two places at least
        start = {name: value.requires_grad_() for name, value in initial_tensors(kind, place.shapes, 0).items()}
        place.losses(start, backbone.prepare(task.examples("train"), task)).sum().backward()
        assert all(value.grad is not None for value in start.values())


def test_a_text_that_is_too_long_loses_its_end_and_not_the_question(
    backbones: dict[str, Backbone], data: dict[str, Path]
) -> None:
    backbone: Any = backbones["llama"]
    task = texts_of(data)
    long = replace(task.examples("train")[0], text="sweet " * 500)
    ids = backbone.prepare([long], task).inputs["input_ids"][0].tolist()
    assert len(ids) == 128 - 64
    end = backbone._tokenizer("\nAnswer:", add_special_tokens=False)["input_ids"]
    assert ids[-len(end) :] == end
    assert ids[0] == 1


def test_a_chat_template_is_followed_and_nothing_added_to_it(
    checkpoints: dict[str, Path], data: dict[str, Path]
) -> None:
    backbone: Any = load_backbone(str(checkpoints["llama"]), "cpu")
    template = (
        "{% for m in messages %}<s>User : {{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %} Assistant :{% endif %}"
    )
    backbone._tokenizer.chat_template = template
    task = texts_of(data)
    batch = backbone.prepare(task.examples("train")[:1], task)
    said = f"<s>User : {task.examples('train')[0].text} Assistant :"
    assert batch.inputs["input_ids"][0].tolist() == backbone._tokenizer(said, add_special_tokens=False)["input_ids"]


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    folder = write("qwen2", tmp_path / "model")
    words = tokenizer()
    words.eos_token = None
    words.save_pretrained(folder)
    with pytest.raises(InputError, match="names no eos_token"):
        load_backbone(str(folder), "cpu")


@pytest.mark.parametrize("model_type", KIN)
def test_an_upper_expert_learns_the_same_of_what_lower_layers_made_once(
    model_type: str, data: dict[str, Path], tmp_path: Path
) -> None:
    backbone, task = load_backbone(str(write(model_type, tmp_path)), "cpu"), texts_of(data)
    examples, kind = task.examples("train"), KINDS.get("lora")
    own = make_settings(kind, backbone, target_modules=r"model\.layers\.1\.self_attn\.((q|k|v|o|qkv)_proj|dense)")
    with attached(backbone, kind, own) as place:
        tensors = {
            name: (value + 0.1).requires_grad_() for name, value in initial_tensors(kind, place.shapes, 0, own).items()
        }
        whole, kept = backbone.prepare(examples, task), place.prepare(examples, task)
        assert (whole.layer, kept.layer) == (0, 1)
        torch.testing.assert_close(place.scores(tensors, kept), place.scores(tensors, whole), **CLOSE)
        torch.testing.assert_close(place.features(tensors, kept), place.features(tensors, whole), **CLOSE)
        torch.testing.assert_close(
            place.scores(tensors, kept, ["blue"] * 2), place.scores(tensors, whole, ["blue"] * 2), **CLOSE
        )
        assert place.generate(tensors, kept) == place.generate(tensors, whole)
        gradients = [
            torch.autograd.grad(place.losses(tensors, batch).mean(), list(tensors.values())) for batch in (whole, kept)
        ]
        torch.testing.assert_close(*gradients, **CLOSE)
        some = kept.rows(slice(2, 4))
        torch.testing.assert_close(place.losses(tensors, some), place.losses(tensors, whole)[2:4], **CLOSE)
        drawn = [place.sample(tensors, batch, torch.full((6, 3), 0.4)).inputs for batch in (whole, kept)]
        torch.testing.assert_close(drawn[0]["target_tokens"], drawn[1]["target_tokens"])


def test_open_answers_are_read_on_from_what_is_kept(data: dict[str, Path], tmp_path: Path) -> None:
    backbone, listed = load_backbone(str(write("qwen2", tmp_path)), "cpu"), texts_of(data)
    task = Task("open", {"train": tuple(listed.examples("train"))})
    kind = KINDS.get("lora")
    own = make_settings(kind, backbone, target_modules=r"model\.layers\.1\.mlp\..*_proj")
    with attached(backbone, kind, own) as place:
        tensors = {name: value + 0.1 for name, value in initial_tensors(kind, place.shapes, 0, own).items()}
        whole, kept = backbone.prepare(task.examples("train"), task), place.prepare(task.examples("train"), task)
        assert not len(kept.answers)
        torch.testing.assert_close(place.scores(tensors, kept), place.scores(tensors, whole), **CLOSE)


def test_lower_layers_are_run_once_for_an_input(data: dict[str, Path], tmp_path: Path) -> None:
    backbone, task = load_backbone(str(write("qwen2", tmp_path)), "cpu"), texts_of(data)
    kind, runs = KINDS.get("lora"), list[int]()
    own = make_settings(kind, backbone, target_modules=r"model\.layers\.1\.self_attn\.((q|k|v|o|qkv)_proj|dense)")
    lower = backbone.module.get_submodule("model.layers.0.mlp")
    hook = lower.register_forward_hook(lambda *_: runs.append(1))
    with attached(backbone, kind, own) as place:
        tensors = initial_tensors(kind, place.shapes, 0, own)
        place.scores(tensors, place.prepare(task.examples("train"), task))
        first = len(runs)
        for examples in (task.examples("train"), task.examples("train")[:3]):
            batch = place.prepare(examples, task)
            place.scores(tensors, batch)
            place.losses(tensors, batch)
    hook.remove()
    assert first > 0
    assert len(runs) == first
    assert "forward" not in vars(backbone.module.get_submodule("model.layers.0"))


def test_an_expert_of_the_lowest_layer_keeps_nothing(data: dict[str, Path], tmp_path: Path) -> None:
    backbone, task = load_backbone(str(write("qwen2", tmp_path)), "cpu"), texts_of(data)
    kind = KINDS.get("lora")
    with attached(backbone, kind, make_settings(kind, backbone)) as place:
        assert place.prepare(task.examples("train"), task).layer == 0


def test_layers_that_are_computed_again_stay_so_below_what_is_kept(data: dict[str, Path], tmp_path: Path) -> None:
    backbone, task = load_backbone(str(write("qwen2", tmp_path)), "cpu"), texts_of(data)
    kind = KINDS.get("lora")
    own = make_settings(kind, backbone, target_modules=r"model\.layers\.1\.self_attn\.(q|v)_proj")
    with attached(backbone, kind, own) as place:
        tensors = {name: value.requires_grad_() for name, value in initial_tensors(kind, place.shapes, 0, own).items()}
        batch = place.prepare(task.examples("train"), task)
        plain = torch.autograd.grad(place.losses(tensors, batch).mean(), list(tensors.values()))
        with layers_recomputed(backbone):
            again = torch.autograd.grad(place.losses(tensors, batch).mean(), list(tensors.values()))
    torch.testing.assert_close(again, plain)


def test_each_input_may_list_answers_of_its_own(data: dict[str, Path], tmp_path: Path) -> None:
    """What an input may not answer is not read for it, and is no answer of it either way."""
    backbone, listed = load_backbone(str(write("qwen2", tmp_path)), "cpu"), texts_of(data)
    words = ("red", "the green sea", "blue", "what")
    examples = [
        replace(one, target=words[i % 3], candidates=words[i % 3 : i % 3 + 2])
        for i, one in enumerate(listed.examples("train"))
    ]
    task, kind = Task("own", {"train": tuple(examples)}), KINDS.get("lora")
    own = make_settings(kind, backbone, target_modules=r"model\.layers\.1\.mlp\..*_proj")
    with attached(backbone, kind, own) as place:
        tensors = {name: value + 0.1 for name, value in initial_tensors(kind, place.shapes, 0, own).items()}
        whole, kept = backbone.prepare(examples, task), place.prepare(examples, task)
        found = place.scores(tensors, kept)
        torch.testing.assert_close(found, place.scores(tensors, whole), **CLOSE)
        assert kept.allowed is not None
        assert (found.isneginf() == ~kept.allowed).all()
