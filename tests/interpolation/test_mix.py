"""Mixing is exact: deltas and outputs are compared, never factors, and experts are trained, never zero."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tests.conftest import draw_of

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import KINDS, Expert, attached, initial_tensors, load_expert, make_settings
from pitune.experts.kinds.lora import LORA
from pitune.experts.kinds.lora_update import LoraSettings, delta
from pitune.interpolation import MixingWeights, MixtureLearner, Rates, mix
from pitune.interpolation.weights import Granularity, Weighting
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task
from pitune.training import TrainingSettings, evaluate_expert, fit_expert, untrained

SETTINGS = TrainingSettings(steps=12, batch_size=16, learning_rate=2e-2)
Experts = dict[str, list[Expert]]


@pytest.fixture(scope="module")
def experts(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> Experts:
    def fit(task_name: str, method: str, **config: Any) -> Expert:
        task = tiny_tasks[task_name]
        data = draw_of(task, validate=False)
        return fit_expert(tiny_backbone, data, method=method, settings=SETTINGS, **config)[0]

    return {
        "lora": [
            fit("taste", "lora"),
            fit("mood", "lora", r=4, lora_alpha=3),
            fit("place", "lora", r=6, use_rslora=True),
        ],
        "adapter": [fit("taste", "adapter"), fit("mood", "adapter"), fit("place", "adapter")],
    }


def deltas(expert: Expert) -> dict[str, torch.Tensor]:
    config = cast("LoraSettings", expert.settings)
    return {site: delta(config, expert.tensors, site) for site in {LORA.site(name) for name in expert.tensors}}


def outputs(backbone: Backbone, task: Task, expert: Expert | None) -> torch.Tensor:
    found = evaluate_expert(backbone, task, expert, task.examples("test"))
    return found.scores


def test_experts_are_trained(experts: Experts) -> None:
    for one in experts["lora"]:
        assert all(float(value.abs().max()) > 1e-3 for value in deltas(one).values())


def test_lora_mix_is_the_sum_of_deltas_whatever_rank_and_scale(experts: Experts) -> None:
    weights = [0.7, -0.4, 1.3]
    found = deltas(mix(experts["lora"], weights))
    for site, value in found.items():
        expected = torch.stack([w * deltas(e)[site] for w, e in zip(weights, experts["lora"], strict=True)]).sum(0)
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_one_hot_mix_is_the_chosen_expert(
    experts: Experts, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], method: str
) -> None:
    chosen = outputs(tiny_backbone, tiny_tasks["mood"], experts[method][1])
    mixed = outputs(tiny_backbone, tiny_tasks["mood"], mix(experts[method], [0.0, 1.0, 0.0]))
    torch.testing.assert_close(mixed, chosen, rtol=1e-5, atol=1e-5)
    assert float((chosen - outputs(tiny_backbone, tiny_tasks["mood"], None)).abs().max()) > 1e-2


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_what_changes_nothing_has_no_part(
    experts: Experts, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], method: str
) -> None:
    first, second, third = experts[method]
    mixed = mix([first, second, third], [0.5, 0.0, 0.25])
    assert list(mixed.card.parts.items()) == [(first.name, 0.5), (third.name, 0.25)]
    if method == "lora":
        kind, place = KINDS.get("lora"), make_settings(KINDS.get("lora"), tiny_backbone)
        own = untrained(tiny_backbone, kind, place, first.card.model_copy(update={"name": "own"}))
        assert mix([own, second], [1.0, 0.7]).card.parts == pytest.approx({second.name: 0.7})
        nothing = mix([own, own], [1.0, 1.0])
        assert [parent.name for parent in nothing.card.parents] == ["own"]
        assert torch.equal(
            outputs(tiny_backbone, tiny_tasks["mood"], nothing), outputs(tiny_backbone, tiny_tasks["mood"], None)
        )


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_permuting_experts_permutes_weights_only(
    experts: Experts, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], method: str
) -> None:
    one = mix(experts[method], [0.2, 0.3, 0.5])
    other = mix(experts[method][::-1], [0.5, 0.3, 0.2])
    task = tiny_tasks["place"]
    torch.testing.assert_close(
        outputs(tiny_backbone, task, one), outputs(tiny_backbone, task, other), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("method", ["lora", "adapter"])
@pytest.mark.parametrize("granularity", ["site", "layer", "global"])
@pytest.mark.parametrize("kind", ["softmax", "free"])
def test_folded_outputs_are_those_of_the_unfolded_mix(
    experts: Experts,
    tiny_backbone: Pocket,
    tiny_tasks: dict[str, Task],
    method: str,
    granularity: Granularity,
    kind: Weighting,
) -> None:
    kind_of = KINDS.get(method)
    configs = [expert.settings for expert in experts[method]]
    tensors = [expert.tensors for expert in experts[method]]
    sites = list(dict.fromkeys(kind_of.site(name) for name in tensors[0]))
    weights = MixingWeights(sites, [0.5, 0.2, 0.3], granularity, kind)
    for i, alpha in enumerate(weights.alpha.values()):
        alpha += 0.1 * i
    learner = MixtureLearner(kind_of, configs, tensors, weights=weights, rates=Rates())
    task = tiny_tasks["place"]
    with attached(tiny_backbone, kind_of, kind_of.combined(configs, tensors)) as place:
        batch = tiny_backbone.prepare(task.examples("test"), task)
        unfolded = place.scores(learner.tensors(), batch)
    folded = mix(experts[method], {site: value.tolist() for site, value in weights.by_site().items()})
    kind_config = folded.settings
    with attached(tiny_backbone, kind_of, kind_config) as place:
        torch.testing.assert_close(place.scores(folded.tensors, batch), unfolded, rtol=1e-5, atol=1e-5)


def test_gradients_reach_every_expert_and_weight_and_nothing_of_the_backbone(
    experts: Experts, tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    configs = [cast("LoraSettings", expert.settings) for expert in experts["lora"]]
    tensors = [expert.tensors for expert in experts["lora"]]
    sites = list(dict.fromkeys(LORA.site(name) for name in tensors[0]))
    learner = MixtureLearner(
        LORA, configs, tensors, weights=MixingWeights(sites, [1.0, 0.5, 0.5], "site", "free"), rates=Rates()
    )
    leaves = [leaf.requires_grad_() for leaf, _ in learner.parameters()]
    task = tiny_tasks["place"]
    with attached(tiny_backbone, LORA, LORA.combined(configs, tensors)) as place:
        place.losses(learner.tensors(), tiny_backbone.prepare(task.examples("train"), task)).mean().backward()
    assert all(float(leaf.grad.abs().max()) > 0 for leaf in leaves)
    assert all(parameter.grad is None for parameter in tiny_backbone.model.parameters())


def test_truncation_is_the_best_of_its_rank_and_says_what_it_lost(experts: Experts) -> None:
    whole = mix(experts["lora"], [1.0, 1.0, 1.0])
    short = mix(experts["lora"], [1.0, 1.0, 1.0], rank=3)
    lost = kept = 0.0
    for site, value in deltas(whole).items():
        singular = torch.linalg.svdvals(value.double())
        error = float((value - deltas(short)[site]).double().square().sum())
        assert error == pytest.approx(float(singular[3:].square().sum()), rel=1e-3)
        lost, kept = lost + error, kept + float(singular.square().sum())
    assert short.card.hyperparameters["truncation_error"] == pytest.approx((lost / kept) ** 0.5, rel=1e-3)
    assert short.config["r"] == 3
    assert mix(experts["lora"], [1.0, 1.0, 1.0], rank=18).card.hyperparameters["truncation_error"] < 1e-6


def test_attaching_leaves_the_backbone_as_it_was(experts: Experts, tiny_backbone: Pocket) -> None:
    before = {name: value.clone() for name, value in tiny_backbone.module.state_dict().items()}
    for method in ("lora", "adapter"):
        kind = KINDS.get(method)
        with attached(tiny_backbone, kind, make_settings(kind, tiny_backbone)) as place:
            assert initial_tensors(kind, place.shapes, 0).keys() == place.shapes.keys()
    after = tiny_backbone.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not hasattr(tiny_backbone.module, "peft_config")


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_starting_values_leave_outputs_as_they_are(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], method: str
) -> None:
    kind = KINDS.get(method)
    task = tiny_tasks["taste"]
    batch = tiny_backbone.prepare(task.examples("test"), task)
    before = tiny_backbone.scores(batch)
    with attached(tiny_backbone, kind, make_settings(kind, tiny_backbone)) as place:
        torch.testing.assert_close(place.scores(initial_tensors(kind, place.shapes, 5), batch), before)


def test_unlike_experts_are_refused(experts: Experts) -> None:
    with pytest.raises(InputError, match="one kind of expert"):
        mix([experts["lora"][0], experts["adapter"][0]], [0.5, 0.5])
    stranger = replace(experts["lora"][1], card=experts["lora"][1].card.model_copy(update={"backbone": "other"}))
    with pytest.raises(InputError, match="different backbones"):
        mix([experts["lora"][0], stranger], [0.5, 0.5])
    with pytest.raises(InputError, match="as many weights"):
        mix(experts["lora"], [0.5, 0.5])
    with pytest.raises(InputError, match="rank"):
        mix(experts["adapter"], [0.2, 0.3, 0.5], rank=4)
    with pytest.raises(InputError, match="nothing to mix"):
        mix([], [])


PLAIN = """
import sys, torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import BertModel
assert "pitune" not in sys.modules
folder = sys.argv[1]
trunk = BertModel.from_pretrained(folder + "/trunk", add_pooling_layer=False)
model = PeftModel.from_pretrained(trunk, folder + "/expert").eval()
data = load_file(folder + "/io.safetensors")
with torch.no_grad():
    hidden = model(inputs_embeds=data["embedded"]).last_hidden_state
