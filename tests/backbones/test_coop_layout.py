"""Text prompts are laid out as CoOp lays them out: against a prompt learner and a text encoder written out here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import draw_of
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

from pitune.backbones import load_backbone
from pitune.errors import InputError
from pitune.experts import KINDS, Card, Expert, attached, initial_tensors, load_expert, make_settings
from pitune.experts.kinds.unified_prompt import fold, split
from pitune.tasks import Task, load_task
from pitune.training import TrainingSettings, evaluate_expert, fit_expert, fit_multitask

WIDTH, PLACES = 16, 40
NAMES = ("dog", "sea lion", "st. bernard", "polar_bear", "u.s.", "x-ray of a very long hand")
TEXT = (
    "a photo of a dog. sea lion, x st. bernard; polar bear. u.s. x-ray of a very long hand x x x "
    "dog dog a photo of a a.. of.. _"
)
POSITIONS = ("end", "middle", "front")
VECTORS = "text_model.embeddings.token_embedding.text_prompt.vectors"


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs as CLIP's: lower case, signs apart and together, words marked at their end, [EOS] the largest id."""
    made = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("contiguous")]
    )
    made.train_from_iterator(
        [TEXT] * 5, trainers.BpeTrainer(vocab_size=70, end_of_word_suffix="</w>", show_progress=False)
    )
    made.add_special_tokens(["<|startoftext|>", "<|endoftext|>"])
    start, end = (made.token_to_id(one) for one in ("<|startoftext|>", "<|endoftext|>"))
    made.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>",
        special_tokens=[("<|startoftext|>", start), ("<|endoftext|>", end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token="<|startoftext|>",
        eos_token="<|endoftext|>",
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=PLACES,
    )


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("clip")
    words = clip_tokenizer()
    tower = {"hidden_size": WIDTH, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **tower,
        "vocab_size": len(words),
        "max_position_embeddings": PLACES,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
    }
    assert words.eos_token_id == len(words) - 1
    vision = {**tower, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH, initializer_factor=4.0)
        CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    size = {"height": 16, "width": 16}
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=size).save_pretrained(folder)
    return load_backbone(str(folder), "cpu")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A person's own folder of images, whose classes are called as CoOp's may be."""
    folder, noise = tmp_path_factory.mktemp("own") / "animals", np.random.default_rng(0)
    for name in NAMES:
        for number in range(4):
            path = folder / name.replace("_", " ") / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(noise.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)
    found = load_task(folder)
    called = {name.replace("_", " "): name for name in NAMES}
    splits = {
        part: [replace(one, target=called[one.target]) for one in examples] for part, examples in found.splits.items()
    }
    return replace(found, splits=splits, answers=NAMES)


def attend(layer: Any, x: Tensor) -> Tensor:
    """Two heads of causal attention, written out."""
    own = layer.self_attn
    q, k, v = (part(x).unflatten(-1, (2, WIDTH // 2)).transpose(1, 2) for part in (own.q_proj, own.k_proj, own.v_proj))
    scores = q @ k.transpose(-1, -2) / (WIDTH // 2) ** 0.5
    later = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
    mixed = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
    out: Tensor = own.out_proj(mixed.transpose(1, 2).flatten(2))
    return out


def encode_text(model: Any, prompts: Tensor, ends: Tensor) -> Tensor:
    """What CoOp calls TextEncoder: embedded prompts (C, T, D) to unit vectors (C, D), read at [EOS]."""
    text = model.text_model
    x = prompts + text.embeddings.position_embedding.weight[: prompts.shape[1]]
    for layer in text.encoder.layers:
        x = x + attend(layer, layer.layer_norm1(x))
        x = x + layer.mlp(layer.layer_norm2(x))
    x = text.final_layer_norm(x)
    return F.normalize(model.text_projection(x[torch.arange(len(x)), ends]), dim=-1)


def coop_vectors(model: Any, words: Any, names: tuple[str, ...], context: Tensor, position: str) -> Tensor:
    """What CoOp calls PromptLearner: tokens of `X … X name.`, whose X are replaced, the name moved among them."""
    count = context.shape[-2]
    names = tuple(name.replace("_", " ") for name in names)
    lengths = [len(words.encode(name, add_special_tokens=False)) for name in names]
    prompts = [" ".join(["x"] * count) + " " + name + "." for name in names]
    tokens = words(prompts, padding="max_length", max_length=PLACES, return_tensors="pt")["input_ids"]
    embedded = model.text_model.embeddings.token_embedding(tokens)
    prefix, suffix = embedded[:, :1], embedded[:, 1 + count :]
    rows = []
    for i, length in enumerate(lengths):
        own = context[i] if context.ndim == 3 else context
        half = {"end": count, "middle": count // 2, "front": 0}[position]
        rows.append(torch.cat([prefix[i], own[:half], suffix[i, :length], own[half:], suffix[i, length:]]))
    return encode_text(model, torch.stack(rows), tokens.argmax(-1))


def expert_scores(backbone: Any, task: Task, vectors: Tensor, **settings: Any) -> tuple[Tensor, Any]:
    kind = KINDS.get("text_prompt")
    own = make_settings(kind, backbone, **settings)
    with torch.no_grad(), attached(backbone, kind, own) as place:
        batch = backbone.prepare(task.examples("test")[:5], task)
        return place.scores({VECTORS: vectors}, batch), batch


def expected_scores(backbone: Any, batch: Any, texts: Tensor) -> Tensor:
    scale = backbone.module.logit_scale.exp()
    scores: Tensor = (scale * batch.inputs["image_features"] @ texts.T).log_softmax(-1)
    return scores


@pytest.mark.parametrize("length", [4, 5])
@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("template", ["a photo of a {}.", "{}", "a centered satellite photo of {}."])
def test_log_probabilities_are_those_of_coop(
    template: str, position: str, each: bool, length: int, backbone: Any, task: Task
) -> None:
    shape = (len(NAMES), length, WIDTH) if each else (length, WIDTH)
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    asked = replace(task, answer_template=template)
    settings = {"length": length, "name_at": position, "classes": len(NAMES) if each else 0}
    found, batch = expert_scores(backbone, asked, vectors, **settings)
    with torch.no_grad():
        texts = coop_vectors(backbone.module, backbone._tokenizer, NAMES, vectors, position)
        expected = expected_scores(backbone, batch, texts)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_the_names_here_are() -> None:
    """One and several tokens, and one whose full stop is a part of CLIP's token."""
    words = clip_tokenizer()
    counts = [len(words.encode(name.replace("_", " "), add_special_tokens=False)) for name in NAMES]
    assert counts[0] == 1
    assert max(counts) > 5
    assert len(words.encode("x x x", add_special_tokens=False)) == 3
    assert len(words.encode("u.s..", add_special_tokens=False)) == len(words.encode("u.s.", add_special_tokens=False))


