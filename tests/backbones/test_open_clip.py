"""Folders of open_clip are the same models: what its own computation gives, ours gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.backbones.conftest import WIDTH, tokenizer
from torch import Tensor, nn
from torch.nn import functional as F

from pitune import evaluate
from pitune.backbones import load_backbone
from pitune.errors import InputError
from pitune.tasks import load_task

LAYERS, SIZE, PATCH, PLACES = 2, 16, 8, 16
WEIGHTS = "open_clip_model.safetensors"


class Block(nn.Module):
    """open_clip's residual block, by the names of its parts."""

    def __init__(self, quick: bool) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH)})
        self.quick = quick

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        read = self.ln_1(states)
        states = states + self.attn(read, read, read, need_weights=False, attn_mask=mask)[0]
        inner = self.mlp["c_fc"](self.ln_2(states))
        inner = inner * torch.sigmoid(1.702 * inner) if self.quick else F.gelu(inner)
        return states + self.mlp["c_proj"](inner)


class Tower(nn.Module):
    def __init__(self, quick: bool) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(quick) for _ in range(LAYERS))

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            states = block(states, mask)
        return states


class Vision(nn.Module):
    def __init__(self, quick: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(WIDTH))
        self.positional_embedding = nn.Parameter(torch.randn((SIZE // PATCH) ** 2 + 1, WIDTH))
        self.ln_pre, self.ln_post = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.transformer, self.proj = Tower(quick), nn.Parameter(torch.randn(WIDTH, 8))

    def forward(self, pixels: Tensor) -> Tensor:
        states = self.conv1(pixels).flatten(2).transpose(1, 2)
        states = torch.cat([self.class_embedding.expand(len(states), 1, -1), states], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(states))[:, 0]) @ self.proj


class OpenClip(nn.Module):
    """A plain ViT CLIP as open_clip computes it."""

    def __init__(self, words: int, quick: bool) -> None:
        super().__init__()
        self.visual, self.transformer, self.token_embedding = Vision(quick), Tower(quick), nn.Embedding(words, WIDTH)
        self.positional_embedding = nn.Parameter(torch.randn(PLACES, WIDTH))
        self.ln_final, self.text_projection = nn.LayerNorm(WIDTH), nn.Parameter(torch.randn(WIDTH, 8))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def text(self, ids: Tensor) -> Tensor:
        length = ids.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        states = self.token_embedding(ids) + self.positional_embedding[:length]
        states = self.ln_final(self.transformer(states, mask))
        return states[torch.arange(len(ids)), ids.argmax(-1)] @ self.text_projection


def words() -> Any:
    """A tokenizer whose texts end in its largest id, as CLIP's do."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    plain = [word for word in tokenizer().get_vocab() if word not in ("<s>", "</s>")]
    known = {word: i for i, word in enumerate([*sorted(plain), "<s>", "</s>"])}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", known["<s>"]), ("</s>", known["</s>"])]
    made.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    marks = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **marks)


def write(folder: Path, *, quick: bool = False, custom: bool = False, **model: Any) -> OpenClip:
    """Write a folder as open_clip does and return the model that it holds."""
    spoken = words()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = OpenClip(len(spoken), quick).eval()
    sizes = {"width": WIDTH, "layers": LAYERS}
    config = {
        "embed_dim": 8,
        "quick_gelu": quick,
        "custom_text": custom,
        "vision_cfg": {
            **sizes,
            "image_size": SIZE,
            "patch_size": PATCH,
            "head_width": WIDTH // 2,
            "patch_dropout": 0.5,
        },
        "text_cfg": {**sizes, "context_length": PLACES, "vocab_size": len(spoken), "heads": 2},
        **model,
    }
    folder.mkdir()
    how = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bicubic", "resize_mode": "shortest"}
    said = {"model_cfg": config, "preprocess_cfg": how}
    (folder / "open_clip_config.json").write_text(json.dumps(said), encoding="utf-8")
    spoken.save_pretrained(folder)
    outside = ("visual.", "logit_scale")
    state = {
        name if name.startswith(outside) or not custom else f"text.{name}": value
        for name, value in made.state_dict().items()
    }
    save_file(state, folder / WEIGHTS)
    return made


@torch.no_grad()
@pytest.mark.parametrize(("quick", "custom"), [(False, False), (True, True)])
def test_scores_are_those_of_open_clip(quick: bool, custom: bool, data: dict[str, Path], tmp_path: Path) -> None:
    theirs = write(tmp_path / "model", quick=quick, custom=custom)
    backbone, task = load_backbone(str(tmp_path / "model"), "cpu"), load_task(data["colour"])
    examples = task.examples("test")[:4]
    pictures = [
        Image.open(Path(str(one.image))).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        for one in examples
    ]
    pixels = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1).float() / 255 for one in pictures])
    pixels = (pixels - torch.tensor([0.5, 0.4, 0.3])[:, None, None]) / torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    images = F.normalize(theirs.visual(pixels), dim=-1)
    answers = words()([task.answer_text(one) for one in task.answers or ()], padding=True, return_tensors="pt")
    texts = F.normalize(theirs.text(answers["input_ids"]), dim=-1)
    expected = (theirs.logit_scale.exp() * images @ texts.T).log_softmax(-1)
    found = backbone.scores(backbone.prepare(examples, task))
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)  # features of images are kept in half precision
    assert len(backbone.sites("attention")) == LAYERS * 4
    assert evaluate(backbone, task)["n"] == len(task.examples("test"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"vision_cfg": {"timm_model_name": "resnet50"}},
            "vision_cfg.timm_model_name is 'resnet50'; expected a plain ViT",
        ),
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, r"vision_cfg.layers is \[3, 4, 6, 3\]"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "text_cfg.hf_model_name is 'roberta-base'"),
        ({"text_cfg": {"no_causal_mask": True}}, "text_cfg.no_causal_mask is True"),
        ({"text_cfg": {"pool_type": "last"}}, "text_cfg.pool_type is 'last'"),
        ({"init_logit_bias": -10}, "model_cfg.init_logit_bias is -10"),
        ({"multimodal_cfg": {"width": 8}}, "model_cfg.multimodal_cfg is"),
        ({"embed_dim": "wide"}, "model_cfg.embed_dim is 'wide'"),
        ({"text_cfg": 5}, "not a configuration of open_clip"),
    ],
)
def test_other_models_of_open_clip_are_refused_by_what_they_have(change: Any, said: str, tmp_path: Path) -> None:
    write(tmp_path / "model", **change)
    with pytest.raises(InputError, match=said) as caught:
        load_backbone(str(tmp_path / "model"), "cpu")
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "model")
    file = tmp_path / "model" / WEIGHTS
    whole = load_file(file)
    for tensors, said in (
        ({**whole, "visual.attnpool.weight": torch.ones(1)}, "cannot be read as a plain ViT CLIP .*attnpool"),
        ({name: value for name, value in whole.items() if name != "visual.proj"}, "lack 'visual_projection.weight'"),
        ({**whole, "visual.proj": torch.ones(WIDTH, 9)}, "cannot be loaded"),
    ):
        save_file(tensors, file)
        with pytest.raises(InputError, match=said) as caught:
            load_backbone(str(tmp_path / "model"), "cpu")
        assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(InputError, match=r"has no \*.safetensors"):
        load_backbone(str(tmp_path / "model"), "cpu")
