"""On a GPU: the whole loop of every kind of expert, and what it leaves behind runs on a CPU as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.conftest import build_tiny_backbone, stopped_after
from tests.contracts.cases import POCKET

from pitune import api
from pitune.experts import ExpertPool
from pitune.interpolation import TuneSettings
from pitune.pocket.backbone import Pocket
from pitune.prediction import probe_fisher
from pitune.studies import BASELINES, ComparePlan, run_compare
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, evaluate_expert, fit_expert

GPU = "cuda"
FAST = TrainingSettings(steps=4, batch_size=8, learning_rate=1e-2, evaluations=4)

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="session")
def on_gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pocket]:
    """The tiny backbone, of the same weights, on the GPU."""
    backbone = build_tiny_backbone(tmp_path_factory.mktemp("gpu-features"))
    backbone.model.to(GPU)
    backbone._stem.to(GPU)
    yield backbone
    backbone._cache.close()


@pytest.mark.parametrize("method", POCKET)
def test_an_expert_made_on_a_gpu_answers_alike_on_a_cpu(
    on_gpu: Pocket, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path, method: str
) -> None:
    pool = ExpertPool(tmp_path / "pool")
    for name in ("taste", "colour"):
        pool.add(api.fit(on_gpu, tiny_tasks[name], method=method, shots=2, settings=FAST))
    task = tiny_tasks["mood"]
    settings = TuneSettings(training=FAST)
    result = api.tune(on_gpu, task, pool, k=2, shots=2, method=method, settings=settings)
    held = [*result.expert.tensors.values(), *(result.expert.fisher or {}).values()]
    assert {value.device.type for value in held} == {"cpu"}
    there, here = (
        evaluate_expert(place, task, result.expert, task.examples("test")) for place in (on_gpu, tiny_backbone)
    )
    torch.testing.assert_close(there.scores, here.scores, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["place", "colour"])
def test_a_task_is_embedded_alike(
    on_gpu: Pocket, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], name: str
) -> None:
    task = tiny_tasks[name]
    examples = task.examples("train")[:8]
    there, here = (probe_fisher(place, task, examples, labels="empirical") for place in (on_gpu, tiny_backbone))
    for tensor, value in here.items():
        torch.testing.assert_close(there[tensor], value, rtol=1e-2, atol=1e-2 * float(value.max()))


def test_an_interrupted_run_goes_on(on_gpu: Pocket, tiny_tasks: dict[str, Task], tmp_path: Path) -> None:
    task = tiny_tasks["place"]
    data = few_shot(task, 4, 0)
    whole, _ = fit_expert(on_gpu, data, method="lora", settings=FAST)
    with stopped_after(2):
        fit_expert(on_gpu, data, method="lora", settings=FAST, run=tmp_path)
    resumed, trained = fit_expert(on_gpu, data, method="lora", settings=FAST, run=tmp_path)
    assert trained.steps == FAST.steps
    for name, value in whole.tensors.items():
        torch.testing.assert_close(resumed.tensors[name], value, rtol=1e-3, atol=1e-4)


def test_every_method_of_a_comparison(
    on_gpu: Pocket, tiny_task_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pitune.studies.study.load_once", lambda name, device: on_gpu)
    tasks = tuple(str(tiny_task_paths[name]) for name in ("mood", "taste", "place", "colour"))
    few = {"shots": (2,), "seeds": 1, "test": 6, "validation": 6, "device": GPU}
    plan = ComparePlan(tasks=tasks, **few, source_training=FAST, tuning=TuneSettings(training=FAST))
    results = run_compare(plan, tmp_path, progress=False)
    assert len(results.rows) == 4 * len(BASELINES.names())
    assert results.environment.device.startswith(GPU)
