"""Sentence encoders read texts as sentence-transformers does, and say what of a checkpoint they do not read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.backbones.conftest import tokenizer, write_checkpoint, write_sentence_encoder
from torch.nn import functional as F
from transformers import AutoModel

from pitune.backbones import Backbone, load_backbone
from pitune.errors import InputError
from pitune.tasks import load_task

TEXTS = ("sweet fresh warm", "sour")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["bert", "mpnet", "modernbert"])
def test_a_text_is_the_pooled_states_of_its_own_tokens(
    kind: str, backbones: dict[str, Backbone], checkpoints: dict[str, Path], data: dict[str, Path]
) -> None:
    backbone, task = backbones[kind], load_task(data["taste"])
    examples = task.examples("train")[:4]
    model: Any = AutoModel.from_pretrained(checkpoints[kind]).eval()

    def vector(text: str) -> torch.Tensor:
        hidden = model(input_ids=torch.tensor([tokenizer()(text)["input_ids"]])).last_hidden_state[0]
        return F.normalize(hidden[0] if kind == "modernbert" else hidden.mean(0), dim=0)

    batch = backbone.prepare(examples, task)
    inputs = torch.stack([vector(str(one.text)) for one in examples])
    answers = torch.stack([vector(task.answer_text(one)) for one in task.answers or ()])
    torch.testing.assert_close(backbone.features(batch), inputs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(backbone.scores(batch), (20 * inputs @ answers.T).log_softmax(1), rtol=1e-3, atol=1e-4)


def changed(folder: Path, name: str, **fields: Any) -> Path:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}), encoding="utf-8")
    return folder


def features(folder: Path, *texts: str) -> torch.Tensor:
    backbone: Any = load_backbone(str(folder), "cpu")
    return backbone._vectors(backbone.module, backbone._tokens(texts))


def test_prompts_lower_case_lengths_and_every_pooling_are_as_the_files_say(tmp_path: Path) -> None:
    folder = write_checkpoint("bert", tmp_path / "model")
    plain = features(folder, *TEXTS)
    assert torch.equal(features(folder, "Sweet"), features(folder, "unheard"))  # both are unknown words
    changed(folder, "sentence_bert_config.json", do_lower_case=True)
    assert torch.equal(features(folder, "Sweet"), features(folder, "sweet"))
    said = {"prompts": {"query": "question : "}, "default_prompt_name": "query"}
    asked = features(changed(folder, "config_sentence_transformers.json", **said), *TEXTS)
    changed(folder, "config_sentence_transformers.json", default_prompt_name=None)
    torch.testing.assert_close(features(folder, *(f"question : {text}" for text in TEXTS)), asked)
    long = " ".join(["sweet"] * 30)
    assert torch.equal(features(folder, long), features(folder, f"{long} sour"))
    assert (
        load_backbone(str(folder), "cpu").fingerprint
        != load_backbone(
            str(changed(folder, "1_Pooling/config.json", pooling_mode_mean_tokens=False, pooling_mode_cls_token=True)),
            "cpu",
        ).fingerprint
    )
    assert not torch.allclose(features(folder, *TEXTS), plain)
    changed(folder, "1_Pooling/config.json", pooling_mode="mean", pooling_mode_cls_token=False)  # the newer form
    torch.testing.assert_close(features(folder, *TEXTS), plain)


def test_what_is_not_read_is_refused_in_a_line(tmp_path: Path) -> None:
    folder = write_checkpoint("bert", tmp_path / "model")

    def refuse(said: str) -> None:
        with pytest.raises(InputError, match=said) as caught:
            load_backbone(str(folder), "cpu")
        assert "\n" not in str(caught.value)

    changed(folder, "1_Pooling/config.json", pooling_mode_cls_token=True)
    refuse("pools by cls and mean; expected one of: cls, mean, max")
    changed(folder, "1_Pooling/config.json", pooling_mode_cls_token=False, include_prompt=False)
    changed(folder, "config_sentence_transformers.json", prompts={"query": "q"}, default_prompt_name="query")
    refuse("leaves its prompt 'q' out of the pooling")
    modules = folder / "modules.json"
    named = json.loads(modules.read_text())
    for content, said in (
        (
            [*named, {"type": "sentence_transformers.models.Dense", "path": "3_Dense"}],
            "modules.json names Dense; expected",
        ),
        ([{"type": "x.Transformer", "path": "0_Transformer"}, named[1]], "expected a Transformer in the folder itself"),
        (5, "malformed"),
        ([5], "malformed"),
    ):
        modules.write_text(json.dumps(content))
        refuse(said)
    modules.write_text("{")
    refuse("modules.json: not JSON")
    modules.unlink()
    refuse("is a bert with no modules.json, .* expected a sentence encoder as sentence-transformers saves it")


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "distilbert", "camembert"])
def test_kin_are_read_to_their_last_place(model_type: str, tmp_path: Path) -> None:
    own: dict[str, Any] = (
        {"dim": 16, "hidden_dim": 32, "n_layers": 2, "n_heads": 2} if model_type == "distilbert" else {}
    )
    write_sentence_encoder(tmp_path / "model", model_type, **own)
    changed(tmp_path / "model", "sentence_bert_config.json", max_seq_length=None)
    folder = changed(tmp_path / "model", "tokenizer_config.json", model_max_length=10**30)
    assert features(folder, " ".join(["sweet"] * 60)).isfinite().all()
    assert len(load_backbone(str(folder), "cpu").sites("attention")) == 2 * 4
