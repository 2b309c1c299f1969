"""N × N transfer: the normalisation and its guard, the similarities, and a study that goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pitune.errors import InputError
from pitune.pocket.backbone import Pocket
from pitune.prediction import label_similarity
from pitune.reports import write_transfer
from pitune.studies import Row, Stage, TransferPlan, TransferResults, read_transfer, run_transfer
from pitune.studies import transfer as module
from pitune.studies.similarities import similarities
from pitune.studies.transfer import correlation, transfer_matrix
from pitune.tasks import Task, few_shot
from pitune.training import fit_every_label

STEPS = {"steps": 4, "batch_size": 16, "learning_rate": 2e-2, "evaluations": 2}
NAMES = ("mood", "taste", "colour")
DATA = Path(__file__).parents[2] / "docs" / "data"


def off_diagonal(results: TransferResults, stage: Stage) -> list[float]:
    """Return the test transfer of all pairs of two tasks that have one."""
    matrix = results.transfer["test"][stage]
    return [value for i, line in enumerate(matrix) for j, value in enumerate(line) if i != j and value is not None]


@pytest.fixture
def plan(tiny_task_paths: dict[str, Path]) -> TransferPlan:
    tasks = tuple(str(tiny_task_paths[name]) for name in NAMES)
    return TransferPlan(tasks=tasks, shots=2, source_shots=4, test=6, length=2, source_training=STEPS, training=STEPS)


def rows_of(values: Mapping[tuple[str, str], Sequence[float]]) -> list[Row]:
    return [
        Row(task=task, method=f"{method} (test)", shots=2, seed=seed, metric="accuracy", value=value, n=6, seconds=0)
        for (task, method), seeds in values.items()
        for seed, value in enumerate(seeds)
    ]


def test_transfer_is_the_share_of_the_targets_own_gain() -> None:
    rows = rows_of(
        {
            ("a", "zero-shot"): [0.4, 0.4],
            ("a", "from a"): [0.8, 0.8],
            ("a", "alone"): [0.5, 0.7],
            ("a", "from b"): [0.3, 0.5],
            ("a", "from b, adapted"): [0.8, 0.8],
            ("b", "zero-shot"): [0.5, 0.5],
            ("b", "from b"): [0.51, 0.51],
            ("b", "alone"): [0.3, 0.3],
            ("b", "from a"): [0.9, 0.9],
            ("b", "from a, adapted"): [0.4, 0.4],
        }
    )
    plain = transfer_matrix(rows, ["a", "b"], "test", "zero-adaptation")
    assert plain[0][0] == pytest.approx(1.0)
    assert plain[1][0] == pytest.approx(0.0)
    assert plain[0][1] is None  # b's own gain is 0.01: dividing by it would say nothing
    assert plain[1][1] is None
    after = transfer_matrix(rows, ["a", "b"], "test", "adapted")
    assert after[1][0] == pytest.approx(2.0)  # (0.8 − 0.4) / (0.6 − 0.4)
    assert after[0][1] == pytest.approx(0.5)  # both lose, the adapted one half as much


def test_correlation_is_over_ordered_pairs_that_have_a_transfer() -> None:
    alike = np.array([[1.0, 0.9, 0.2], [0.9, 1.0, 0.5], [0.2, 0.5, 1.0]])
    matrix = ((1.0, 0.8, -0.3), (0.7, 1.0, None), (-0.1, 0.2, 1.0))
    found = correlation(matrix, alike)
    assert found.pairs == 5
    assert found.rho is not None
    assert found.rho > 0.9
    few = correlation(((1.0, None), (0.3, 1.0)), alike[:2, :2])
    assert (few.rho, few.pairs) == (None, 1)


def test_label_similarity_is_the_best_cosine_from_both_sides() -> None:
    first = torch.eye(3)[:2]
    second = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.8], [0.0, 0.0, 1.0]])
    assert label_similarity(first, second) == pytest.approx(((1 + 0.6) / 2 + (1 + 0.6 + 0) / 3) / 2)
    assert label_similarity(first, second) == pytest.approx(label_similarity(second, first))
    assert label_similarity(first, first) == pytest.approx(1.0)


def test_similarities_are_symmetric_and_see_which_tasks_share_their_words(
    tiny_backbone: Pocket, tiny_tasks: dict[str, Task]
) -> None:
    found = similarities(tiny_backbone, [few_shot(tiny_tasks[name], 8, 0) for name in NAMES])
    assert set(found) == {"visual", "label", "Fisher"}
    for matrix in found.values():
        np.testing.assert_allclose(matrix, matrix.T, atol=1e-6)
        np.testing.assert_allclose(np.diag(matrix), 1.0, atol=1e-5)
    assert found["Fisher"][0, 1] > found["Fisher"][0, 2]
    assert found["visual"][0, 1] > found["visual"][0, 2]


def test_each_pair_is_a_row_and_nothing_is_measured_twice(
    pocket_is_tiny: Pocket, plan: TransferPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_transfer(plan.but(stages=("zero-adaptation",)), tmp_path, progress=False)
    assert len(first.rows) == 2 * (3 * 2 + 6)
    assert off_diagonal(first, "adapted") == []
    found = run_transfer(plan, tmp_path, progress=False)
    assert found.transfer["test"]["zero-adaptation"] == first.transfer["test"]["zero-adaptation"]
    assert len(found.rows) == 2 * (3 * 3 + 6 * 2)  # both parts: own, alone and backbone; every pair twice
    assert len(off_diagonal(found, "adapted")) <= 6
    assert found == TransferResults.read(tmp_path / "results.json")
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    (tmp_path / "rows.jsonl").write_text("\n".join(lines[:-3]) + "\n")
    fitted = []
    monkeypatch.setattr(module, "fit_every_label", lambda *a, **k: fitted.append(1) or fit_every_label(*a, **k))
    again = run_transfer(plan, tmp_path, progress=False)
    assert again.transfer == found.transfer
    assert 1 <= len(fitted) <= 2
    with pytest.raises(InputError, match="other tasks or settings"):
        run_transfer(plan.but(shots=3), tmp_path, progress=False)
    write_transfer(found, tmp_path, "pitune study transfer …")
    assert (tmp_path / "results.md").read_text().count("\n| colour |") == 2
    drawn = (tmp_path / "adapted.svg").read_text()
    assert drawn.startswith("<svg")
    assert drawn.count("<rect") == 1 + 9


def test_reading_a_matrix_back(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    matrix = [[1.0, 0.5, None], [0.4, 1.0, 0.1], [0.2, 0.3, 1.0]]
    kept = json.loads((DATA / "transfer.json").read_text())
    with pytest.raises(InputError, match="no transfer of adapted experts"):
        read_transfer(DATA / "transfer.json", ["pocket/mnist"])
    file.write_text(json.dumps({**kept, "tasks": ["a", "b", "c"], "transfer": {"validation": {"adapted": matrix}}}))
    np.testing.assert_array_equal(read_transfer(file, ["b", "a"]), [[1.0, 0.4], [0.5, 1.0]])
    with pytest.raises(InputError, match="no transfer from 'a' to 'c'"):
        read_transfer(file, ["a", "c"])
    with pytest.raises(InputError, match="no task 'd'"):
        read_transfer(file, ["a", "d"])
    file.write_text(json.dumps({"tasks": ["a", "b", "c"]}))
    with pytest.raises(InputError, match="schema: field required; expected the results of `pitune study transfer`"):
        read_transfer(file, ["a", "b"])


def test_one_task_is_no_study(pocket_is_tiny: Pocket, plan: TransferPlan, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected 2 tasks"):
        run_transfer(plan.but(tasks=plan.tasks[:1]), tmp_path, progress=False)
