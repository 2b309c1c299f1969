"""One expert over many tasks: it learns them all, goes on where it stopped, and others start from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import draw_of, stopped_after

import pitune
from pitune import api
from pitune.errors import InputError
from pitune.experts import ExpertPool, digest
from pitune.interpolation import TuneSettings
from pitune.pocket.backbone import Pocket
from pitune.prediction import embed
from pitune.tasks import Draw, Task, few_shot
from pitune.training import TrainingSettings, evaluate_expert, fit_expert, fit_multitask
from pitune.training import loop as loop

SETTINGS = TrainingSettings(steps=24, batch_size=16, learning_rate=2e-2, evaluations=4)
NAMES = ("taste", "place", "colour")


@pytest.fixture
def members(tiny_tasks: dict[str, Task]) -> list[Draw]:
    return [draw_of(tiny_tasks[name]) for name in NAMES]


@pytest.mark.parametrize("method", ["lora", "text_prompt", "visual_prompt", "unified_prompt"])
def test_one_expert_learns_several_tasks(tiny_backbone: Pocket, members: list[Draw], method: str) -> None:
    settings = SETTINGS.model_copy(
        update={"steps": 60, "learning_rate": 2e-2 if method in ("lora", "unified_prompt") else 5e-2}
    )
    expert, trained = fit_multitask(tiny_backbone, members, method=method, settings=settings)
    gains = []
    for member in members:
        test = member.task.examples("test")
        before, after = (evaluate_expert(tiny_backbone, member.task, one, test).loss for one in (None, expert))
        gains.append(before - after)
    assert sum(gains) > 0.3
    assert expert.card.tasks == NAMES
    curves = expert.card.hyperparameters["curves"]
    assert list(curves) == list(NAMES)
    means = [sum(curve[i][2] for curve in curves.values()) / 3 for i in range(len(trained.history))]
    best = min(range(len(means)), key=means.__getitem__)
    assert trained.history[best]["step"] == trained.best_step


def test_a_stopped_run_ends_at_the_same_bytes(tiny_backbone: Pocket, members: list[Draw], tmp_path: Path) -> None:
    whole, _ = fit_multitask(tiny_backbone, members, settings=SETTINGS, run=tmp_path / "whole")
    with stopped_after(11):
        fit_multitask(tiny_backbone, members, settings=SETTINGS, run=tmp_path / "cut")
    resumed, _ = fit_multitask(tiny_backbone, members, settings=SETTINGS, run=tmp_path / "cut")
    assert digest(resumed) == digest(whole)
    assert (tmp_path / "cut" / loop.LOG).read_bytes() == (tmp_path / "whole" / loop.LOG).read_bytes()


def test_label_smoothing_stays_within_the_answers_of_a_task(tiny_backbone: Pocket, members: list[Draw]) -> None:
    settings = SETTINGS.model_copy(update={"steps": 2, "label_smoothing": 0.1})
    _, trained = fit_multitask(tiny_backbone, members[:2], settings=settings)  # an infinite loss would stop it
    assert trained.steps == 2


@pytest.mark.parametrize("method", ["lora", "text_prompt", "visual_prompt", "unified_prompt"])
def test_adapting_begins_at_the_source(
    tiny_backbone: Pocket, members: list[Draw], tiny_tasks: dict[str, Task], method: str
) -> None:
    """Whatever the kind: in the released code the start is dropped for one of them."""
    own: dict[str, Any] = {"r": 4} if method == "lora" else {} if method == "unified_prompt" else {"length": 3}
    settings = SETTINGS.model_copy(update={"steps": 3})
    source, _ = fit_multitask(tiny_backbone, members, method=method, settings=settings, **own)
    data = few_shot(tiny_tasks["mood"], 4, 0)
    barely = TrainingSettings(steps=1, learning_rate=1e-9)
    adapted, _ = fit_expert(tiny_backbone, data, method=method, settings=barely, start=source)
    assert adapted.config == source.config
    for name, value in source.tensors.items():
        torch.testing.assert_close(adapted.tensors[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("renamed", "tensor 'answers.words.text_prompt.vectors' is missing"),
        ("extra", "tensor 'intruder' is not part"),
        ("shape", "tensor 'answers.words.text_prompt.vectors' has the wrong shape"),
    ],
)
def test_a_start_whose_keys_do_not_all_fit_is_refused_by_name(
    tiny_backbone: Pocket, members: list[Draw], damage: str, message: str
) -> None:
    """The released code loads with `strict=False`: a renamed key trains from scratch in silence."""
    data = members[0]
    source, _ = fit_expert(
        tiny_backbone, data, method="text_prompt", settings=SETTINGS.model_copy(update={"steps": 1}), length=3
    )
    (name, value), *_ = source.tensors.items()
    tensors = {
        "renamed": {f"prompt.{name}": value},
        "extra": {name: value, "intruder": value},
        "shape": {name: value[:2]},
    }[damage]
    with pytest.raises(InputError, match=message):
        fit_multitask(
            tiny_backbone, members, method="text_prompt", settings=SETTINGS, start=replace(source, tensors=tensors)
        )


def test_a_start_of_another_kind_backbone_or_setting_is_refused(
    tiny_backbone: Pocket, other_backbone: Pocket, members: list[Draw]
) -> None:
    settings = SETTINGS.model_copy(update={"steps": 1})
    source, _ = fit_expert(tiny_backbone, members[0], method="lora", settings=settings, r=4)
    given: dict[str, Any] = {"settings": settings, "start": source}
    with pytest.raises(InputError, match="cannot start from"):
        fit_multitask(tiny_backbone, members, method="adapter", **given)
    with pytest.raises(InputError, match="another backbone"):
        fit_multitask(other_backbone, members, method="lora", **given)
    with pytest.raises(InputError, match="r is 8, but"):
        fit_multitask(tiny_backbone, members, method="lora", **given, r=8)


def test_a_pool_finds_a_source_by_the_mean_of_its_tasks_and_mixes_it(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path
) -> None:
    tasks = [tiny_tasks[name] for name in NAMES]
    source = pitune.fit_multitask(tiny_backbone, tasks, settings=SETTINGS, shots=4)
    assert source.fisher is not None
    each: list[Any] = [embed(tiny_backbone, few_shot(task, 4, 0), source).fisher for task in tasks]
    for name, value in source.fisher.items():
        torch.testing.assert_close(value, torch.stack([one[name] for one in each]).mean(0))
    pool = ExpertPool(tmp_path)
    pool.add(source)
    result = api.tune(
        tiny_backbone,
        tiny_tasks["mood"],
        pool,
        k=1,
        shots=4,
        settings=TuneSettings(training=SETTINGS.model_copy(update={"steps": 4})),
    )
    assert [name for name, _ in result.neighbours] == [source.name]
    with pytest.raises(InputError, match="no expert of another task"):  # it has seen this one
        api.neighbours(tiny_backbone, tiny_tasks["place"], pool, k=1, shots=4)
