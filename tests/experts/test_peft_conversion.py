"""Whatever PEFT turns into a LoRA computes what it computed, to the error that is told; anything else is refused."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from tests.contracts.families import Tiny, build
from tests.contracts.strangers import alter, scores_of, stranger, stranger_of_kind

from pitune import cli
from pitune.errors import InputError
from pitune.experts import ExpertPool, import_peft
from pitune.experts.peft_conversion import convertible

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT says of its own kinds
FULL = 16  # the width of the tiny model: every ΔW has at most this rank
SMALL: dict[str, Any] = {
    "target_modules": ["query", "value"],
    "r": 4,
    "n_frequency": 50,
    "block_size": 4,
    "num_vectors": 16,
    "vector_length": 16,
}


@pytest.fixture(scope="module")
def bert() -> Tiny:
    return build("bert")


def config_of(kind: str, **more: Any) -> peft.PeftConfig:
    config = PEFT_TYPE_TO_CONFIG_MAPPING[kind]
    known = {field.name for field in fields(config)}
    return config(**{name: value for name, value in SMALL.items() if name in known} | more)


def test_there_are_kinds_to_convert() -> None:
    assert {"LOHA", "LOKR", "VERA", "C3A", "FOURIERFT", "RANDLORA"} <= set(convertible())
    assert not {"LORA", "ADALORA", "IA3", "HIRA", "SHIRA", "OFT", "BOFT"} & set(convertible())


@pytest.mark.parametrize("kind", convertible())
def test_a_kind_comes_in_as_a_lora_with_its_outputs(bert: Tiny, tmp_path: Path, kind: str) -> None:
    expected = stranger_of_kind(tmp_path / "theirs", config_of(kind), std=0.3 if kind in ("VERA", "UNILORA") else 0.05)
    with pytest.raises(InputError, match=rf"is of PEFT type '{kind}'; expected LORA; .* give --convert RANK"):
        import_peft(tmp_path / "theirs", bert, "theirs")
    before = bert.scores(bert.batch)
    assert float((expected - before).abs().max()) > 1e-4
    expert = import_peft(tmp_path / "theirs", bert, "theirs", convert=FULL)
    torch.testing.assert_close(scores_of(bert, expert), expected, rtol=1e-3, atol=2e-4)
    torch.testing.assert_close(bert.scores(bert.batch), before, rtol=0, atol=0)
    made = expert.card.hyperparameters["origin"]["conversion"]
    assert made["peft_type"] == kind
    assert made["error"] < 1e-4
    rough = import_peft(tmp_path / "theirs", bert, "theirs", convert=1)
    assert rough.card.hyperparameters["origin"]["conversion"]["error"] >= made["error"]


def test_the_error_is_that_of_the_nearest_lora(bert: Tiny, tmp_path: Path) -> None:
    stranger_of_kind(tmp_path / "theirs", config_of("LOHA"), std=0.3)
    full, half = (import_peft(tmp_path / "theirs", bert, "theirs", convert=rank) for rank in (FULL, 3))
    _, _, nearest = full.kind.truncate(full.settings, full.tensors, 3)
    assert half.card.hyperparameters["origin"]["conversion"]["error"] == pytest.approx(nearest, rel=1e-3)
    share = import_peft(tmp_path / "theirs", bert, "theirs", convert=0.9)
    assert share.card.hyperparameters["origin"]["conversion"]["error"] <= 0.1**0.5


@pytest.mark.parametrize(
    "kind", [kind for kind in map(str, (one.value for one in peft.PeftType)) if kind not in (*convertible(), "LORA")]
)
def test_a_kind_that_no_lora_can_stand_for_is_refused_with_what_helps(bert: Tiny, tmp_path: Path, kind: str) -> None:
    stranger(tmp_path / "theirs")
    alter(tmp_path / "theirs", peft_type=kind)
    for rank in (None, 8):
        helps = "merge_and_unload|pitune fit TASK|update PEFT"
        with pytest.raises(InputError, match=rf"'{kind}'; expected LORA; .*({helps})"):
            import_peft(tmp_path / "theirs", bert, "theirs", convert=rank)


def test_a_conversion_that_loses_something_is_refused(bert: Tiny, tmp_path: Path, monkeypatch: Any) -> None:
    stranger_of_kind(tmp_path / "theirs", config_of("LOHA"), std=0.3)
    true = peft.convert_to_lora

    def scaled(model: Any, rank: float) -> Any:
        config, tensors = true(model, rank=rank)
        return config, {name: value * (2 if "lora_B" in name else 1) for name, value in tensors.items()}

    monkeypatch.setattr(peft, "convert_to_lora", scaled)
    with pytest.raises(InputError, match=r"100.00% off where 0.0\d% is possible"):
        import_peft(tmp_path / "theirs", bert, "theirs", convert=FULL)


@pytest.mark.parametrize(
    ("fields_", "message"),
    [
        ({"r": "eight"}, "cannot turn it into a LoRA|expected"),
        ({"r": 10**18}, "r is 1000000000000000000; expected at most"),
        ({"r": 8}, "cannot turn it into a LoRA"),
        ({"target_modules": 3}, ""),
        ({"target_modules": "(a|aa)+$"}, "no module of the backbone matches"),
        ({"target_modules": ["query", "value", "key"]}, "key.hada_w1_a' is missing"),
        ({"target_modules": ["query"]}, "value.hada_w1_a' is not part of"),
        ({"modules_to_save": ["pooler"]}, "modules_to_save is"),
        ({"of_tomorrow": 7}, "of_tomorrow is 7"),
        ({"layers_pattern": "(a+)+", "layers_to_transform": [0]}, "layers_pattern"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(
    bert: Tiny, tmp_path: Path, fields_: dict[str, Any], message: str
) -> None:
    stranger_of_kind(tmp_path / "theirs", config_of("LOHA"))
    alter(tmp_path / "theirs", **fields_)
    with pytest.raises(InputError, match=message) as error:
        import_peft(tmp_path / "theirs", bert, "theirs", convert=4)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("rank", [0, -1, 2.5, float("nan"), float("inf"), 10**9, 1000])
def test_a_rank_that_is_none_is_refused(bert: Tiny, tmp_path: Path, rank: float) -> None:
    stranger_of_kind(tmp_path / "theirs", config_of("LOHA"))
    with pytest.raises(InputError, match="rank"):
        import_peft(tmp_path / "theirs", bert, "theirs", convert=rank)


def test_the_command_prints_the_error(
    tmp_path: Path, bert: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger_of_kind(tmp_path / "theirs", config_of("LOKR"), std=0.3)
    monkeypatch.setattr("pitune.backbones.load_backbone", lambda *_: bert)
    pool = ("--pool", str(tmp_path / "pool"))
    command = ["pool", "import", str(tmp_path / "theirs"), *pool, "--name", "theirs"]
    assert cli.main(command) == 2
    assert "give --convert RANK" in capsys.readouterr().err
    assert cli.main([*command, "--convert", "4"]) == 0
    assert "made of LOKR: ΔW is off by " in capsys.readouterr().out
    kept = ExpertPool(tmp_path / "pool").get("theirs").card.hyperparameters["origin"]["conversion"]
    assert cli.main([*command[:-1], "again", "--convert", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["conversion"] == kept
