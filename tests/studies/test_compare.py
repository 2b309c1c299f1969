"""The comparison, whole, on tiny tasks: leave-one-out, every method, nothing twice, one plan a folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from tests.conftest import apart, draw_of
from tests.studies.conftest import small_plan

from pitune.cli import main
from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, digest
from pitune.interpolation import mix
from pitune.pocket import POCKET_20
from pitune.pocket.backbone import Pocket
from pitune.reports import points, write_comparison
from pitune.studies import BASELINES, Baseline, ComparePlan, CompareResults, Trial, run_compare, untouched
from pitune.studies import trial as trial_module
from pitune.studies.baselines import full as full_module
from pitune.studies.baselines.full import full_fine_tuning
from pitune.studies.study import measured
from pitune.tasks import Task, expand, few_shot
from pitune.training import TrainingSettings

METHODS = BASELINES.names()

Register = Callable[[Baseline], None]


@pytest.fixture(scope="module")
def plan(tiny_task_paths: dict[str, Path]) -> ComparePlan:
    return small_plan(tiny_task_paths, steps=6)


@pytest.fixture(scope="module")
def few(plan: ComparePlan) -> ComparePlan:
    return plan.but(methods=("single", "zero-shot", "pi"))


@pytest.fixture(scope="module")
def made(
    tiny_backbone: Pocket, few: ComparePlan, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, CompareResults]:
    """The folder that the comparison of a few methods leaves, and what it returned; do not alter it."""
    folder = tmp_path_factory.mktemp("compare")
    with apart(tiny_backbone, folder):
        return folder / "out", run_compare(few, folder / "out", progress=False)


@pytest.fixture
def drawer(made: tuple[Path, CompareResults]) -> Path:
    """A pool with an expert of every task."""
    return made[0] / "pool"


def test_measures_every_method_on_every_task(
    pocket_is_tiny: Pocket, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    plan = small_plan(tiny_task_paths, ("mood", "taste", "colour"))
    results = run_compare(plan, tmp_path, progress=False)
    assert results == CompareResults.read(tmp_path / "results.json")
    assert results.plan == plan.but(methods=METHODS)
    keys = {(row.task, row.method) for row in results.rows}
    assert len(keys) == len(results.rows) == 3 * len(METHODS)
    assert [row.method for row in results.rows] == [*METHODS] * 3  # in the order asked, whichever came first
    assert {mean.method: mean.tasks for mean in results.means} == dict.fromkeys(METHODS, 3)
    single = next(gain for gain in results.gains if gain.baseline == "single")
    values = {(row.task, row.method): row.value for row in results.rows}
    tasks = {task for task, _ in keys}
    assert single.mean == pytest.approx(sum(values[t, "pi"] - values[t, "single"] for t in tasks) / 3)
    pool = ExpertPool(tmp_path / "pool")
    assert len(pool) == 3
    assert {expert.card.task for expert in pool} == tasks


def test_the_mean_of_two_singles_is_of_two_runs_that_differ(
    pocket_is_tiny: Pocket, plan: ComparePlan, drawer: Path, tmp_path: Path
) -> None:
    trial = Trial(plan.but(pool=str(drawer)), tmp_path, plan.tasks[0], 2, 0)
    first, second = BASELINES.get("mean of two singles").run(trial).card.parents
    assert first.digest == digest(trial.fitted("single")) != second.digest
    assert first.weights.keys() == second.weights.keys()
    assert {*first.weights.values(), *second.weights.values()} == {0.5}


def test_a_given_pool_answers_for_tasks_of_ones_own(
    pocket_is_tiny: Pocket, drawer: Path, tiny_task_paths: dict[str, Path], tmp_path: Path, capsys: Any
) -> None:
    kept = {path: path.read_bytes() for path in drawer.rglob("*") if path.is_file()}
    out, own = tmp_path / "own", str(tiny_task_paths["mood"])
    flags = ["--shots", "2", "--seeds", "2", "--steps", "4", "--pool", str(drawer), "--out", str(out)]
    one = ["study", "compare", own, *flags, "--method", "single", "--method", "zero-shot", "--method", "pi"]
    assert main(one) == 0
    said = capsys.readouterr().out
    results = CompareResults.read(out / "results.json")
    assert {row.task for row in results.rows} == {"mood"}
    trial = Trial(results.plan, out, own, 2, 0)
    assert {expert.card.task for expert in trial.near(9)} == {"taste", "place", "colour"}
    assert not (out / "pool").exists()
    assert {path: path.read_bytes() for path in drawer.rglob("*") if path.is_file()} == kept
    single = next(gain for gain in results.gains if gain.baseline == "single")
    assert f"2 shots: π-Tuning gains {points(single.mean)} points [" in " ".join(said.split())
    assert main([*one, "--method", "start from a multitask source"]) == 2
    assert "learns from the data of other tasks, which" in capsys.readouterr().err
    assert main([*one[:-8], "--pool", str(tmp_path / "none")]) == 2


def test_goes_on_where_it_was_and_keeps_to_its_plan(
    pocket_is_tiny: Pocket,
    few: ComparePlan,
    made: tuple[Path, CompareResults],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, before = shutil.copytree(made[0], tmp_path / "out"), made[1]
    monkeypatch.setattr(trial_module, "tune_expert", lambda *_, **__: pytest.fail("tuned again"))
    assert run_compare(few, out, progress=False) == before
    with pytest.raises(InputError, match="other tasks or settings"):
        run_compare(few.but(k=1), out, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ("magic",)}, "unknown method 'magic'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"tasks": ("pocket/mnist",)}, "1 task.s. to compare; expected 2"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_writes_nothing(
    plan: ComparePlan, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run_compare(plan.but(**change), tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_full_fine_tuning_that_no_step_improves_answers_as_the_backbone_does(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate so low that the loss cannot move keeps the first look, as two classes at four shots often do."""
    monkeypatch.setattr(full_module, "_RATES", (1e-30,))
    task = tiny_tasks["taste"]
    test = task.examples("test")
    found = full_fine_tuning(tiny_backbone, draw_of(task, 6), test, settings=TrainingSettings(steps=2, batch_size=6))
    assert found == measured(tiny_backbone, task, None, test)._replace(untouched=True)


