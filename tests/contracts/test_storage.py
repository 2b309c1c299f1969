"""What is saved is what comes back, what was altered is named, and plain PEFT computes the same."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.contracts.cases import CASES, Case, make_case, tiny

from pitune.backbones import Batch
from pitune.errors import InputError
from pitune.experts import (
    attached,
    check_tensors,
    export_peft,
    initial_tensors,
    load_expert,
    make_settings,
    merge_into,
    merged,
    read_settings,
)
from pitune.interpolation import mix
from pitune.pocket.backbone import Pocket

IN_PEFT = [(family, name) for family, name in CASES if family != "pocket" and name in ("lora", "ia3", "layernorm")]
MERGED = [pair for pair in CASES if pair[1] in ("lora", "ia3", "layernorm", "bitfit")]
DAMAGES = {
    "missing": (lambda name, value: {}, "is missing"),
    "extra": (lambda name, value: {name: value, "intruder": value}, "'intruder' is not part"),
    "shape": (lambda name, value: {name: value[:1].repeat(7, *[1] * (value.ndim - 1))}, "wrong shape"),
    "infinite": (lambda name, value: {name: value + float("inf")}, "not finite"),
}


def test_save_and_load_are_bit_equal(case: Case, tmp_path: Path) -> None:
    expert = mix(case.experts, [0.7, -0.4, 0.5])
    expert.save(tmp_path / "one")
    again = load_expert(tmp_path / "one")
    assert again.config == expert.config
    assert again.tensors.keys() == expert.tensors.keys()
    assert all(torch.equal(value, again.tensors[name]) for name, value in expert.tensors.items())
    assert torch.equal(case.scores(again), case.scores(expert))
    again.save(tmp_path / "two")
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


@pytest.mark.parametrize("damage", DAMAGES)
def test_each_damage_is_one_error_that_names_the_tensor(case: Case, damage: str) -> None:
    change, message = DAMAGES[damage]
    name = sorted(case.experts[0].tensors)[-1]
    tensors = {key: value for key, value in case.experts[0].tensors.items() if key != name}
    tensors |= change(name, case.experts[0].tensors[name])
    with (
        attached(case.backbone, case.method, case.experts[0].settings) as place,
        pytest.raises(InputError, match=message) as error,
    ):
        check_tensors(place.shapes, tensors, "test")
    assert "intruder" in str(error.value) or name in str(error.value)


def test_two_runs_with_one_seed_are_bit_equal(case: Case) -> None:
    again = case.train(1, **case.settings(1))
    assert all(torch.equal(value, again.tensors[name]) for name, value in case.experts[1].tensors.items())


def test_attaching_and_detaching_leave_the_backbone_bit_equal(case: Case) -> None:
    module = case.backbone.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    scores, kinds = case.backbone.scores(case.batch), [(name, type(layer)) for name, layer in module.named_modules()]
    case.scores(case.experts[0])
    with pytest.raises(RuntimeError, match="on purpose"):
        case_fails_inside(case)
    after = module.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert [(name, type(layer)) for name, layer in module.named_modules()] == kinds
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
    assert torch.equal(case.backbone.scores(case.batch), scores)
    assert not any(parameter.requires_grad for parameter in module.parameters())


def case_fails_inside(case: Case) -> None:
    with attached(case.backbone, case.method, case.experts[0].settings):
        raise RuntimeError("on purpose")


def test_what_cannot_attach_is_refused_and_leaves_nothing(case: Case) -> None:
    names = [field for field in ("target_modules", "layers", "embedding") if field in case.method.settings.model_fields]
    config = dict(case.experts[0].config)
    places = config[names[0]]
    config[names[0]] = [*places[:1], "no.such.module"] if isinstance(places, list) else "no.such.module"
    if case.method.name in ("lora", "ia3"):
        config[names[0]], config["feedforward_modules"] = ["no.such.module"], []
        config = {key: value for key, value in config.items() if key in case.method.settings.model_fields}
    before = list(case.backbone.module.state_dict())
    with (
        pytest.raises(InputError),
        attached(case.backbone, case.method, read_settings(case.method, config, "test")),
    ):
        pass
    assert list(case.backbone.module.state_dict()) == before
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in case.backbone.module.modules())


@pytest.mark.parametrize("case", CASES, indirect=True, ids="-".join)
def test_starting_values_are_untouched_where_they_leave_outputs_as_they_are(case: Case) -> None:
    config = make_settings(case.method, case.backbone)
    with attached(case.backbone, case.method, config) as place:
        start = initial_tensors(case.method, place.shapes, 3, config)
        found = place.scores(start, case.batch)
    alone = case.backbone.scores(case.batch)
    fresh = replace(case.experts[0], settings=config, tensors=start)
    assert fresh.untouched is not case.method.adds_input
    if fresh.untouched:
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)
    else:  # tokens, keys and values among the others always weigh something
        assert not torch.equal(found, alone)
    assert not case.experts[0].untouched


@pytest.mark.parametrize("case", MERGED, indirect=True, ids="-".join)
def test_merged_into_the_base_weights_the_outputs_stay(case: Case) -> None:
    expert = mix(case.experts, [0.7, -0.4, 0.5])
    whole = merge_into(case.backbone, expert)
    own = case.backbone.module
    for (name, value), base in zip(whole.named_parameters(), own.parameters(), strict=True):
        assert value.data_ptr() != base.data_ptr(), name
    kept = {name: value.clone() for name, value in own.state_dict().items()}
    expected = case.scores(expert)
    answers = case.batch.answers
    try:
        if case.family != "pocket":  # pocket's answers are read by the same weights, which experts must not touch
            own.load_state_dict(whole.state_dict())
            torch.testing.assert_close(case.backbone.scores(case.batch), expected, rtol=1e-4, atol=1e-4)
    finally:
        own.load_state_dict(kept)
    assert answers is case.batch.answers


@pytest.mark.parametrize("case", MERGED, indirect=True, ids="-".join)
def test_the_bare_backbone_called_with_merged_weights_answers_as_with_the_expert(case: Case) -> None:
    expert = mix(case.experts, [0.7, -0.4, 0.5])
    kept = {name: value.clone() for name, value in case.backbone.module.state_dict().items()}
    plain = case.backbone.scores(case.batch)
    made = merged(case.backbone, expert)
    assert made is not None
    place, tensors = made
    with torch.no_grad():
        torch.testing.assert_close(place.scores(tensors, case.batch), case.scores(expert), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(value, kept[name]) for name, value in case.backbone.module.state_dict().items())
    assert torch.equal(case.backbone.scores(case.batch), plain)


def test_kinds_that_no_weights_express_do_not_merge(case: Case) -> None:
    if case.method.name in ("lora", "ia3", "layernorm", "bitfit"):
        return
    with pytest.raises(InputError, match="cannot merge"):
        merge_into(case.backbone, case.experts[0])
    assert merged(case.backbone, case.experts[0]) is None


PLAIN = """
import json, sys, warnings
import torch
from pathlib import Path
from peft import PeftModel
from safetensors.torch import load_file
from transformers import BertModel, CLIPModel, T5ForConditionalGeneration
torch.set_num_threads(1)
folder = Path(sys.argv[1])
kinds = {"bert": BertModel, "t5": T5ForConditionalGeneration, "clip": CLIPModel}
for pair in json.loads((folder / "pairs.json").read_text()):
    family, method = pair
    extra = {"add_pooling_layer": False} if family == "bert" else {}
    base = kinds[family].from_pretrained(folder / family, **extra)
    model = PeftModel.from_pretrained(base, folder / f"{family}-{method}").eval()
    data = load_file(folder / f"{family}-{method}.safetensors")
    with torch.no_grad():
        if family == "bert":
            mask = data["mask"]
            hidden = model(input_ids=data["input_ids"], attention_mask=mask).last_hidden_state
            mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            scores = mean @ data["answers"].T
        elif family == "clip":
            norm = torch.nn.functional.normalize
            found = model(input_ids=data["answers"], pixel_values=data["pixels"])
            scores = 8.0 * norm(found.image_embeds, dim=-1) @ norm(found.text_embeds, dim=-1).T
        else:
            rows = []
            for answer in data["answers"]:
                labels = answer.expand(len(data["input_ids"]), -1)
                start = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], 1)
                inputs = {"input_ids": data["input_ids"], "attention_mask": data["mask"]}
                logits = model(**inputs, decoder_input_ids=start).logits
                rows.append(logits.log_softmax(-1).gather(2, labels[..., None]).sum((1, 2)))
            scores = torch.stack(rows, 1)
    torch.testing.assert_close(scores.log_softmax(-1), data["scores"], rtol=1e-5, atol=1e-5)
