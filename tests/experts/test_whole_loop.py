"""Every kind of expert goes through training, embedding, the pool and tuning on the pocket backbone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.contracts.cases import POCKET

from pitune import api
from pitune.errors import InputError
from pitune.experts import ExpertPool
from pitune.interpolation import TuneSettings
from pitune.pocket.backbone import Pocket
from pitune.prediction import fisher_similarity
from pitune.tasks import Task
from pitune.training import TrainingSettings

FAST = TrainingSettings(steps=4, batch_size=8, learning_rate=1e-2)


@pytest.mark.parametrize("method", POCKET)
def test_a_kind_of_expert_from_training_to_a_tuned_mix(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path, method: str
) -> None:
    pool = ExpertPool(tmp_path / "pool")
    for name in ("taste", "colour"):
        expert = api.fit(tiny_backbone, tiny_tasks[name], method=method, shots=2, settings=FAST)
        pool.add(expert)
        own = {key: value for key, value in (expert.fisher or {}).items() if key.startswith("expert.")}
        assert own.keys() == {f"expert.{key}" for key in expert.tensors}
        assert any(float(value.max()) > 0 for value in own.values())
    settings = TuneSettings(training=FAST, candidates=("alone", "joint"))
    result = api.tune(tiny_backbone, tiny_tasks["mood"], pool, k=2, shots=2, method=method, settings=settings)
    assert result.expert.method == method
    assert 0 <= float(api.evaluate(tiny_backbone, tiny_tasks["mood"], result.expert)["value"]) <= 1


def test_tasks_of_experts_of_unlike_kinds_are_compared(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path
) -> None:
    pool = ExpertPool(tmp_path / "pool")
    for name, method in (("taste", "ia3"), ("place", "prefix"), ("colour", "lora")):
        pool.add(api.fit(tiny_backbone, tiny_tasks[name], method=method, shots=2, settings=FAST))
    near = api.neighbours(tiny_backbone, tiny_tasks["mood"], pool, k=3, shots=2)
    assert {name.split("-")[1] for name, _ in near} == {"ia3", "prefix", "lora"}
    assert api.task_graph(pool).similarity.shape == (3, 3)
    with pytest.raises(InputError, match="differ in kind"):
        api.task_graph(pool, "expert")


def test_the_embedding_of_a_task_does_not_depend_on_the_kind_of_its_expert(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    made = [
        api.fit(tiny_backbone, tiny_tasks["taste"], method=kind, shots=2, settings=FAST) for kind in ("bitfit", "lora")
    ]
    first, second = (
        {key: value for key, value in (one.fisher or {}).items() if key.startswith("probe.")} for one in made
    )
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert fisher_similarity(first, second) == pytest.approx(1.0)
