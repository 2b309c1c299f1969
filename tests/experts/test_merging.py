"""An expert in the weights answers as the same expert attached, also where layers share a parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, T5Config, T5ForConditionalGeneration

from pitune.experts import KINDS, Card, Expert, attached, initial_tensors, make_settings, merge_into, save_merged


class Tied:
    """A T5 whose output layer is its embedding, with the whole model as the module that experts attach inside."""

    name, fingerprint, width = "tied", "tied", 16

    def __init__(self) -> None:
        config = T5Config(  # type: ignore[call-arg]
            vocab_size=40, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, tie_word_embeddings=True
        )
        torch.manual_seed(0)
        self.module: Any = T5ForConditionalGeneration(config).eval().requires_grad_(False)
        self.module.tie_weights()
        self.device = torch.device("cpu")

    def sites(self, role: str) -> tuple[str, ...]:
        return ("lm_head",)


def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.tensor([[3, 7, 11, 1]])
    with torch.no_grad():
        return model(input_ids=ids, decoder_input_ids=torch.tensor([[0, 5, 9]])).logits


@pytest.mark.filterwarnings("ignore:Model has .tie_word_embeddings")  # what this is about
def test_a_layer_that_shares_its_weight_is_untied_before_it_is_changed(tmp_path: Path) -> None:
    backbone, kind = cast("Any", Tied()), KINDS.get("lora")
    assert backbone.module.lm_head.weight is backbone.module.shared.weight
    before = logits(backbone.module)
    settings = make_settings(kind, backbone, r=2)
    with attached(backbone, kind, settings) as place:
        tensors = initial_tensors(kind, place.shapes, 0, settings)
        tensors["lm_head.lora_B.weight"] = torch.randn_like(tensors["lm_head.lora_B.weight"])
        for name, parameter in backbone.module.named_parameters():
            if name.startswith("lm_head.lora"):
                parameter.data.copy_(tensors[name.replace(".default", "")])
        expected = logits(backbone.module)
    assert not torch.allclose(before, expected, atol=1e-2)
    expert = Expert(kind, settings, tensors, Card(name="head", backbone="tied", base_model="tied"))
    merged = merge_into(backbone, expert)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(merged.shared.weight, backbone.module.shared.weight, rtol=0, atol=0)
    save_merged(merged, tmp_path / "merged")
    again = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(again), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(backbone.module), before, rtol=0, atol=0)
    assert backbone.module.lm_head.weight is backbone.module.shared.weight
