"""Trying a large pool by halves ends where trying all of it on every label does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pitune.backbones import target_losses
from pitune.experts import KINDS, Expert, ExpertPool, attached, initial_tensors, make_settings
from pitune.pocket.backbone import Pocket
from pitune.prediction import Target, neighbours
from pitune.prediction import trials as trials_module
from pitune.tasks import Draw, Task, few_shot
from pitune.training import TrainingSettings, evaluate_expert, fit_expert

FAST = TrainingSettings(steps=30, batch_size=8, learning_rate=2e-2)


@pytest.fixture
def draw(tiny_tasks: dict[str, Task]) -> Draw:
    return few_shot(tiny_tasks["mood"], 6, 0)


@pytest.fixture
def pool(tiny_backbone: Pocket, draw: Draw, tmp_path: Path) -> ExpertPool:
    """Forty experts: one trained on the target's own words, and the same at ever more noise."""
    made = ExpertPool(tmp_path / "pool")
    trained, _ = fit_expert(tiny_backbone, draw, settings=FAST)
    random = torch.Generator().manual_seed(0)
    for i in range(40):
        noisy = {n: v + 0.05 * i * torch.randn(v.shape, generator=random) for n, v in trained.tensors.items()}
        made.add(_named(trained, noisy, f"e{39 - i:02}"))
    return made


def _named(expert: Expert, tensors: dict[str, torch.Tensor], name: str) -> Expert:
    return replace(expert, tensors=tensors, card=expert.card.model_copy(update={"name": name, "task": "other"}))


def in_format(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let experts be tried in a format that need not be this machine's quickest."""
    monkeypatch.setattr(trials_module, "quickest", lambda device: precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("by", ["trial", "calibrated-trial"])
def test_halving_chooses_what_trying_all_does(
    tiny_backbone: Pocket, pool: ExpertPool, draw: Draw, by: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_format(precision, monkeypatch)
    tried: list[int] = []
    losses = trials_module._tried
    monkeypatch.setattr(trials_module, "_tried", lambda *a: tried.append(len(a[1]) * len(a[2])) or losses(*a))
    near = neighbours(tiny_backbone, draw, pool, k=3, by=by)
    seen = {e.name: evaluate_expert(tiny_backbone, draw.task, e, near.target.support) for e in pool}
    value = {n: s.loss if by == "trial" else float(s.calibrated.mean()) for n, s in seen.items()}
    assert [name for name, _ in near.pairs] == sorted(value, key=value.__getitem__)[:3]
    assert near.scores[0] == pytest.approx(-min(value.values()), abs=1e-6)
    assert sum(tried) == 40 * 4 + 20 * 4 < len(pool) * len(draw.labels)


@pytest.mark.parametrize("kind", KINDS.names())
def test_experts_tried_together_answer_as_each_alone(
    tiny_backbone: Pocket, draw: Draw, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_format("fp32", monkeypatch)
    chosen = make_settings(KINDS.get(kind), tiny_backbone)
    with attached(tiny_backbone, KINDS.get(kind), chosen) as place:
        start = initial_tensors(KINDS.get(kind), place.shapes, 0, chosen)
    like, _ = fit_expert(tiny_backbone, draw, settings=TrainingSettings(steps=1, batch_size=4))
    random = torch.Generator().manual_seed(0)
    made = replace(like, kind=KINDS.get(kind), settings=chosen)
    experts = [
        _named(made, {n: v + 0.1 * torch.randn(v.shape, generator=random) for n, v in start.items()}, f"e{i}")
        for i in range(3)
    ]
    target = Target(tiny_backbone, draw)
    found = dict(trials_module._losses(target, experts, target.support, target_losses))
    for expert in experts:
        alone = evaluate_expert(tiny_backbone, draw.task, expert, target.support).losses.sum()
        assert found[expert.name] == pytest.approx(float(alone), rel=1e-4)
    in_format("bf16", monkeypatch)
    rounded = dict(trials_module._losses(target, experts, target.support, target_losses))
    assert rounded == pytest.approx(found, rel=0.05)
    assert rounded != found
