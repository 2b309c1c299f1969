"""Several templates are CLIP's ensemble: the mean of the unit vectors of an answer's texts, of length one again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pitune.backbones import Backbone, load_backbone
from pitune.cli import main
from pitune.experts import KINDS, attached, initial_tensors, make_settings
from pitune.tasks import Draw, Task, load_task
from pitune.training import TrainingSettings, evaluate_expert, fit_expert, templates_of
from pitune.training.mixture import Mixture
from pitune.training.proportions import read_mixing

TEMPLATES = ("a photo of the {}", "the {} sea .", "{}")
TEXT_SITES = tuple(f"text_model.encoder.layers.{i}.self_attn.q_proj" for i in range(2))


@pytest.fixture
def task(data: dict[str, Path]) -> Task:
    return load_task(data["colour"], templates=TEMPLATES)


def ensemble(backbone: Any, task: Task) -> Tensor:
    """Each template by itself, as zero-shot CLIP adds them up."""
    each = []
    for template in TEMPLATES:
        tokens = backbone._tokens([template.format(answer) for answer in task.answers or ()])
        mask = {} if backbone._sigmoid else {"attention_mask": tokens[1]}
        with torch.no_grad():
            found = backbone._model.get_text_features(input_ids=tokens[0], **mask)
        each.append(F.normalize(found if isinstance(found, Tensor) else found.pooler_output, dim=-1))
    return F.normalize(torch.stack(each).mean(0), dim=-1)


@pytest.mark.parametrize("kind", ["clip", "siglip", "siglip2"])
def test_answers_are_the_mean_of_their_texts(kind: str, backbones: dict[str, Backbone], task: Task) -> None:
    batch = backbones[kind].prepare(task.examples("test")[:4], task)
    torch.testing.assert_close(batch.answers, ensemble(backbones[kind], task), rtol=1e-5, atol=1e-6)
    single = backbones[kind].prepare(task.examples("test")[:4], replace(task, more_templates=()))
    assert float((batch.answers - single.answers).abs().max()) > 1e-3


def test_an_expert_in_the_text_tower_reads_all_of_them(checkpoints: dict[str, Path], task: Task) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu")
    expected = backbone.scores(backbone.prepare(task.examples("test")[:4], task))
    kind = KINDS.get("lora")
    settings = make_settings(kind, backbone, r=2, target_modules=TEXT_SITES)
    with attached(backbone, kind, settings) as place:
        start = {name: value.requires_grad_() for name, value in initial_tensors(kind, place.shapes, 0).items()}
        batch = backbone.prepare(task.examples("test")[:4], task)
        found = place.scores(start, batch)  # B is zero
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        place.losses(start, batch).sum().backward()
    assert all(value.grad is not None for value in start.values())


def test_a_text_prompt_stands_in_for_them(checkpoints: dict[str, Path], task: Task) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu")
    draw = Draw(task, tuple(task.examples("train")[:6]), (), None, 0)
    settings = TrainingSettings(steps=1, batch_size=6)
    for around, name_at, shown in (
        ("name", "end", "[v1 … v4] {}."),
        ("name", "middle", "[v1 … v2] {} [v3 … v4]."),
        ("name", "front", "{} [v1 … v4]."),
        ("text", "end", "[v1 … v4] a photo of the {}"),
    ):
        config: dict[str, Any] = {"length": 4, "around": around, "name_at": name_at}
        expert, _ = fit_expert(backbone, draw, method="text_prompt", settings=settings, **config)
        assert templates_of(backbone, task, expert) == (shown,)
        first = replace(task, more_templates=())
        several, one = (evaluate_expert(backbone, given, expert, task.examples("test")) for given in (task, first))
        torch.testing.assert_close(several.scores, one.scores)
    assert templates_of(backbone, task, None) == TEMPLATES


@pytest.mark.parametrize("scope", ["task", "union"])
def test_a_mixture_learns_by_all_of_them(scope: Any, checkpoints: dict[str, Path], task: Task) -> None:
    backbone: Any = load_backbone(str(checkpoints["clip"]), "cpu")
    draw = Draw(task, tuple(task.examples("train")[:4]), (), None, 0)
    mixture = Mixture([draw], read_mixing("balanced"), scope, 8, 0)
    kind = KINDS.get("lora")
    with attached(backbone, kind, make_settings(kind, backbone, r=2)) as place:
        batch = mixture.batch(place, 0)
    torch.testing.assert_close(batch.answers, ensemble(backbone, task), rtol=1e-5, atol=1e-6)


def test_a_backbone_that_matches_no_answers_has_no_templates(backbones: dict[str, Backbone], task: Task) -> None:
    assert templates_of(backbones["florence"], task, None) == ()


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_commands_tell_which_were_used(
    checkpoints: dict[str, Path], data: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ("--backbone", checkpoints["clip"], "--device", "cpu")
    two = ("--template", TEMPLATES[0], "--template", TEMPLATES[1])
    assert run(capsys, "tasks", "check", data["colour"], *two)["templates"] == list(TEMPLATES[:2])
    assert run(capsys, "eval", "--zero-shot", data["colour"], *model)["templates"] == ["a photo of a {}."]
    assert run(capsys, "eval", "--zero-shot", data["colour"], *model, *two)["templates"] == list(TEMPLATES[:2])
    fit = ("fit", data["colour"], *model, "--shots", 2, "--steps", 1, "--out", tmp_path / "e")
    assert run(capsys, *fit, "--method", "text_prompt", "--set", "length=2")["templates"] == ["[v1 … v2] {}."]
    assert run(capsys, *fit)["templates"] == ["a photo of a {}."]
    assert run(capsys, *fit, *two)["templates"] == list(TEMPLATES[:2])  # another run, not the one that is kept
    assert main(["eval", str(tmp_path / "e"), str(data["colour"]), *map(str, model)]) == 0
    told = capsys.readouterr()
    assert "answers are matched as 'a photo of a {}.'" in told.out
    assert "learned in other words: its answers are matched as 'a photo of the {}', 'the {} sea .'" in told.err
