"""Shared prefixes change the cost of answers, never their likelihood."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pitune.backbones import Backbone, Batch, load_backbone
from pitune.backbones import likelihood as likelihood
from pitune.tasks import Task, load_task

ANSWERS = ("red", "the green sea", "blue wave of salt", "no")
ALIKE = ("the sea is red", "the sea", "the sea is of salt and sand", "the sea no")


def task_for(kind: str, data: dict[str, Path], answers: tuple[str, ...] = ANSWERS) -> Task:
    """A task with inputs and answers of differing lengths."""
    if kind in ("t5", "llama"):
        splits = load_task(data["taste"]).splits
    elif kind == "florence":
        splits = load_task(data["questions"]).splits
    else:
        splits = load_task(data["questions"]).splits
    told = {
        part: [
            replace(one, target=answers[i % 4], text=f"{one.text} {'what ' * (i % 3)}") for i, one in enumerate(found)
        ]
        for part, found in splits.items()
    }
    return Task("mixed", told, answers=answers)


def whole(kind: str, backbone: Backbone, batch: Batch, tokens: Tensor) -> Tensor:
    """Return −log p of target tokens (B, T) in one plain forward of transformers' model, without a cache."""
    model = backbone.module
    inputs = {name: value for name, value in batch.inputs.items() if name != "target_tokens"}
    if kind not in ("t5", "florence"):
        own = tokens.clamp_min(0)
        length = inputs["input_ids"].shape[1]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], own], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], (tokens >= 0).long()], 1)
        places = (inputs["attention_mask"].cumsum(1) - 1).clamp_min(0)
        logits = model(**inputs, position_ids=places).logits[:, length - 1 : -1]
    else:
        start = backbone._start  # type: ignore[attr-defined]
        before = F.pad(tokens.clamp_min(0)[:, :-1], (1, 0), value=start)
        logits = model(**inputs, decoder_input_ids=before).logits
    each = F.cross_entropy(logits.transpose(1, 2), tokens, ignore_index=-100, reduction="none")
    return each.sum(1)


@pytest.mark.parametrize("answers", [ANSWERS, ALIKE, ("red", "blue", "no", "green")])
@pytest.mark.parametrize("kind", ["t5", "florence", "smolvlm", "llama"])
def test_likelihoods_are_those_of_one_plain_forward(
    kind: str,
    answers: tuple[str, ...],
    backbones: dict[str, Backbone],
    data: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backbone, task = backbones[kind], task_for(kind, data, answers)
    batch = backbone.prepare(task.examples("train")[:6], task)
    expected = whole(kind, backbone, batch, batch.inputs["target_tokens"])
    torch.testing.assert_close(backbone.losses(batch), expected, rtol=1e-4, atol=1e-4)
    each = torch.stack([-whole(kind, backbone, batch, row.expand(6, -1)) for row in batch.answers], 1)
    torch.testing.assert_close(backbone.scores(batch), each.log_softmax(-1), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(likelihood, "_ROWS", 6)
    torch.testing.assert_close(backbone.scores(batch), each.log_softmax(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["t5", "florence", "smolvlm", "llama"])
def test_the_input_is_read_once_for_all_answers(
    kind: str, backbones: dict[str, Backbone], data: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone, task = backbones[kind], task_for(kind, data)
    read: list[int] = []
    taken = backbone._read  # type: ignore[attr-defined]
    monkeypatch.setattr(backbone, "_read", lambda inputs: read.append(1) or taken(inputs))
    backbone.scores(backbone.prepare(task.examples("train")[:2], task))
    assert read == [1]


@torch.no_grad()
@pytest.mark.parametrize("kind", ["t5", "florence", "smolvlm", "llama"])
def test_what_all_answers_begin_with_is_read_once_and_the_input_is_not_repeated(
    kind: str, checkpoints: dict[str, Path], data: dict[str, Path]
) -> None:
    backbone = load_backbone(str(checkpoints[kind]), "cpu")
    batch = backbone.prepare(task_for(kind, data, ALIKE).examples("train")[:3], task_for(kind, data, ALIKE))
    prefix = backbone._read(batch.inputs)  # type: ignore[attr-defined]
    seen: list[tuple[str, tuple[int, ...]]] = []
    for name, module in backbone.module.named_modules():
        if name.endswith(("lm_head", "EncDecAttention.q", "encoder_attn.q_proj")):
            module.register_forward_pre_hook(lambda _, given, name=name: seen.append((name, tuple(given[0].shape[:2]))))
    likelihood.answer_scores(prefix, batch.answers, backbone._proceed)  # type: ignore[attr-defined]
    marks = 1 if kind == "florence" else 0
    heads = [shape for name, shape in seen if name.endswith("lm_head")]
    assert heads == [(3, 2 + marks), (3 * 4, 5)]  # "the sea" once, then at most "is of salt and sand" of four answers
    assert all(shape in ((3, 2 + marks), (3, 4 * 5)) for name, shape in seen if not name.endswith("lm_head"))
    assert kind in ("smolvlm", "llama") or len(seen) > 2


def test_location_tokens_are_part_of_an_answer(backbones: dict[str, Backbone]) -> None:
    backbone = backbones["florence"]
    written = backbone._written(["red <loc_0><loc_1>"])[0]  # type: ignore[attr-defined]
    assert backbone._text(written.tolist()).replace(" ", "") == "red<loc_0><loc_1>"  # type: ignore[attr-defined]


def test_a_text_cannot_pretend_to_be_an_image(backbones: dict[str, Backbone]) -> None:
    prompt = backbones["smolvlm"]._prompt  # type: ignore[attr-defined]
    assert "<image>" not in prompt("what <image> is it", 0)
    assert prompt("what <image> is it", 4).count("<image>") == 4


def test_a_chat_template_is_followed(backbones: dict[str, Backbone], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = backbones["smolvlm"]
    template = (
        "{% for m in messages %}{% for part in m.content %}"
        "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %} ?{% endfor %} Assistant:"
    )
    monkeypatch.setattr(backbone._tokenizer, "chat_template", template)  # type: ignore[attr-defined]
    prompt = backbone._prompt("is it red", 4)  # type: ignore[attr-defined]
    assert prompt.endswith("is it red ? Assistant:")
    assert prompt.count("<image>") == 4
