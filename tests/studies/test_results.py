"""Results are read and written by one class: every file that is kept loads, and comes out as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel

from pitune.errors import InputError
from pitune.experts import KINDS
from pitune.files import json_bytes
from pitune.interpolation import TuneSettings
from pitune.studies import (
    BASELINES,
    ComparePlan,
    CompareResults,
    PackedRows,
    PromptsResults,
    SettingsResults,
    TransferResults,
    method_means,
    rank_predictors,
    summed_gains,
)
from pitune.tasks import Task, few_shot
from pitune.training import TrainingSettings, target_training

DATA = Path(__file__).parents[2] / "docs" / "data"
WRITTEN_BY: dict[str, type[BaseModel]] = {
    "compare-4.json": CompareResults,
    "compare-16.json": CompareResults,
    "compare-180.json": CompareResults,
    "coop.json": PromptsResults,
    "every-label.json": SettingsResults,
    "every-label-choice.json": SettingsResults,
    "every-label-1.json": CompareResults,
    "every-label-4.json": CompareResults,
    "every-label-16.json": CompareResults,
    "full-4.json": CompareResults,
    "predictors.json": PackedRows,
    "settings.json": SettingsResults,
    "transfer.json": TransferResults,
    "variants.json": SettingsResults,
}
SHORTENED = ("predictors.json", "transfer.json")  # by hand, a row a line: their spaces are not ours


def test_every_file_of_results_has_its_class() -> None:
    kept = {path.name for path in DATA.glob("*.json") if "schema" in json.loads(path.read_bytes())}
    assert kept == WRITTEN_BY.keys()


@pytest.mark.parametrize("name", WRITTEN_BY)
def test_a_kept_file_comes_out_as_it_was(name: str) -> None:
    data = (DATA / name).read_bytes()
    results = WRITTEN_BY[name].model_validate_json(data)
    written = json_bytes(results.model_dump(mode="json", by_alias=True, exclude_unset=True))
    assert written == json_bytes(json.loads(data))
    assert (written == data) == (name not in SHORTENED)


def test_what_is_computed_of_kept_rows_is_what_was_kept(tmp_path: Path) -> None:
    kept = CompareResults.read(DATA / "compare-180.json")
    assert method_means(kept.rows, BASELINES.names()) == list(kept.means)
    gains = [gain for name in ("single", "full fine-tuning") for gain in summed_gains(kept.rows, "pi", name)]
    assert [gain.model_copy(update={"method": ""}) for gain in gains] == list(kept.gains)
    kept.write(tmp_path / "results.json")
    assert (tmp_path / "results.json").read_bytes() == (DATA / "compare-180.json").read_bytes()


def test_the_table_of_predictors_follows_from_its_rows() -> None:
    rows = PackedRows.model_validate_json((DATA / "predictors.json").read_bytes()).unpacked()
    best = rank_predictors(rows, "unchanged-loss", ComparePlan(shots=(4,), seeds=1))[0]
    assert best.predictor == "trial"
    assert round(best.spearman.mean, 2) == 0.68


def test_a_plan_that_is_wrong_is_one_clear_line() -> None:
    with pytest.raises(InputError, match=r"plan of a study: k: input should be greater.* \(found 0\)"):
        ComparePlan().but(k=0)


def test_methods_of_a_comparison_train_as_long_as_the_shipped_command(tiny_tasks: dict[str, Task]) -> None:
    draw = few_shot(tiny_tasks["mood"], 2, 0)
    assert ComparePlan().training(draw) == target_training(len(draw.train), KINDS.get("lora"), stopped=True)
    short = TrainingSettings(steps=3)
    assert ComparePlan(tuning=TuneSettings(training=short)).training(draw) == short