torch.testing.assert_close(hidden, data["hidden"], rtol=1e-5, atol=1e-5)
"""


def test_a_folded_lora_loads_in_plain_peft(experts: Experts, tiny_backbone: Pocket, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    folded = mix(experts["lora"], [0.5, 0.8, -0.2])
    folded.save(tmp_path / "expert")
    tiny_backbone.module.save_pretrained(tmp_path / "trunk")
    embedded = torch.randn(3, 7, tiny_backbone.width, generator=torch.Generator().manual_seed(0))
    with attached(tiny_backbone, LORA, folded.settings) as place:
        module = tiny_backbone.module
        for name, path in place._paths.items():
            module.get_parameter(path.removeprefix("module.")).data.copy_(folded.tensors[name])
        with torch.no_grad():
            hidden = module(inputs_embeds=embedded).last_hidden_state
    plain = tiny_backbone.module(inputs_embeds=embedded).last_hidden_state
    assert float((hidden - plain).abs().max()) > 1e-2
    save_file({"embedded": embedded, "hidden": hidden}, tmp_path / "io.safetensors")
    run = subprocess.run([sys.executable, "-c", PLAIN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    again = load_expert(tmp_path / "expert")
    assert all(torch.equal(value, folded.tensors[name]) for name, value in again.tensors.items())