def test_full_fine_tuning_leaves_the_backbone_as_it_was(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> None:
    task = tiny_tasks["mood"]
    draw = replace(few_shot(task, 4, 0), validation=few_shot(task, 4, 0).train)
    before = {name: value.clone() for name, value in tiny_backbone.module.named_parameters()}
    settings = TrainingSettings(steps=20, batch_size=16, evaluations=4)
    found = full_fine_tuning(tiny_backbone, draw, task.examples("test"), settings=settings)
    assert (found.metric, found.n) == ("accuracy", len(task.examples("test")))
    assert 0 <= found.value <= 1
    assert all((before[name] == value).all() for name, value in tiny_backbone.module.named_parameters())


def test_the_command_prints_tables_and_gains_in_points_and_refuses_odd_shots(
    pocket_is_tiny: Pocket, plan: ComparePlan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["study", "compare", *plan.tasks[:3], "--quick", "--seeds", "1", "--steps", "3", "--test", "4", "--out"]
    methods = ["--method", "zero-shot", "--method", "single", "--method", "pi"]
    assert main([*common, str(tmp_path / "a"), "--shots", "2", *methods]) == 0
    out = capsys.readouterr().out
    assert "π-Tuning over" in out
    gains = json.loads((tmp_path / "a" / "results.json").read_text())["gains"]
    gain = next(one for one in gains if one["baseline"] == "single")
    line = next(line for line in out.splitlines() if line.split()[:1] == ["single"] and "–" in line)
    assert line.split()[1:4] == [points(gain["mean"]), "–", "–"]
    kept = json.loads((tmp_path / "a" / "plan.json").read_text())
    assert (kept["k"], kept["test"]) == (2, 4)  # so that nearest, random and farthest differ; flags go before
    assert main([*common, str(tmp_path / "b"), "--shots", "few"]) == 2
    assert "--shots few: expected a number from 1 on, or all" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_pocket_20_is_fourteen_of_one_kind_of_input_and_six_of_both() -> None:
    assert len(POCKET_20) == len(set(POCKET_20)) == 20
    assert expand(["pocket-20", "pocket/spam", "pocket/mnist"]) == [*POCKET_20, "pocket/spam"]


def test_the_figure_and_tables_say_what_the_rows_say(made: tuple[Path, CompareResults], tmp_path: Path) -> None:
    results = made[1]
    write_comparison(results, tmp_path, "pitune study compare")
    text = (tmp_path / "results.md").read_text()
    means = {mean.method: mean.mean for mean in results.means}
    assert f"| **mean** | {' | '.join(f'{means[method]:.3f}' for method in results.plan.methods)} |" in text
    gain = next(gain for gain in results.gains if gain.baseline == "single")
    line = next(line for line in text.splitlines() if line.startswith("| single | "))
    assert f"{means['single']:.3f}" in line
    assert line.endswith(f" | {gain.wins} / {4 - gain.wins - gain.losses} / {gain.losses} | 1 | 0 of 4 runs |")
    assert any(re.fullmatch(r"\| pi \| [^|]*(\|  ){5}\| \d of 4 runs \|", line) for line in text.splitlines())
    drawing = ElementTree.fromstring((tmp_path / "gains.svg").read_bytes())
    circles = drawing.findall("{http://www.w3.org/2000/svg}circle")
    gains = sorted(gain.tasks.values(), reverse=True)
    places = [float(circle.attrib["cx"]) for circle in circles]
    assert len(places) == len(gains) == 4
    assert places == sorted(places, reverse=True)


def first_label(trial: Trial) -> tuple[str, float, int]:
    """Answer as the first label of the draw says: a method that a stranger might add."""
    first = trial.draw.train[0].target
    return "accuracy", sum(one.target == first for one in trial.test) / len(trial.test), len(trial.test)


def has_two_answers(task: Task) -> bool:
    return task.answers is not None and len(task.answers) == 2


STRANGE = Baseline("first label", first_label, "always the first label", applies=has_two_answers, title="First Label")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Register a baseline for the time of a test."""
    monkeypatch.setattr(BASELINES, "_given", {})
    return lambda baseline: BASELINES.register(baseline.name, baseline)


def test_a_strangers_baseline_is_measured_where_it_applies(
    pocket_is_tiny: Pocket,
    plan: ComparePlan,
    drawer: Path,
    registered: Register,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registered(STRANGE)
    common = ["study", "compare", *plan.tasks[:3], "--seeds", "1", "--steps", "3", "--test", "4", "--shots", "2"]
    common += ["--pool", str(drawer)]
    assert main([*common, "--method", "pi", "--method", STRANGE.name, "--out", str(tmp_path), "--json"]) == 0
    rows = CompareResults.of(json.loads(capsys.readouterr().out)).rows
    assert sorted(row.task for row in rows if row.method == STRANGE.name) == ["mood", "taste"]  # place has three
    assert main([*common, "--method", "magic", "--out", str(tmp_path)]) == 2
    assert "unknown method 'magic'" in capsys.readouterr().err


def nothing_learned(trial: Trial) -> Expert:
    """Return an expert that changes nothing on one task, and another's on the rest."""
    return mix(trial.near(1), [0.0 if trial.task.name == "mood" else 1.0])


def test_runs_that_are_the_untouched_backbone_are_counted_wherever_results_are_shown(
    pocket_is_tiny: Pocket,
    plan: ComparePlan,
    drawer: Path,
    registered: Register,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    registered(Baseline("nothing", nothing_learned, "nothing on one task"))
    out, page = tmp_path / "out", tmp_path / "page.html"
    asked = ["study", "compare", *plan.tasks[:3], "--seeds", "2", "--steps", "3", "--shots", "2", "--out", str(out)]
    asked += ["--pool", str(drawer)]
    methods = [part for one in ("zero-shot", "single", "nothing") for part in ("--method", one)]
    assert main([*asked, *methods, "--html", str(page)]) == 0
    rows = CompareResults.read(out / "results.json").rows
    found = {(row.task, row.method): row.untouched for row in rows}
    nothing = {task: found[task, "nothing"] for task in ("mood", "taste", "place")}
    assert nothing == {"mood": True, "taste": False, "place": False}
    assert {found[task, "zero-shot"] for task in nothing} == {None}
    values = {(row.task, row.method): row.value for row in rows}
    assert values["mood", "nothing"] == values["mood", "zero-shot"]
    assert untouched(rows)["nothing"] == (2, 6)
    printed = capsys.readouterr().out
    assert re.search(r"mean over tasks +tasks +untouched backbone", printed)
    assert re.search(r"^ nothing .* 2 of 6 runs *$", printed, re.MULTILINE)
    told = (out / "results.md").read_text()
    assert re.search(r"^\| nothing \| .* \| 2 of 6 runs \|$", told, re.MULTILINE)
    assert re.search(r"^\| mood \| .* °", told, re.MULTILINE)
    assert not re.search(r"^\| (taste|place) \| .* °", told, re.MULTILINE)
    assert "<small>untouched backbone in 2 of 2</small>" in page.read_text()


def test_what_all_draws_of_a_task_share_is_done_once_a_task(
    pocket_is_tiny: Pocket, plan: ComparePlan, drawer: Path, registered: Register, tmp_path: Path
) -> None:
    done = []
    registered(Baseline("shared", first_label, "", once=lambda trial: done.append(trial.name)))
    more = plan.but(methods=("shared",), seeds=2, pool=str(drawer))
    for _ in range(2):
        run_compare(more, tmp_path, progress=False)
        assert sorted(done) == sorted(plan.tasks)
