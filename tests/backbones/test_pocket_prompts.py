"""Prompts on pocket: words join the answers, pictures join the input, and everything else is read as before."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.conftest import draw_of
from torch.nn import functional as F

from pitune.backbones import Backbone
from pitune.experts import KINDS, Attached, Kind, KindSettings, attached, initial_tensors, make_settings
from pitune.experts.kinds.unified_prompt import fold
from pitune.pocket.backbone import Pocket
from pitune.pocket.model import mean_pool, run_trunk
from pitune.prediction.fisher import fisher_at
from pitune.tasks import Task
from pitune.training import TrainingSettings, evaluate_expert, fit_expert

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}
WORDS = "answers.words.text_prompt.vectors"


def placed(
    backbone: Backbone, method: str, **settings: object
) -> tuple[Kind, KindSettings, AbstractContextManager[Attached]]:
    kind = KINDS.get(method)
    config = make_settings(kind, backbone, **settings)
    return kind, config, attached(backbone, kind, config)


def random_tensors(shapes: Mapping[str, torch.Size], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.mark.parametrize("around", ["name", "text"])
def test_text_vectors_are_read_among_an_answers_words_and_not_averaged(
    around: str, tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    task = replace(tiny_tasks["colour"], answer_template="a photo of {} .")
    model, examples = tiny_backbone.model, task.examples("test")[:5]
    plain = tiny_backbone.prepare(examples, task)
    _, _, place = placed(tiny_backbone, "text_prompt", length=3, around=around)
    with torch.no_grad(), place as inside:
        tensors = random_tensors(inside.shapes)
        batch = tiny_backbone.prepare(examples, task)
        found = inside.scores(tensors, batch)
    spelled = "{}." if around == "name" else task.answer_template  # CoOp's vectors stand in the template's place
    tokens = tiny_backbone._tokens([spelled.format(answer) for answer in task.answers])
    rows = []
    for ids, mask in zip(tokens["input_ids"], tokens["attention_mask"], strict=True):
        words = model.trunk.embeddings.word_embeddings(ids[mask.bool()])
        spoken = torch.cat([words[:1], tensors[WORDS], words[1:]])[None]
        hidden = run_trunk(model.answer_trunk, spoken, torch.ones(spoken.shape[:2]))
        rows.append(torch.cat([hidden[0, :1], hidden[0, 4:]]).mean(0))
    expected = model(plain.inputs, F.normalize(torch.stack(rows), dim=-1)).log_softmax(-1)
    torch.testing.assert_close(found, expected, **CLOSE)
    torch.testing.assert_close(batch.inputs["vectors"], tiny_backbone.features(plain), **CLOSE)  # seen once


def test_only_what_joins_the_words_has_answers_encoded_again(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_tasks["colour"]
    calls = []
    encode = tiny_backbone.model.encode_answers

    def counted(*arguments: Any) -> Any:
        calls.append(1)
        return encode(*arguments)

    tiny_backbone._encoded.cache_clear()
    tiny_backbone._answer.cache_clear()
    monkeypatch.setattr(tiny_backbone.model, "encode_answers", counted)
    data = draw_of(task, 8, validate=False)
    settings = TrainingSettings(steps=4, batch_size=8)
    counts = {}
    for method in ("lora", "visual_prompt", "text_prompt"):
        calls.clear()
        fit_expert(tiny_backbone, data, method=method, settings=settings)
        counts[method] = len(calls)
    assert counts == {
        "lora": len(task.answers or ()),
        "visual_prompt": 0,
        "text_prompt": settings.steps + 1,  # the last values are kept once their own loss is known to be finite
    }  # the first keeps each answer


def test_visual_vectors_stand_behind_the_token_of_classes(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["colour"]
    model, batch = tiny_backbone.model, tiny_backbone.prepare(task.examples("test")[:5], task)
    _, _, place = placed(tiny_backbone, "visual_prompt", length=3, deep=False)
    with torch.no_grad(), place as inside:
        tensors = random_tensors(inside.shapes)
        found = inside.scores(tensors, batch)
        seen = model.projection.class_vector(batch.inputs["image_logits"])
        image = model.trunk.embeddings(inputs_embeds=model.projection(batch.inputs["image_tokens"], seen))
    own = next(iter(tensors.values())).expand(5, -1, -1)  # without positions, as in the paper
    hidden = torch.cat([image[:, :1], own, image[:, 1:]], 1)
    for layer in model.trunk.encoder.layer:
        hidden = layer(hidden, None)
    kept = torch.cat([hidden[:, :1], hidden[:, 4:]], 1)
    pooled = F.normalize(mean_pool(kept, torch.ones(kept.shape[:2])), dim=-1)
    vectors = F.normalize(pooled + model.projection.residual * seen, dim=-1)
    scores = model.projection.log_scale.exp() * vectors @ batch.answers.T
    torch.testing.assert_close(found, scores.log_softmax(-1), **CLOSE)


@pytest.mark.parametrize("method", ["text_prompt", "visual_prompt", "unified_prompt"])
def test_prompts_learn_and_their_fisher_information_is_that_of_a_loop(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_tasks["colour"]
    data = draw_of(task)
    settings = TrainingSettings(steps=20, batch_size=16, learning_rate=5e-2, evaluations=4)
    expert, _ = fit_expert(tiny_backbone, data, method=method, settings=settings)
    before, after = (evaluate_expert(tiny_backbone, task, one, task.examples("test")).loss for one in (None, expert))
    assert after < before
    kind, _, place = placed(tiny_backbone, method)
    with place as inside:
        given = (inside, expert.tensors, list(expert.tensors), task, data.train[:6])
        how: dict[str, Any] = {"labels": "empirical", "seed": 0, "chunk": 4}
        together = fisher_at(*given, **how)
        monkeypatch.setattr(tiny_backbone, "vectorises", False)
        one_by_one = fisher_at(*given, **how)
    for name, value in one_by_one.items():
        scale = float(value.max())  # small numbers are differences of large ones
        torch.testing.assert_close(together[name], value, rtol=5e-3, atol=1e-3 * scale)
    assert kind.name == method


def test_a_folded_unified_prompt_scores_the_same(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["colour"]
    data = draw_of(task, 16, validate=False)
    settings = TrainingSettings(steps=5, batch_size=16, learning_rate=5e-2)
    expert, _ = fit_expert(
        tiny_backbone, data, method="unified_prompt", settings=settings, text_length=2, visual_length=3
    )
    folded = fold(expert)
    assert folded.parameters < expert.parameters
    whole, kept = (evaluate_expert(tiny_backbone, task, one, task.examples("test")).scores for one in (expert, folded))
    torch.testing.assert_close(kept, whole, **CLOSE)


def test_the_place_for_words_adds_nothing_to_the_trunk(tiny_backbone: Pocket) -> None:
    trunk: Any = tiny_backbone.module
    assert not any(name.startswith("answers") for name in [*trunk.state_dict(), *dict(trunk.named_parameters())])
    assert torch.equal(trunk.answers.words.weight, trunk.embeddings.word_embeddings.weight)
    kind, config, place = placed(tiny_backbone, "lora")
    with place as inside:
        names = initial_tensors(kind, inside.shapes, 0, config)
    assert all(name.startswith("encoder.layer.") for name in names)
