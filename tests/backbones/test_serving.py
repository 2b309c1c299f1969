"""What servers read of an exported LoRA is the whole of it, read as each of them does: less than PEFT."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.backbones.test_peft_exports import random_expert
from tests.conftest import Command

from pitune.backbones import Backbone, load_backbone
from pitune.errors import InputError
from pitune.experts import SERVERS, Expert, ExpertPool, export_for
from pitune.experts.merging import changed_parameters

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT and transformers say of each other
LAYERS = "model.layers.{}.self_attn.{}_proj"


@pytest.fixture
def awkward(backbones: dict[str, Backbone]) -> Expert:
    """A LoRA with all that servers pass over: patterns, a rank-stabilised scale, layers that lack what others have."""
    return random_expert(
        backbones["llama"],
        r=2,
        lora_alpha=7,
        use_rslora=True,
        target_modules=(LAYERS.format(0, "q"), LAYERS.format(1, "v"), "model.layers.1.mlp.up_proj"),
        rank_pattern={"v_proj": 5},
        alpha_pattern={"up_proj": 3},
    )


def read_plainly(folder: Path) -> dict[str, torch.Tensor]:
    """ΔW by parameter, of nothing but `r`, `lora_alpha` and the factors."""
    config = json.loads((folder / "adapter_config.json").read_text())
    factors = load_file(folder / "adapter_model.safetensors")
    assert {value.shape[name.endswith("lora_B.weight")] for name, value in factors.items()} == {config["r"]}
    sites = {name.removeprefix("base_model.model.").rsplit(".lora_", 1)[0] for name in factors}
    return {
        f"{site}.weight": config["lora_alpha"]
        / config["r"]
        * factors[f"base_model.model.{site}.lora_B.weight"]
        @ factors[f"base_model.model.{site}.lora_A.weight"]
        for site in sites
    }


@pytest.mark.parametrize("server", ["vllm", "sglang", "lorax"])
def test_one_rank_and_scale_and_whole_types_of_layers(
    server: str, awkward: Expert, backbones: dict[str, Backbone], checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    module = backbones["llama"].module
    served = export_for(awkward, tmp_path / "out", backbones["llama"], server)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], served.rank) == (5, 5, 5)
    assert not any(config[field] for field in ("use_rslora", "rank_pattern", "alpha_pattern", "lora_bias"))
    assert config["base_model_name_or_path"] == str(checkpoints["llama"])
    assert set(config["target_modules"]) == {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"}
    found = read_plainly(tmp_path / "out")
    assert len(found) == 2 * 5  # two layers of five types
    changed = changed_parameters(module, awkward)
    for name, change in found.items():
        value = module.get_parameter(name)
        torch.testing.assert_close(change, changed.get(name, value) - value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("vllm", "vllm serve {base} --enable-lora --max-lora-rank 8 --lora-modules it={out}"),
        (
            "sglang",
            "python -m sglang.launch_server --model-path {base} --enable-lora --max-lora-rank 5 "
            "--lora-target-modules q_proj k_proj v_proj gate_proj up_proj --lora-paths it={out}",
        ),
        (
            "lorax",
            "lorax-launcher --model-id {base}  # requests name the adapter_id {out} and the adapter_source local",
        ),
        ("gguf", "llama-server --model BASE.gguf --lora {out}/it.gguf"),
    ],
)
def test_the_command_line_tells_how_to_serve_it(
    server: str, said: str, awkward: Expert, checkpoints: dict[str, Path], command: Command, tmp_path: Path
) -> None:
    ExpertPool(tmp_path / "pool").add(awkward)
    out = tmp_path / "out"
    told = command(
        "pool", "export", "it", "--pool", tmp_path / "pool", "--out", out, "--for", server, "--device", "cpu"
    )
    assert told["for"] == server
    assert told["served"] == {"command": said.format(base=checkpoints["llama"], out=out), "rank": 5}
    again = ("pool", "export", "it", "--pool", tmp_path / "pool", "--out", tmp_path / "other", "--for", server)
    assert "every server reads a whole model" in command(*again, "--merged", fails=True)


@pytest.mark.parametrize("model_type", ["llama", "qwen2"])
def test_a_gguf_holds_the_factors_as_llama_cpp_reads_them(model_type: str, tmp_path: Path) -> None:
    from tests.backbones.test_causal_lm import write

    if model_type == "llama":
        from tests.backbones.conftest import write_checkpoint

        folder = write_checkpoint("llama", tmp_path / "model")
    else:
        folder = write(model_type, tmp_path / "model")
    backbone: Any = load_backbone(str(folder), "cpu")
    expert = random_expert(backbone, r=3, target_modules=("q_proj", "k_proj", "down_proj"), rank_pattern={"k_proj": 2})
    assert export_for(expert, tmp_path / "out", backbone, "gguf").rank == 3
    reader = gguf.GGUFReader(tmp_path / "out" / "it.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.architecture"] == model_type
    assert (fields["general.type"], fields["adapter.type"], fields["adapter.lora.alpha"]) == ("adapter", "lora", 3.0)
    read = {one.name: one.data for one in reader.tensors}
    assert len(read) == len(expert.tensors)
    changed = changed_parameters(backbone.module, expert)
    for i in range(2):
        for layer, called in (
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("mlp.down_proj", "ffn_down"),
        ):
            down, up = (read[f"blk.{i}.{called}.weight.lora_{one}"] for one in "ab")
            name = f"model.layers.{i}.{layer}.weight"
            value = backbone.module.get_parameter(name)
            expected = (changed[name] - value).numpy()
            if model_type == "llama" and layer != "mlp.down_proj":
                # row i and row i + d/2 of a head, which transformers turns together, are rows 2i and 2i + 1
                half = 8 // 2
                rows = [
                    head * 8 + i + part * half
                    for head in range(len(value) // 8)
                    for i in range(half)
                    for part in (0, 1)
                ]
                expected = expected[rows]
            np.testing.assert_allclose(3.0 / len(down) * up @ down, expected, rtol=1e-4, atol=1e-5)


def test_what_a_server_cannot_express_is_refused_by_name(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone: Any = backbones["llama"]

    def refuse(expert: Expert, server: str, said: str, of: Backbone = backbone) -> None:
        with pytest.raises(InputError, match=said):
            export_for(expert, tmp_path / "out", of, server)
        assert not (tmp_path / "out").exists()

    for server in SERVERS:
        refuse(
            random_expert(backbone, "ia3"), server, f"{server} reads LoRAs alone; 'it' is of kind 'ia3'; write a whole"
        )
        refuse(random_expert(backbone, "adapter"), server, "is of kind 'adapter'; it runs with pitune alone")
        refuse(
            random_expert(backbone, target_modules=("lm_head",)), server, "has one at 'lm_head'; write a whole model"
        )
        refuse(random_expert(backbones["t5"]), server, "of language models; .* is of type 't5'", backbones["t5"])
        refuse(random_expert(backbones["t5"]), server, "belongs to another backbone")
        refuse(random_expert(backbones["gemma3"]), server, "is of type 'gemma3'", backbones["gemma3"])
    for server, most in (("vllm", 512), ("lorax", 128)):
        refuse(
            random_expert(backbone, r=most + 1), server, f"has rank {most + 1}, and {server} takes at most {most}; fold"
        )
    other: Any = copy.copy(backbone)
    other.module = copy.deepcopy(backbone.module)
    other.module.config.model_type = "helium"
    for server in ("lorax", "gguf"):
        refuse(random_expert(other), server, "of language models; .* is of type 'helium'; expected one of: ", other)


def test_biases_are_refused_unless_they_are_nothing(tmp_path: Path) -> None:
    from tests.backbones.test_causal_lm import write

    backbone = load_backbone(str(write("qwen2", tmp_path / "model")), "cpu")
    expert = random_expert(backbone, r=2, lora_bias=True)
    with pytest.raises(InputError, match=r"vllm reads no biases; 'it' has one at 'model\.layers\.0"):
        export_for(expert, tmp_path / "out", backbone, "vllm")
    for name, value in expert.tensors.items():
        if name.endswith("bias"):
            value.zero_()
    assert export_for(expert, tmp_path / "out", backbone, "vllm").rank == 2


def test_layers_that_a_server_has_no_lora_for_are_named(tmp_path: Path) -> None:
    from tests.backbones.test_causal_lm import write

    backbone = load_backbone(str(write("phi", tmp_path / "model")), "cpu")
    expert = random_expert(backbone, r=2, target_modules=("fc1",))
    with pytest.raises(InputError, match=r"sglang reads LoRAs .* alone: q_proj, .* has one at '.*\.mlp\.fc1'"):
        export_for(expert, tmp_path / "out", backbone, "sglang")
    assert export_for(expert, tmp_path / "out", backbone, "lorax").rank == 2
