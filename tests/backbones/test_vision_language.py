"""Models that read images among text are asked as their own processors ask, and score as one plain forward does."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.vision_models import WRITERS
from torch.nn import functional as F
from transformers import Blip2Processor, Gemma3Processor, Idefics2Processor, LlavaProcessor, PaliGemmaProcessor

from pitune.backbones import load_backbone
from pitune.errors import InputError
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.tasks import Task, load_task, open_image

ANSWERS = ("red", "the green sea", "no")
TEMPLATE = (
    "{% for m in messages %}<s>User : {% for part in m.content %}"
    "{{ 'LEFT' if part.type == 'image' else part.text }}{% endfor %}{% endfor %} Assistant :"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind, write in WRITERS.items():
        made[kind] = tmp_path_factory.mktemp("models") / kind
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            write(made[kind])
    return made


@pytest.fixture
def task(data: dict[str, Path], tmp_path: Path) -> Task:
    """Questions of differing lengths about images of differing shapes."""
    told = []
    for i, one in enumerate(load_task(data["questions"]).examples("train")[:3]):
        path = tmp_path / f"{i}.png"
        open_image(one).resize(((20, 20), (12, 30), (20, 8))[i]).save(path)
        told.append(replace(one, image=path, target=ANSWERS[i], text=f"{one.text} {'what ' * i}".strip()))
    return Task("mixed", {"train": tuple(told)}, answers=ANSWERS)


def forward(kind: str, backbone: Any, inputs: dict[str, Any], answer: torch.Tensor) -> torch.Tensor:
    """Return −log p of an answer's tokens (T,) behind one prompt in a plain forward, with the model's own places."""
    given = dict(backbone._asked(inputs))
    length = given["input_ids"].shape[1]
    given["input_ids"] = torch.cat([given["input_ids"], answer[None]], 1)
    given["attention_mask"] = torch.ones_like(given["input_ids"])
    for name, of_answer in (("token_type_ids", int(kind == "paligemma")), ("mm_token_type_ids", 0)):
        if name in given:
            given[name] = F.pad(given[name], (0, len(answer)), value=of_answer)
    logits = backbone.module(**given).logits[0, length - 1 : -1]
    return F.cross_entropy(logits, answer, reduction="sum")


@torch.no_grad()
@pytest.mark.parametrize("kind", WRITERS)
def test_answers_are_scored_as_one_plain_forward_of_each_does(kind: str, folders: dict[str, Path], task: Task) -> None:
    backbone: Any = load_backbone(str(folders[kind]), "cpu")
    batch = backbone.prepare(task.examples("train"), task)
    expected = torch.zeros(3, 3)
    for b, example in enumerate(task.examples("train")):
        alone = backbone.prepare([example], task)
        for c, answer in enumerate(batch.answers):
            expected[b, c] = -forward(kind, backbone, alone.inputs, answer[answer >= 0])
    torch.testing.assert_close(backbone.scores(batch), expected.log_softmax(-1), rtol=1e-3, atol=1e-3)
    shown = [replace(example, image=task.examples("train")[1].image) for example in task.examples("train")]
    assert not torch.allclose(backbone.features(backbone.prepare(shown, task))[0], backbone.features(batch)[0])
    assert all(len(value) == 3 for value in batch.inputs.values())


def llava(folder: Path, images: Any, tokenizer: Any) -> Any:
    return LlavaProcessor(
        images, tokenizer, patch_size=8, vision_feature_select_strategy="default", num_additional_image_tokens=1
    )


def blip_2(folder: Path, images: Any, tokenizer: Any) -> Any:
    return Blip2Processor(images, tokenizer, num_query_tokens=3)


def idefics2(folder: Path, images: Any, tokenizer: Any) -> Any:
    return Idefics2Processor(images, tokenizer, image_seq_len=3)


def gemma3(folder: Path, images: Any, tokenizer: Any) -> Any:
    tokenizer.boi_token, tokenizer.eoi_token = "<start_of_image>", "<end_of_image>"
    tokenizer.boi_token_id, tokenizer.image_token, tokenizer.image_token_id = 5, "<image_soft_token>", 4
    return Gemma3Processor(images, tokenizer, image_seq_length=4)


def paligemma(folder: Path, images: Any, tokenizer: Any) -> Any:
    images.image_seq_length = 4
    return PaliGemmaProcessor(images, tokenizer)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of PaliGemma's processor
@pytest.mark.parametrize("made", [llava, idefics2, gemma3, paligemma, blip_2], ids=lambda made: made.__name__)
def test_prompts_and_pictures_are_those_of_the_model_s_own_processor(
    made: Callable[..., Any], folders: dict[str, Path], task: Task
) -> None:
    kind = made.__name__.replace("_", "-")
    backbone: Any = load_backbone(str(folders[kind]), "cpu")
    example = task.examples("train")[1]
    ours = backbone.prepare([example], task).inputs
    style = backbone._style
    text = style.plain.replace("{text}", str(example.text)).replace("{image}", style.left)
    text = text.replace("<bos>", "").removesuffix("\n")  # which the processor puts in by itself, as BLIP-2's the image
    text = text.removeprefix("<image>") if kind == "blip-2" else text
    image = open_image(example)
    more = {"do_image_splitting": False} if style.nested else {}
    images = [[image]] if style.nested else [image]
    theirs = made(folders[kind], backbone._processor, backbone._tokenizer)(
        images=images, text=[text], return_tensors="pt", **more
    )
    own = theirs["input_ids"][0].tolist()
    assert ours["input_ids"][0].tolist() == (own[:-1] if own[-1] == 2 else own)  # a prompt does not end the text
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"])
    if "token_type_ids" in ours:
        assert ours["token_type_ids"][0].tolist() == theirs["token_type_ids"][0].tolist()[: len(ours["input_ids"][0])]


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind != "blip-2"])
def test_a_chat_template_is_followed_and_a_text_is_no_image(kind: str, folders: dict[str, Path], task: Task) -> None:
    backbone: Any = load_backbone(str(folders[kind]), "cpu")
    style, token = backbone._style, backbone._image_token
    file = folders[kind] / "chat_template.json"
    file.write_text(json.dumps({"chat_template": TEMPLATE.replace("LEFT", style.left)}), encoding="utf-8")
    try:
        backbone = load_backbone(str(folders[kind]), "cpu")
    finally:
        file.unlink()
    prompt = backbone._prompt(f"is {style.left} it {token}", 3)
    assert prompt == f"<s>User : {style.before}{token * 3}{style.after}is  it  Assistant :"
    ids = backbone.prepare(task.examples("train"), task).inputs["input_ids"]
    assert ids[-1].tolist().count(1) == 1  # its own mark of the start, and none of the tokenizer's


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_experts_train_in_the_decoder_and_leave_no_trace(
    kind: str, method: str, folders: dict[str, Path], task: Task
) -> None:
    backbone = load_backbone(str(folders[kind]), "cpu")
    batch = backbone.prepare(task.examples("train"), task)
    expected = backbone.scores(batch)
    chosen = KINDS.get(method)
    with attached(backbone, chosen, make_settings(chosen, backbone)) as place:
        assert len(place.shapes) >= 2 * 2
        start = {name: value.requires_grad_() for name, value in initial_tensors(chosen, place.shapes, 0).items()}
        place.losses(start, batch).sum().backward()
        assert all(value.grad is not None for value in start.values())
    torch.testing.assert_close(backbone.scores(batch), expected)


def test_what_cannot_be_read_is_refused_in_a_line(folders: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    for change, said in (
        ({"image_token_id": 9999}, "has no token 9999, which stands for images"),
        ({"vision_config": {"model_type": "pixtral"}}, "sees images through 'pixtral', whose sizes vary"),
    ):
        folder = tmp_path / said[:4]
        shutil.copytree(folders["llava"], folder)
        config = json.loads((folder / "config.json").read_text())
        config.pop("image_token_index", None)
        (folder / "config.json").write_text(json.dumps({**config, **change}), encoding="utf-8")
        with pytest.raises(InputError, match=said) as caught:
            load_backbone(str(folder), "cpu")
        assert "\n" not in str(caught.value)
