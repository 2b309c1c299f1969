"""Every label trains, and each is judged by a run that did not see it."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import pytest
import torch

import pitune
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task, few_shot
from pitune.training import PULL, TrainingSettings, evaluate_expert, fit_by_folds, fit_expert, folds_of, loop

SETTINGS = TrainingSettings(steps=12, batch_size=16, learning_rate=2e-2, evaluations=2)


def test_the_expert_learned_from_every_label_and_its_worth_is_that_of_the_folds(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    task = tiny_tasks["mood"]
    draw = few_shot(task, 4, 0)
    expert, trained = fit_by_folds(tiny_backbone, draw, settings=SETTINGS)
    pulled = SETTINGS.model_copy(update={"pull": PULL})
    whole, _ = fit_expert(tiny_backbone, draw.whole, settings=pulled)
    for name, value in whole.tensors.items():
        torch.testing.assert_close(expert.tensors[name], value, rtol=0, atol=0)
    right, n = 0.0, 0
    for fold in draw.folds(2):
        judge, _ = fit_expert(tiny_backbone, replace(fold, validation=()), settings=pulled)
        right += evaluate_expert(tiny_backbone, task, judge, fold.validation).value * len(fold.validation)
        n += len(fold.validation)
    assert expert.card.validation == pytest.approx(right / n)
    assert len(trained.validation_losses) == n
    assert expert.card.hyperparameters["folds"] == 2
    assert expert.card.hyperparameters["best_step"] == SETTINGS.steps


def test_no_folds_stop_by_the_labels_kept_for_it(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    draw = few_shot(tiny_tasks["mood"], 4, 0)
    stopped, _ = fit_expert(tiny_backbone, draw, settings=SETTINGS)
    kept = pitune.fit(tiny_backbone, draw.task, shots=4, folds=0, settings=SETTINGS)
    assert all(torch.equal(kept.tensors[name], value) for name, value in stopped.tensors.items())
    assert "folds" not in kept.card.hyperparameters


def test_few_labels_are_dealt_to_folds_and_many_are_not() -> None:
    assert [folds_of(labels) for labels in (1, 1000, 1001)] == [2, 2, 0]


def test_bars_are_numbered_and_show_no_validation_where_there_is_none(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: dict[str, set[str]] = {}

    def bar(*, desc: str, **_: object) -> MagicMock:
        made = MagicMock()
        made.set_postfix = lambda **values: shown.setdefault(desc, set()).update(values)
        return made

    monkeypatch.setattr(loop, "tqdm", bar)
    draw = few_shot(tiny_tasks["mood"], 4, 0)
    fit_by_folds(tiny_backbone, draw, settings=SETTINGS, folds=2, progress=True)
    assert shown == {f"mood, run {number} of 3": {"loss"} for number in (1, 2, 3)}
    shown.clear()
    fit_by_folds(tiny_backbone, draw, settings=SETTINGS, folds=0, progress=True)
    assert shown == {"mood": {"loss", "validation"}}
