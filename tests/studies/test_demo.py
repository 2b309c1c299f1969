"""The demo, whole, on tiny tasks: every baseline is measured, nothing is done twice, and it stays the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.conftest import apart

from pitune.errors import InputError
from pitune.experts import load_expert
from pitune.interpolation import TuneSettings
from pitune.pocket.backbone import Pocket
from pitune.reports import write_report
from pitune.studies import BASELINES, DEMO, ComparePlan, DemoResults, run_demo
from pitune.studies import sources as sources_module
from pitune.tasks import Task
from pitune.training import TrainingSettings, evaluate_expert

METHODS = tuple(one.name for one in BASELINES.all() if one.demo)
Run = Callable[[Path, ComparePlan], DemoResults]


@pytest.fixture(scope="module")
def plan(tiny_task_paths: dict[str, Path]) -> ComparePlan:
    steps = TrainingSettings(steps=8, batch_size=16, learning_rate=2e-2, evaluations=2)
    return DEMO.but(
        tasks=tuple(str(tiny_task_paths[name]) for name in ("taste", "place", "colour", "mood")),
        shots=(2,),
        seeds=2,
        validation=6,
        test=6,
        source_training=steps,
        tuning=TuneSettings(training=steps),
    )


@pytest.fixture(scope="module")
def run(tiny_task_paths: dict[str, Path]) -> Run:
    """The demo with one target, in one process."""

    def run_it(out: Path, plan: ComparePlan) -> DemoResults:
        return run_demo(out, plan=plan, targets=(str(tiny_task_paths["mood"]),), progress=False)

    return run_it


@pytest.fixture(scope="module")
def made(
    tiny_backbone: Pocket, run: Run, plan: ComparePlan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, DemoResults]:
    """The folder that the demo leaves, and what it returned; what is done again there must not alter it."""
    folder = tmp_path_factory.mktemp("demo")
    with apart(tiny_backbone, folder):
        return folder / "out", run(folder / "out", plan)


def test_leaves_results_report_and_expert(
    tiny_backbone: Pocket,
    made: tuple[Path, DemoResults],
    tiny_tasks: dict[str, Task],
    plan: ComparePlan,
    tmp_path: Path,
) -> None:
    out, results = made
    assert results == DemoResults.read(out / "results.json")
    assert [(row.method, row.seed) for row in results.rows] == [(m, s) for m in METHODS for s in (0, 1)]
    assert all(row.n == 6 and 0 <= row.value <= 1 for row in results.rows)
    assert {gain.baseline for gain in results.gains} == set(METHODS[:-1])
    by_key = {(row.method, row.seed): row.value for row in results.rows}
    gain = next(gain for gain in results.gains if gain.baseline == "single")
    assert gain.mean == pytest.approx(sum(by_key["pi", s] - by_key["single", s] for s in (0, 1)) / 2)
    graph = results.graph
    assert len(graph.names) == len(graph.similarity) == 4
    assert graph.kinds.count("image") == 1
    write_report(results, tmp_path / "report.html")
    assert "mood" in (tmp_path / "report.html").read_text()
    expert = load_expert(out / "expert")
    task = tiny_tasks["mood"]
    value = evaluate_expert(tiny_backbone, task, expert, task.examples("test")).value
    assert value == pytest.approx(by_key["pi", 0]) or plan.test != len(task.examples("test"))


def test_a_second_run_trains_nothing_and_ends_at_the_same_bytes(
    pocket_is_tiny: Pocket, run: Run, plan: ComparePlan, made: tuple[Path, DemoResults], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = made
    names = ("results.json", "expert/adapter_model.safetensors")
    before = {name: (out / name).read_bytes() for name in names}
    monkeypatch.setattr(sources_module, "embed", lambda *_: pytest.fail("embedded a source again"))
    run(out, plan)
    assert {name: (out / name).read_bytes() for name in names} == before


def test_a_folder_with_rows_of_another_plan_is_left_as_it_is(
    pocket_is_tiny: Pocket, run: Run, plan: ComparePlan, made: tuple[Path, DemoResults]
) -> None:
    out, _ = made
    before = {path: path.read_bytes() for path in out.rglob("*.json*")}
    with pytest.raises(InputError, match="other tasks or settings"):
        run(out, plan.but(k=2))
    assert {path: path.read_bytes() for path in out.rglob("*.json*")} == before


def test_no_seeds_is_bad_input(pocket_is_tiny: Pocket, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeds is 0"):
        run_demo(tmp_path / "out", plan=DEMO.but(seeds=0), progress=False)
    assert not (tmp_path / "out").exists()
