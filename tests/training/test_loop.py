"""The loop: it learns, it resumes to the same bytes, and it says when it cannot go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.conftest import draw_of, stopped_after

from pitune.errors import InputError
from pitune.experts import Attached, digest
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, evaluate_expert, fit_expert
from pitune.training import loop as loop
from pitune.training.batching import by_length, epoch_batches

SETTINGS = TrainingSettings(steps=24, batch_size=8, learning_rate=2e-2, evaluations=6, patience=6)


@pytest.mark.parametrize("method", ["lora", "adapter"])
def test_learns(tiny_backbone: Pocket, tiny_tasks: dict[str, Task], method: str) -> None:
    task = tiny_tasks["taste"]
    expert, trained = fit_expert(tiny_backbone, draw_of(task), method=method, settings=SETTINGS)
    before = evaluate_expert(tiny_backbone, task, None, task.examples("test"))
    after = evaluate_expert(tiny_backbone, task, expert, task.examples("test"))
    assert after.loss < before.loss
    assert after.value >= 0.75
    assert expert.card.validation == trained.validation


@pytest.mark.parametrize("stop_after", [1, 7, 17])
def test_an_interrupted_run_ends_at_the_same_bytes(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path, stop_after: int
) -> None:
    task = tiny_tasks["place"]
    whole, trained = fit_expert(tiny_backbone, draw_of(task), method="lora", settings=SETTINGS, run=tmp_path / "whole")
    with stopped_after(stop_after):
        fit_expert(tiny_backbone, draw_of(task), method="lora", settings=SETTINGS, run=tmp_path / "cut")
    resumed, again = fit_expert(tiny_backbone, draw_of(task), method="lora", settings=SETTINGS, run=tmp_path / "cut")
    assert digest(resumed) == digest(whole)
    assert again == trained
    assert (tmp_path / "cut" / loop.LOG).read_bytes() == (tmp_path / "whole" / loop.LOG).read_bytes()
    lines = [json.loads(line) for line in (tmp_path / "cut" / loop.LOG).read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})


def test_a_finished_run_is_not_run_again(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = tiny_tasks["taste"]
    first, _ = fit_expert(tiny_backbone, draw_of(task), method="lora", settings=SETTINGS, run=tmp_path)
    monkeypatch.setattr(loop, "_step", lambda *arguments: pytest.fail("trained again"))
    second, _ = fit_expert(tiny_backbone, draw_of(task), method="lora", settings=SETTINGS, run=tmp_path)
    assert digest(first) == digest(second)


def test_a_checkpoint_of_another_run_is_passed_over_and_a_damaged_one_named(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path
) -> None:
    task = tiny_tasks["taste"]
    fit_expert(tiny_backbone, draw_of(task), method="lora", settings=SETTINGS, run=tmp_path)
    other = SETTINGS.model_copy(update={"steps": 12})
    fresh, _ = fit_expert(tiny_backbone, draw_of(task), method="lora", settings=other)
    reused, _ = fit_expert(tiny_backbone, draw_of(task), method="lora", settings=other, run=tmp_path)
    assert digest(fresh) == digest(reused)
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors"):
        fit_expert(tiny_backbone, draw_of(task), method="lora", settings=other, run=tmp_path)


def test_seeds_decide_the_bytes(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["taste"]

    def run(seed: int) -> str:
        return digest(fit_expert(tiny_backbone, few_shot(task, 4, seed), method="lora", settings=SETTINGS)[0])

    assert run(0) == run(0)
    assert run(0) != run(1)


def test_accumulation_is_one_larger_batch(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["taste"]
    data = draw_of(task, 16, validate=False)
    once = TrainingSettings(steps=4, batch_size=16, learning_rate=1e-2)
    twice = once.model_copy(update={"accumulation": 2})
    one, two = (fit_expert(tiny_backbone, data, method="lora", settings=settings)[0] for settings in (once, twice))
    for name, value in one.tensors.items():
        torch.testing.assert_close(two.tensors[name], value, rtol=1e-3, atol=1e-5)


def test_a_batch_that_memory_is_too_small_for_is_taken_in_pieces(
    tiny_backbone: Pocket,
    tiny_tasks: dict[str, Task],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settings = TrainingSettings(steps=4, batch_size=16, learning_rate=1e-2, pull=1.0)
    data = draw_of(tiny_tasks["taste"], 16)
    whole, how = fit_expert(tiny_backbone, data, method="lora", settings=settings)
    true_losses, true_scores, most = loop.smoothed_losses, Attached.scores, 4

    def losses(place: Attached, tensors: Any, batch: Any, smoothing: float) -> torch.Tensor:
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return true_losses(place, tensors, batch, smoothing)

    def scores(self: Attached, tensors: Any, batch: Any) -> torch.Tensor:
        if len(batch) > most:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return true_scores(self, tensors, batch)

    monkeypatch.setattr(loop, "smoothed_losses", losses)
    monkeypatch.setattr(Attached, "scores", scores)
    parts, same = fit_expert(tiny_backbone, data, method="lora", settings=settings)
    assert capsys.readouterr().err.splitlines() == [
        f"out of memory on task 'taste': a batch of 16 is taken in {n} pieces; a step still learns from all of it"
        for n in (2, 4)
    ]
    torch.testing.assert_close(torch.tensor(same.validation_losses), torch.tensor(how.validation_losses))
    for name, value in whole.tensors.items():
        torch.testing.assert_close(parts.tensors[name], value, rtol=1e-3, atol=1e-5)
    most = 0
    with pytest.raises(InputError, match="out of memory on task 'taste' with one example at a time"):
        fit_expert(tiny_backbone, draw_of(tiny_tasks["taste"], 16, validate=False), method="lora", settings=settings)


def test_label_smoothing_keeps_the_answers_less_sure(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["taste"]
    data = draw_of(task, validate=False)
    plain, _ = fit_expert(tiny_backbone, data, method="lora", settings=SETTINGS)
    smooth, _ = fit_expert(
        tiny_backbone, data, method="lora", settings=SETTINGS.model_copy(update={"label_smoothing": 0.3})
    )
    sure = [evaluate_expert(tiny_backbone, task, e, data.train).scores.max(-1).values.mean() for e in (plain, smooth)]
    assert sure[1] < sure[0]


@pytest.mark.parametrize("validate", [True, False])
def test_a_loss_that_is_not_finite_ends_the_run_at_the_last_good_step(
    tiny_backbone: Pocket,
    tiny_tasks: dict[str, Task],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    validate: bool,
) -> None:
    true_step, data = loop._step, draw_of(tiny_tasks["taste"], validate=validate)

    def step(*arguments: Any) -> torch.Tensor:
        return true_step(*arguments) * (float("nan") if arguments[3] == 9 else 1)

    monkeypatch.setattr(loop, "_step", step)
    expert, trained = fit_expert(tiny_backbone, data, method="lora", settings=SETTINGS, run=tmp_path)
    said = capsys.readouterr().err
    assert "is not finite at step 9: stopped there, and kept step" in said
    assert trained.stopped == expert.card.hyperparameters["stopped"] == 9
    assert trained.history[-1]["step"] == 8
    assert trained.best_step in ((0, 4, 8) if validate else (8,))
    monkeypatch.setattr(loop, "_step", lambda *arguments: pytest.fail("trained again"))
    again, told = fit_expert(tiny_backbone, data, method="lora", settings=SETTINGS, run=tmp_path)
    assert (digest(again), told) == (digest(expert), trained)


def test_a_run_that_learns_nothing_before_its_loss_is_not_finite_is_refused(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    task = tiny_tasks["taste"]
    with pytest.raises(InputError, match="not finite at step 1, and nothing was learned before"):
        fit_expert(
            tiny_backbone,
            draw_of(task),
            method="lora",
            settings=SETTINGS.model_copy(update={"learning_rate": 1e30}),
        )


def test_an_expert_of_another_backbone_is_refused(
    tiny_backbone: Pocket, other_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    task = tiny_tasks["taste"]
    expert, _ = fit_expert(
        tiny_backbone, draw_of(task), method="lora", settings=SETTINGS.model_copy(update={"steps": 1})
    )
    with pytest.raises(InputError, match="another backbone"):
        evaluate_expert(other_backbone, task, expert, task.examples("test"))


def test_an_epoch_reads_every_example_once_in_an_order_of_its_own(tiny_tasks: dict[str, Task]) -> None:
    examples = tiny_tasks["place"].examples("train")
    first, again, second = (epoch_batches(examples, 4, 0, epoch) for epoch in (0, 0, 1))
    assert first == again != second
    for batches in (first, second):
        assert sorted(e.id for batch in batches for e in batch) == sorted(e.id for e in examples)
    assert sorted(e.id for batch in by_length(examples, 7) for e in batch) == sorted(e.id for e in examples)
