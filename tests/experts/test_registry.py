"""A kind of expert of one's own takes one call, and then trains, mixes, saves and loads like the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pitune_example.kind import Gate
from tests.conftest import draw_of

import pitune
from pitune.errors import InputError
from pitune.experts import KINDS, load_expert
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task
from pitune.training import TrainingSettings, evaluate_expert, fit_expert


@pytest.fixture
def gate() -> Iterator[None]:
    pitune.register_method(Gate())
    yield
    KINDS.forget("gate")


def test_a_method_of_ones_own(gate: None, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tiny_tasks["taste"]
    data = draw_of(task, validate=False)
    settings = TrainingSettings(steps=4, learning_rate=0.1)
    expert, _ = fit_expert(tiny_backbone, data, method="gate", settings=settings)
    expert.save(tmp_path / "gate")
    again = load_expert(tmp_path / "gate")
    found = evaluate_expert(tiny_backbone, task, pitune.mix([again, expert], [0.5, 0.5]), task.examples("test"))
    expected = evaluate_expert(tiny_backbone, task, expert, task.examples("test"))
    torch.testing.assert_close(found.scores, expected.scores)
    assert not torch.equal(expected.scores, evaluate_expert(tiny_backbone, task, None, task.examples("test")).scores)
    with pytest.raises(InputError, match="registered already"):
        pitune.register_method(Gate())
