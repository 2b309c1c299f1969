"""Prompts and prefixes do what their papers say: checked against models that are given the same as real tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from tests.contracts.families import EOS, SOS, Tiny, build
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, LlamaConfig, LlamaModel

from pitune.backbones import Backbone, Batch
from pitune.errors import InputError
from pitune.experts import KINDS, Card, Expert, attached, initial_tensors, make_settings
from pitune.experts.kinds.unified_prompt import fold, split

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}


def scores_with(backbone: Tiny, method: str, tensors: Mapping[str, Tensor], **settings: object) -> Tensor:
    kind = KINDS.get(method)
    with torch.no_grad(), attached(backbone, kind, make_settings(kind, backbone, **settings)) as place:
        return place.scores(tensors, backbone.batch)


def expert_of(backbone: Backbone, method: str, seed: int = 0, **settings: object) -> Expert:
    """Return an expert of random values."""
    kind = KINDS.get(method)
    config = make_settings(kind, backbone, **settings)
    with attached(backbone, kind, config) as place:
        start = initial_tensors(kind, place.shapes, seed, config)
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: value + 0.3 * torch.randn(value.shape, generator=generator) for name, value in start.items()}
    card = Card(name="random", backbone=backbone.fingerprint, base_model=backbone.name)
    return Expert(kind, config, tensors, card)


def with_expert(backbone: Tiny, expert: Expert) -> Tensor:
    kind = KINDS.get(expert.method)
    with torch.no_grad(), attached(backbone, kind, expert.settings) as place:
        return place.scores(expert.tensors, backbone.batch)


def test_prompts_before_an_encoder_are_like_words_before_the_text() -> None:
    """T5 knows tokens by their distances alone, so vectors of words in front are words in front."""
    backbone = build("t5")
    encoder, words = backbone.module.encoder, torch.tensor([5, 9, 31])
    ids, mask = backbone.batch.inputs["input_ids"], backbone.batch.inputs["mask"]
    longer = torch.cat([words.expand(len(ids), -1), ids], 1)
    seen = torch.cat([torch.ones(len(ids), 3, dtype=torch.long), mask], 1)
    with torch.no_grad():
        expected = encoder(input_ids=longer, attention_mask=seen).last_hidden_state[:, 3:]
    kind = KINDS.get("prompt")
    vectors = encoder.embed_tokens(words)
    with torch.no_grad(), attached(backbone, kind, make_settings(kind, backbone, length=3)) as place:
        for name, path in place._paths.items():
            assert name == "encoder.block.0.prompt.vectors"
            backbone.module.get_parameter(path.removeprefix("module.")).copy_(vectors)
        found = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(found[mask.bool()], expected[mask.bool()], **CLOSE)


def test_deep_prompts_replace_those_of_the_layer_before() -> None:
    backbone = build("bert")
    generator = torch.Generator().manual_seed(0)
    first, second, other = (torch.randn(2, backbone.width, generator=generator) for _ in range(3))
    names = [f"encoder.layer.{i}.deep_prompt.vectors" for i in range(2)]
    deep = scores_with(backbone, "deep_prompt", dict(zip(names, (first, second), strict=True)), length=2)
    changed = scores_with(backbone, "deep_prompt", dict(zip(names, (first, other), strict=True)), length=2)
    shallow = scores_with(backbone, "prompt", {"encoder.layer.0.prompt.vectors": first}, length=2)
    assert float((deep - changed).abs().max()) > 1e-2
    assert float((deep - shallow).abs().max()) > 1e-2


def test_prefixes_are_keys_and_values_of_their_own() -> None:
    """A prefix made of the keys and values of words is like those words, seen but not seeing."""
    backbone = build("bert", "eager")
    attention = backbone.module.encoder.layer[0].attention.self
    hidden = torch.randn(2, 5, backbone.width)
    with torch.no_grad():
        key, value = attention.key(hidden[0, :2]), attention.value(hidden[0, :2])
        expected = attention(hidden[:1])[0][:, 2:]
        kind = KINDS.get("prefix")
        config = make_settings(kind, backbone, length=2, target_modules=["encoder.layer.0.attention.self"])
        with attached(backbone, kind, config):
            attention.pitune_prefix.key.copy_(key)
            attention.pitune_prefix.value.copy_(value)
            found = attention(hidden[:1, 2:])[0]
    torch.testing.assert_close(found, expected, **CLOSE)


class Decoder:
    """A decoder-only model with rotary positions, enough of a backbone to attach to."""

    name, fingerprint = "llama", "llama"

    def __init__(self) -> None:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
        more = {"num_key_value_heads": 2, "vocab_size": 50, "attn_implementation": "sdpa"}
        config = LlamaConfig.from_dict({**sizes, **more})
        self.module = LlamaModel(config).eval().requires_grad_(False)

    def sites(self, role: str) -> tuple[str, ...]:
        return tuple(f"layers.{i}" + (".self_attn" if role == "attention_modules" else "") for i in range(2))


@pytest.mark.parametrize("method", ["prefix", "prompt", "deep_prompt"])
@pytest.mark.parametrize("padded", [False, True])
def test_decoders_stay_causal(method: str, padded: bool) -> None:
    backbone = cast("Any", Decoder())
    ids = torch.tensor([[4, 8, 15, 16, 23], [4, 8, 15, 16, 42]])
    mask = torch.ones_like(ids)
    if padded:
        mask[:, 0] = 0
    kind = KINDS.get(method)
    with torch.no_grad(), attached(backbone, kind, make_settings(kind, backbone, length=3)) as place:
        for path in place._paths.values():
            backbone.module.get_parameter(path.removeprefix("module.")).normal_()
        found = backbone.module(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        cached = backbone.module(input_ids=ids[:, :4], attention_mask=mask[:, :4], use_cache=True)
        rest = {"input_ids": ids[:, 4:], "attention_mask": mask, "past_key_values": cached.past_key_values}
        if method == "prefix":  # prefixes join at every step, once
            last = backbone.module(**rest).last_hidden_state
            torch.testing.assert_close(last[:, -1], found[:, -1], **CLOSE)
        else:
            with pytest.raises(InputError, match="use_cache=False"):
                backbone.module(**rest)
    plain = backbone.module(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    assert found.shape == plain.shape
    torch.testing.assert_close(found[0, 1:4], found[1, 1:4], **CLOSE)
    assert float((found - plain)[:, 1:].abs().max()) > 1e-2


@pytest.mark.parametrize("name_at", ["end", "middle", "front"])
def test_text_prompts_of_words_are_those_words(name_at: str) -> None:
    backbone = build("clip")
    words = [11, 12, 13, 14]
    layout = {"end": lambda name: [*words, *name], "front": lambda name: [*name, *words]}
    layout["middle"] = lambda name: [*words[:2], *name, *words[2:]]
    rows = []
    for row in backbone.batch.answers.tolist():
        inside = row[1 : row.index(EOS)]
        spoken = [SOS, *layout[name_at](inside[:-1]), inside[-1], EOS]
        rows.append(spoken + [0] * (10 - len(spoken)))
    spelled = Batch(backbone.batch.ids, backbone.batch.inputs, torch.tensor(rows), backbone.batch.target)
    embedding = backbone.module.text_model.embeddings.token_embedding
    name = "text_model.embeddings.token_embedding.text_prompt.vectors"
    given = {"length": 4, "name_at": name_at}
    expected = backbone.scores(spelled)
    vectors = embedding(torch.tensor(words))
    torch.testing.assert_close(scores_with(backbone, "text_prompt", {name: vectors}, **given), expected, **CLOSE)
    started = scores_with(backbone, "text_prompt", {name: torch.zeros(4, 16)}, words=words, **given)
    torch.testing.assert_close(started, expected, **CLOSE)
    each = vectors.expand(3, -1, -1).clone()
    torch.testing.assert_close(
        scores_with(backbone, "text_prompt", {name: each}, classes=3, **given), expected, **CLOSE
    )
    each[1, :, 0] += 1.0
    moved = scores_with(backbone, "text_prompt", {name: each}, classes=3, **given).exp() - expected.exp()
    assert float(moved[:, 1].abs().min()) > 0


def test_text_prompts_cut_padding_but_no_words() -> None:
    backbone = build("clip")
    padded = torch.cat([backbone.batch.answers, torch.zeros(3, 22, dtype=torch.long)], 1)  # 28 places, all there are
    full = Batch(backbone.batch.ids, backbone.batch.inputs, padded, backbone.batch.target)
    expert = expert_of(backbone, "text_prompt", length=16)
    kind = KINDS.get("text_prompt")
    with torch.no_grad(), attached(backbone, kind, expert.settings) as place:
        torch.testing.assert_close(place.scores(expert.tensors, full), place.scores(expert.tensors, backbone.batch))
    with pytest.raises(InputError, match="do not fit in the text tower's 28 places"):
        with_expert(backbone, expert_of(backbone, "text_prompt", length=24))
    with pytest.raises(InputError, match="for 5 classes was given 3 answers"):
        with_expert(backbone, expert_of(backbone, "text_prompt", length=4, classes=5))
    with pytest.raises(InputError, match="2 words for 4 vectors"):
        make_settings(kind, backbone, length=4, words=[1, 2])


def test_visual_prompts_stand_after_the_class_token_without_positions() -> None:
    backbone = build("clip")
    vision, pixels = backbone.module.vision_model, backbone.batch.inputs["pixels"]
    expert = expert_of(backbone, "visual_prompt", length=3)
    own = list(expert.tensors.values())
    with torch.no_grad():
        hidden = vision.pre_layrnorm(vision.embeddings(pixels))
        for i, layer in enumerate(vision.encoder.layers):
            after = 1 if i == 0 else 4
            hidden = torch.cat([hidden[:, :1], own[i].expand(len(pixels), -1, -1), hidden[:, after:]], 1)
            hidden = layer(hidden, None)
        image = backbone.module.visual_projection(vision.post_layernorm(hidden[:, 0]))
        text = backbone.module.text_projection(backbone.module.text_model(backbone.batch.answers).pooler_output)
        norm = nn.functional.normalize
        expected = (8.0 * norm(image, dim=-1) @ norm(text, dim=-1).T).log_softmax(-1)
    torch.testing.assert_close(with_expert(backbone, expert), expected, **CLOSE)


def test_visual_prompts_start_as_patch_embeddings_do() -> None:
    backbone = build("clip")
    kind = KINDS.get("visual_prompt")
    config = make_settings(kind, backbone, length=200)
    assert config.model_dump()["patch"] == 8
    shape = torch.Size((200, 16))
    found = kind.initial("x.visual_prompt.vectors", shape, torch.Generator().manual_seed(0), config)
    bound = (6 / (3 * 8**2 + 16)) ** 0.5
    assert 0.98 * bound < float(found.abs().max()) <= bound


def test_every_prompt_of_a_unified_prompt_sees_all_others() -> None:
    backbone = build("clip")
    expert = expert_of(backbone, "unified_prompt", text_length=2, visual_length=3, width=8)
    before = fold(expert).tensors
    for name, where in (("text", (0, 3)), ("visual", (1, 2, 5))):
        key = f"unified_prompt.seeds.{name}"
        changed = expert.tensors[key].clone()
        changed[where] += 1.0
        after = fold(replace(expert, tensors={**expert.tensors, key: changed})).tensors
        for part, value in before.items():
            moved = (after[part] - value).abs().amax(-1)
            assert float(moved.min()) > 1e-6, f"a prompt of {part} did not see {name}"


def test_prompts_that_do_not_attend_see_themselves_alone() -> None:
    """As in the released code of MVLPT, whose attention runs over an axis of one."""
    expert = expert_of(build("clip"), "unified_prompt", text_length=2, visual_length=3, width=8, attends=False)
    before = fold(expert).tensors
    key = "unified_prompt.seeds.visual"
    changed = expert.tensors[key].clone()
    changed[1, 2, 5] += 1.0
    after = fold(replace(expert, tensors={**expert.tensors, key: changed})).tensors
    moved = {name: (after[name] - value).abs().amax(-1) for name, value in before.items()}
    assert float(moved["unified_prompt.seeds.text"].max()) == 0
    assert (moved[key] > 1e-6).nonzero().tolist() == [[1, 2]]


def test_a_folded_unified_prompt_is_plain_prompts_of_the_same_outputs() -> None:
    backbone = build("clip")
    for deep in (True, False):
        expert = expert_of(backbone, "unified_prompt", text_length=2, visual_length=3, width=8, deep=deep)
        expected = with_expert(backbone, expert)
        folded = fold(expert)
        assert fold(folded) is folded
        torch.testing.assert_close(with_expert(backbone, folded), expected, **CLOSE)
        text, visual = split(expert)
        kinds = [(KINDS.get(one.method), one) for one in (text, visual)]
        (text_kind, _), (visual_kind, _) = kinds
        outer = visual_kind.attach(backbone, visual.settings)
        try:
            for name, path in outer.paths.items():
                backbone.module.get_parameter(path).data.copy_(visual.tensors[name])
            torch.testing.assert_close(with_expert(backbone, text), expected, **CLOSE)
        finally:
            outer.detach()
        assert folded.parameters == text.parameters + visual.parameters
        assert text_kind.name == "text_prompt"
    with pytest.raises(InputError, match="expected unified_prompt"):
        fold(text)


class ClipShapes:
    """The shapes of CLIP ViT-B/16, without numbers."""

    name, fingerprint = "clip", "clip"

    def __init__(self) -> None:
        with torch.device("meta"):
            self.module = CLIPModel(CLIPConfig(vision_config={"patch_size": 16}))

    def sites(self, role: str) -> tuple[str, ...]:
        words = ("text_model", "text_model.embeddings.token_embedding")
        vision = tuple(f"vision_model.encoder.layers.{i}" for i in range(12))
        return {"words": words, "picture_layers": vision}.get(role, ())


@pytest.mark.parametrize(
    ("method", "settings", "expected"),
    [
        ("text_prompt", {}, 8_192),  # CoOp: 16 × 512
        ("visual_prompt", {}, 147_456),  # VPT-deep: 12 × 16 × 768
        ("unified_prompt", {}, 566_400),
        ("unified_prompt", {"folded": True}, 38_912),  # 4 × 512 + 12 × 4 × 768
    ],
)
def test_trainable_numbers_on_vit_b_16_are_the_published_ones(
    method: str, settings: dict[str, object], expected: int
) -> None:
    backbone, kind = cast("Any", ClipShapes()), KINDS.get(method)
    with attached(backbone, kind, make_settings(kind, backbone, **settings)) as place:
        assert sum(shape.numel() for shape in place.shapes.values()) == expected