assert "pitune" not in sys.modules
"""


def test_exported_experts_compute_the_same_in_plain_peft(
    tiny_backbone: Pocket, pocket_batch: Batch, tmp_path: Path
) -> None:
    for pair in IN_PEFT:
        case = make_case(pair, tiny_backbone, pocket_batch)
        weights = [0.7, -0.4, 0.5] if pair[1] == "lora" else [0.5, 0.3, 0.4]
        expert = mix(case.experts, weights)
        export_peft(expert, tmp_path / "-".join(pair), case.backbone)
        data = {"scores": case.scores(expert), "answers": case.batch.answers, **case.batch.inputs}
        save_file(
            {name: value.contiguous() for name, value in data.items()}, tmp_path / f"{'-'.join(pair)}.safetensors"
        )
    for family in {pair[0] for pair in IN_PEFT}:
        tiny(family).module.save_pretrained(tmp_path / family)
    (tmp_path / "pairs.json").write_text(json.dumps(IN_PEFT))
    run = subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_kinds_that_peft_lacks_are_not_exported(case: Case, tmp_path: Path) -> None:
    if case.method.name in ("lora", "ia3", "layernorm"):
        return
    with pytest.raises(InputError, match="PEFT has no experts of kind"):
        export_peft(case.experts[0], tmp_path / "out", case.backbone)
    assert not (tmp_path / "out").exists()


def test_an_expert_of_another_backbone_does_not_merge(tiny_backbone: Pocket, pocket_batch: Batch) -> None:
    expert = make_case(("pocket", "lora"), tiny_backbone, pocket_batch).experts[0]
    stranger = replace(expert, card=expert.card.model_copy(update={"backbone": "other"}))
    with pytest.raises(InputError, match="another backbone"):
        merge_into(tiny_backbone, stranger)
