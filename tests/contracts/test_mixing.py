"""What mixing means is the same for every kind of expert; outputs and ΔW are compared, never factors."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from tests.contracts.cases import CASES, Case, make_case
from torch.func import functional_call

from pitune.backbones import Batch
from pitune.errors import InputError
from pitune.experts import KINDS, Expert, attached, expert_of
from pitune.interpolation import MixingWeights, MixtureLearner, Rates, mix
from pitune.interpolation.weights import Granularity, Weighting
from pitune.pocket.backbone import Pocket

CLOSE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
WEIGHTS = [0.7, -0.4, 0.5]


def test_experts_are_trained_and_differ(case: Case) -> None:
    base = case.backbone.scores(case.batch)
    for expert in case.experts:
        assert float((case.scores(expert) - base).abs().max()) > 1e-2
    assert float((case.scores(case.experts[0]) - case.scores(case.experts[1])).abs().max()) > 1e-3


def test_one_expert_with_weight_1_is_that_expert(case: Case) -> None:
    alone = mix([case.experts[0]], [1.0])
    torch.testing.assert_close(case.scores(alone), case.scores(case.experts[0]), **CLOSE)


def test_a_one_hot_mix_is_the_chosen_expert(case: Case) -> None:
    chosen = mix(case.experts, [0.0, 1.0, 0.0])
    torch.testing.assert_close(case.scores(chosen), case.scores(case.experts[1]), **CLOSE)


def test_permuting_experts_permutes_weights_only(case: Case) -> None:
    one, other = mix(case.experts, WEIGHTS), mix(case.experts[::-1], WEIGHTS[::-1])
    torch.testing.assert_close(case.scores(one), case.scores(other), **CLOSE)


@pytest.mark.parametrize("case", [pair for pair in CASES if KINDS.get(pair[1]).linear], indirect=True, ids="-".join)
def test_weights_of_zero_leave_what_adds_to_the_backbone_without_effect(case: Case) -> None:
    none = mix(case.experts, [0.0, 0.0, 0.0])
    torch.testing.assert_close(case.scores(none), case.backbone.scores(case.batch), **CLOSE)


@pytest.mark.parametrize("granularity", ["site", "layer", "global"])
def test_unfolded_and_folded_outputs_agree(case: Case, granularity: Granularity) -> None:
    weights = spread_weights(case, granularity, "free" if granularity == "site" else "softmax")
    unfolded = unfolded_scores(case, weights)
    torch.testing.assert_close(case.scores(folded(case, weights)), unfolded, **CLOSE)


@pytest.mark.parametrize("case", [pair for pair in CASES if pair[0] != "pocket"], indirect=True, ids="-".join)
def test_unfolded_and_folded_outputs_agree_in_bfloat16(case: Case) -> None:
    weights = spread_weights(case, "site", "free")
    exact = unfolded_scores(case, weights)
    module = case.backbone.module
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    held = cast("dict[str, torch.Tensor]", case.batch.inputs)
    inputs = held.get("pixels")
    try:
        module.to(torch.bfloat16)
        if inputs is not None:
            held["pixels"] = inputs.bfloat16()
        unfolded, found = unfolded_scores(case, weights), case.scores(folded(case, weights))
    finally:
        module.to(torch.float32)
        module.load_state_dict(kept)
        if inputs is not None:
            held["pixels"] = inputs
    scale = float(exact.abs().max())
    torch.testing.assert_close(found.float(), unfolded.float(), rtol=2**-5, atol=2**-5 * scale)
    assert float((found.float() - exact).norm()) < 0.2 * float(exact.norm())


def test_a_site_is_affine_in_the_weights_exactly_where_the_method_says_so(case: Case) -> None:
    """f((u + v)/2) = (f(u) + f(v))/2 for the output of one module, or of the whole model."""
    first, second = [1.5, -0.5, 0.2], [-0.6, 0.9, 0.4]
    middle = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    if case.method.linear:
        outputs = [site_output(case, mix(case.experts, weights)) for weights in (first, second, middle)]
    else:
        outputs = [case.scores(mix(case.experts, weights)) for weights in (first, second, middle)]
    error = float((outputs[2] - (outputs[0] + outputs[1]) / 2).abs().max())
    moved = float((outputs[0] - outputs[1]).abs().max())
    assert moved > 1e-3
    assert (error < 1e-5 * (1 + moved)) if case.method.linear else (error > 1e-3 * moved)


def test_gradients_reach_every_parameter_of_every_expert_and_no_other(case: Case) -> None:
    configs = [expert.settings for expert in case.experts]
    tensors = [expert.tensors for expert in case.experts]
    learner = MixtureLearner(case.method, configs, tensors, weights=spread_weights(case, "site", "free"), rates=Rates())
    leaves = [leaf.requires_grad_() for leaf, _ in learner.parameters()]
    with attached(case.backbone, case.method, case.method.combined(configs, tensors)) as place:
        place.losses(learner.tensors(), case.batch).mean().backward()
    assert all(leaf.grad is not None and float(leaf.grad.abs().max()) > 0 for leaf in leaves)
    assert all(parameter.grad is None for parameter in case.backbone.module.parameters())


def test_experts_of_two_kinds_do_not_mix(tiny_backbone: Pocket, pocket_batch: Batch) -> None:
    lora, prompt = (make_case(("pocket", name), tiny_backbone, pocket_batch).experts[0] for name in ("lora", "prompt"))
    with pytest.raises(InputError, match=r"\(lora\) with .* \(prompt\); expected one kind"):
        mix([lora, prompt], [0.5, 0.5])


@pytest.mark.parametrize("pair", [pair for pair in CASES if pair[0] == "pocket" and pair[1] != "lora"])
def test_experts_of_unlike_settings_are_refused_by_the_name_of_the_setting(
    tiny_backbone: Pocket, pocket_batch: Batch, pair: tuple[str, str]
) -> None:
    found = make_case(pair, tiny_backbone, pocket_batch)
    config = dict(found.experts[1].config)
    field = next(name for name in ("length", "text_length", "target_modules") if name in config)
    config[field] = config[field][:1] if field == "target_modules" else 2
    other = expert_of(found.method.name, config, found.experts[1].tensors, found.experts[1].card)
    with pytest.raises(InputError, match=f"differ in {field}"):
        mix([found.experts[0], other], [0.5, 0.5])


def spread_weights(case: Case, granularity: Granularity, kind: Weighting) -> MixingWeights:
    sites = list(dict.fromkeys(case.method.site(name) for expert in case.experts for name in expert.tensors))
    weights = MixingWeights(sites, [0.5, 0.2, 0.3], granularity, kind)
    for number, alpha in enumerate(weights.alpha.values()):
        alpha += torch.tensor([0.1, -0.3, 0.05]) * (number % 3)
    return weights


def unfolded_scores(case: Case, weights: MixingWeights) -> torch.Tensor:
    configs = [expert.settings for expert in case.experts]
    tensors = [expert.tensors for expert in case.experts]
    learner = MixtureLearner(case.method, configs, tensors, weights=weights, rates=Rates())
    with (
        torch.no_grad(),
        attached(case.backbone, case.method, case.method.combined(configs, tensors)) as place,
    ):
        return place.scores(learner.tensors(), case.batch)


def folded(case: Case, weights: MixingWeights) -> Expert:
    return mix(case.experts, {site: value.tolist() for site, value in weights.by_site().items()})


def site_output(case: Case, expert: Expert) -> torch.Tensor:
    """Return what the first site makes of fixed inputs."""
    site = case.method.site(next(iter(expert.tensors)))
    module = case.backbone.module
    layer: Any = module.get_submodule(site)
    width = getattr(layer, "in_features", None) or layer.weight.shape[-1]
    inputs = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), attached(case.backbone, case.method, expert.settings) as place:
        paths = {name: path.removeprefix("module.") for name, path in place._paths.items()}
        own = {
            path.removeprefix(f"{site}."): expert.tensors[name]
            for name, path in paths.items()
            if case.method.site(name) == site
        }
        return functional_call(module.get_submodule(site), own, (inputs,))