def random_expert(backbone: Any, method: str, **settings: Any) -> Expert:
    kind = KINDS.get(method)
    own = make_settings(kind, backbone, **settings)
    with attached(backbone, kind, own) as place:
        start = initial_tensors(kind, place.shapes, 0, own)
    generator = torch.Generator().manual_seed(2)
    tensors = {name: value + torch.randn(value.shape, generator=generator) for name, value in start.items()}
    return Expert(kind, own, tensors, Card(name="random", backbone=backbone.fingerprint, base_model=backbone.name))


def test_vectors_start_at_the_embeddings_of_words(backbone: Any, task: Task) -> None:
    """So that an untrained prompt of "a photo of a" is zero-shot CLIP with that template."""
    kind = KINDS.get("text_prompt")
    own = make_settings(kind, backbone, words="a_photo of a")
    assert own == make_settings(kind, backbone, length=4, words=backbone.word_ids("a photo of a"))
    with torch.no_grad(), attached(backbone, kind, own) as place:
        start = initial_tensors(kind, place.shapes, 0, own)
        batch = backbone.prepare(task.examples("test")[:5], task)
        found = place.scores(start, batch)
    with torch.no_grad():
        table = backbone.module.text_model.embeddings.token_embedding.weight
        context = table[torch.tensor(backbone.word_ids("a photo of a"))]
        texts = coop_vectors(backbone.module, backbone._tokenizer, NAMES, context, "end")
    torch.testing.assert_close(found, expected_scores(backbone, batch, texts), rtol=0, atol=1e-5)
    spelled = replace(task, answers=NAMES, answer_template="a photo of a {}.")
    read = {one: one.replace("_", " ") for one in NAMES}
    examples = [replace(one, target=read[one.target]) for one in task.examples("test")[:5]]
    zero_shot = backbone.scores(backbone.prepare(examples, replace(spelled, answers=tuple(read.values()))))
    torch.testing.assert_close(found, zero_shot, rtol=0, atol=1e-5)
    with pytest.raises(InputError, match="4 words for 5 vectors"):
        make_settings(kind, backbone, length=5, words="a photo of a")


