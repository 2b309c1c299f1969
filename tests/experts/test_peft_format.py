"""A stranger's LoRA comes in with the same outputs, or is refused by the name of what is not supported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tests.contracts.families import Tiny, build

from pitune.errors import InputError
from pitune.experts import KINDS, Expert, attached, export_peft, import_peft, make_settings, merge_into
from pitune.interpolation import mix

pytestmark = [
    # PEFT asks transformers by a name that is going out of use, and doubts biases of its own making
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*LoRA tensor.s. have invalid shape.*lora_B.bias"),
]
PATTERNS = {
    "rank_pattern": {"layer.0.attention.self.query": 3},
    "alpha_pattern": {r"layer\.1\..*": 5},
    "target_modules": r".*\.(query|value|intermediate\.dense)",
}


@pytest.fixture
def bert() -> Tiny:
    return build("bert")


def stranger(folder: Path, **settings: object) -> torch.Tensor:
    """Save a LoRA of random values that PEFT alone made, and return its scores."""
    backbone = build("bert")
    given: dict[str, Any] = {
        "r": 4,
        "lora_alpha": 6,
        "target_modules": ["query", "value"],
        "init_lora_weights": False,
        **settings,
    }
    torch.manual_seed(0)
    model = get_peft_model(backbone.module, LoraConfig(**given)).eval()
    for name, parameter in model.named_parameters():
        if "lora" in name or (given.get("bias") == "lora_only" and name.endswith("base_layer.bias")):
            parameter.data.normal_(std=0.3)
    model.save_pretrained(folder)
    alter(folder, base_model_name_or_path="bert")
    with torch.no_grad():
        return backbone.scores(backbone.batch)


def alter(folder: Path, **fields: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def scores_of(backbone: Tiny, expert: Expert) -> torch.Tensor:
    kind = KINDS.get(expert.method)
    with torch.no_grad(), attached(backbone, kind, expert.settings) as place:
        return place.scores(expert.tensors, backbone.batch)


@pytest.mark.parametrize(
    "settings",
    [{}, {"use_rslora": True}, PATTERNS, {"lora_bias": True}, {"bias": "lora_only", "use_rslora": True}],
    ids=["plain", "rslora", "patterns", "lora_bias", "bias"],
)
def test_a_stranger_comes_in_with_the_same_outputs(bert: Tiny, tmp_path: Path, settings: dict[str, Any]) -> None:
    expected = stranger(tmp_path / "theirs", **settings)
    expert = import_peft(tmp_path / "theirs", bert, "theirs")
    assert float((expected - bert.scores(bert.batch)).abs().max()) > 1e-2
    torch.testing.assert_close(scores_of(bert, expert), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores_of(bert, mix([expert], [1.0])), expected, rtol=1e-4, atol=1e-4)
    export_peft(expert, tmp_path / "ours")
    again = import_peft(tmp_path / "ours", bert, "again")
    assert all(torch.equal(value, again.tensors[name]) for name, value in expert.tensors.items())


def test_strangers_of_unlike_ranks_scales_and_targets_mix_in_their_products(bert: Tiny, tmp_path: Path) -> None:
    stranger(tmp_path / "one", use_rslora=True)
    stranger(tmp_path / "two", **PATTERNS)
    stranger(tmp_path / "three", lora_bias=True, target_modules=["key"])
    experts = [import_peft(tmp_path / name, bert, name) for name in ("one", "two", "three")]
    weights = [0.5, -0.3, 0.8]
    plain = bert.module.state_dict()
    module = build("bert").module
    for expert, weight in zip(experts, weights, strict=True):
        merged = merge_into(bert, expert).state_dict()
        for name, value in module.state_dict().items():
            value += weight * (merged[name] - plain[name])
    found = merge_into(bert, mix(experts, weights)).state_dict()
    for name, value in module.state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"modules_to_save": ["classifier"]}, "modules_to_save"),
        ({"target_parameters": ["experts.weight"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"a_setting_of_tomorrow": 3}, "a_setting_of_tomorrow is 3"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is 'pissa'"),
        ({"peft_type": "LOHA"}, "'LOHA'; expected LORA"),
        ({"base_model_name_or_path": "someone/else"}, "belongs to the base model 'someone/else'; expected bert"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_what_is_not_supported_is_refused_by_name(
    bert: Tiny, tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    stranger(tmp_path / "theirs")
    alter(tmp_path / "theirs", **fields)
    with pytest.raises(InputError, match=message):
        import_peft(tmp_path / "theirs", bert, "theirs")


def test_another_name_for_the_same_base_can_be_vouched_for(bert: Tiny, tmp_path: Path) -> None:
    expected = stranger(tmp_path / "theirs")
    alter(tmp_path / "theirs", base_model_name_or_path="someone/bert")
    expert = import_peft(tmp_path / "theirs", bert, "theirs", any_base=True)
    torch.testing.assert_close(scores_of(bert, expert), expected, rtol=1e-4, atol=1e-4)
    assert expert.card.hyperparameters["origin"]["base_model"] == "someone/bert"


def test_files_that_are_not_what_they_should_be_are_refused(bert: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    stranger(folder)
    weights = folder / "adapter_model.safetensors"
    tensors = load_file(weights)
    name = next(name for name in tensors if name.endswith("layer.0.attention.self.query.lora_A.weight"))
    for changed, message in (
        ({**tensors, "base_model.model.intruder": torch.ones(2)}, "'intruder' is not part of a LoRA"),
        ({**tensors, name: tensors[name][:, :5].contiguous()}, "wrong shape"),
        ({**tensors, name: tensors[name] * float("nan")}, "not finite"),
        ({key: value for key, value in tensors.items() if key != name.replace("_A", "_B")}, "is missing"),
        ({key.replace("layer.1", "layer.9"): value for key, value in tensors.items()}, "another base model"),
        ({"base_model.model.x": torch.ones(2)}, "no LoRA factors"),
    ):
        save_file(changed, weights)
        with pytest.raises(InputError, match=message):
            import_peft(folder, bert, "theirs")
    weights.write_bytes(b"no tensors")
    with pytest.raises(InputError, match="not a safetensors file"):
        import_peft(folder, bert, "theirs")
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(InputError, match="pickled"):
        import_peft(folder, bert, "theirs")
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(InputError, match="has no adapter_model"):
        import_peft(folder, bert, "theirs")
    with pytest.raises(InputError, match="no such folder"):
        import_peft(tmp_path / "nowhere at all", bert, "theirs")
    with pytest.raises(InputError, match="cannot name an expert"):
        import_peft(folder, bert, "../theirs")


def test_hub_ids_are_fetched_file_by_file(bert: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = stranger(tmp_path / "theirs")
    asked = []

    def download(repository: str, file: str) -> str:
        asked.append((repository, file))
        return str(tmp_path / "theirs" / file)

    monkeypatch.setattr("pitune.experts.peft_format.hf_hub_download", download)
    expert = import_peft("owner/name", bert, "theirs")
    torch.testing.assert_close(scores_of(bert, expert), expected, rtol=1e-4, atol=1e-4)
    assert asked == [("owner/name", "adapter_config.json"), ("owner/name", "adapter_model.safetensors")]


def test_lora_targets_by_ending_and_by_pattern(bert: Tiny) -> None:
    kind = KINDS.get("lora")
    for targets in (["query", "value"], r"encoder\.layer\.\d+\.attention\.self\.(query|value)"):
        with attached(bert, kind, make_settings(kind, bert, target_modules=targets)) as place:
            assert len(place.shapes) == 8
    for targets in ("no.such", "(", ["query", "nowhere"]):
        with (
            pytest.raises(InputError, match=r"nowhere|cannot attach"),
            attached(bert, kind, make_settings(kind, bert, target_modules=targets)),
        ):
            pass
    assert not hasattr(bert.module, "peft_config")


def test_a_folder_in_use_is_not_written_to(bert: Tiny, tmp_path: Path) -> None:
    stranger(tmp_path / "theirs")
    expert = import_peft(tmp_path / "theirs", bert, "theirs")
    with pytest.raises(InputError, match="choose a folder that is free"):
        export_peft(expert, tmp_path / "theirs")