def test_a_unified_prompt_reads_names_as_well(backbone: Any, task: Task) -> None:
    expert = random_expert(backbone, "unified_prompt", text_length=3, visual_length=2, width=8)
    text, _ = split(expert)
    batch = backbone.prepare(task.examples("test")[:5], task)
    with torch.no_grad():
        texts = coop_vectors(backbone.module, backbone._tokenizer, NAMES, next(iter(text.tensors.values())), "end")
    expected = expected_scores(backbone, batch, texts)
    for one in (text, split(fold(expert))[0]):
        found = evaluate_expert(backbone, task, one, task.examples("test"))
        rows = [found.ids.index(name) for name in batch.ids]
        torch.testing.assert_close(found.scores[rows], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scope", ["task", "union"])
def test_a_mixture_reads_names_too(scope: Any, backbone: Any, task: Task) -> None:
    """One task of several is what it is alone, whatever its template: here in one batch, which has no order."""
    draw = draw_of(task)
    settings = TrainingSettings(steps=3, batch_size=16, learning_rate=1e-2, evaluations=1)
    alone, _ = fit_expert(backbone, draw, method="text_prompt", settings=settings, length=4)
    many, _ = fit_multitask(backbone, [draw], method="text_prompt", settings=settings, scope=scope, length=4)
    torch.testing.assert_close(many.tensors[VECTORS], alone.tensors[VECTORS], rtol=1e-4, atol=1e-6)


def test_experts_kept_without_the_setting_answer_as_they_did(backbone: Any, task: Task, tmp_path: Path) -> None:
    """They join the text with its template: `[SOS] v1 v2 a photo of a name v3 v4 . [EOS]`."""
    expert = random_expert(backbone, "text_prompt", length=4, name_at="middle", around="text")
    expert.save(tmp_path / "kept")
    record = tmp_path / "kept" / "expert.json"
    said = record.read_text(encoding="utf-8")
    assert said.count('"around"') == 1
    line = next(one for one in said.splitlines(keepends=True) if '"around"' in one)
    record.write_text(said.replace(line, ""), encoding="utf-8")
    kept = load_expert(tmp_path / "kept")
    asked = replace(task, answer_template="a photo of a {}.")
    examples = asked.examples("test")[:5]
    vectors, model = kept.tensors[VECTORS], backbone.module
    tokens = backbone._tokens([asked.answer_text(name) for name in NAMES])[0]
    rows, ends = model.text_model.embeddings.token_embedding(tokens), tokens.argmax(-1)
    with torch.no_grad():
        spoken = [
            torch.cat([row[:1], vectors[:2], row[1 : end - 1], vectors[2:], row[end - 1 :]])
            for row, end in zip(rows, ends.tolist(), strict=True)
        ]
        texts = encode_text(model, torch.stack(spoken), ends + 4)
    expected = expected_scores(backbone, backbone.prepare(examples, asked), texts)
    found = evaluate_expert(backbone, asked, kept, examples)
    rows_ = [found.ids.index(one.id) for one in examples]
    torch.testing.assert_close(found.scores[rows_], expected, rtol=0, atol=1e-5)
    settings = TrainingSettings(steps=1, batch_size=8)
    draw = draw_of(task, validate=False)
    again, _ = fit_expert(backbone, draw, method="text_prompt", settings=settings, start=kept)
    assert again.config["around"] == "text"
    with pytest.raises(InputError, match="around is 'name', but 'random', to start from, has 'text'"):
        fit_expert(backbone, draw, method="text_prompt", settings=settings, start=kept, around="name")
