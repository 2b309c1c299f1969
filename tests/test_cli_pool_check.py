"""`pitune pool check` tells what is wrong with a pool of strangers' experts, and how much of it is said twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.conftest import Command
from tests.experts.test_index import lora

from pitune import cli
from pitune.experts import ExpertPool


def test_a_pool_of_strangers(tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    pool = ExpertPool(tmp_path / "pool")
    for number, name in enumerate(("one", "two")):
        pool.add(lora(name, number))
    assert command("pool", "check", "--pool", pool.folder)["faults"] == 0
    whole = lora("one", 0)
    pool.add(replace(whole, card=whole.card.model_copy(update={"name": "copied"})))
    pool.add(lora("idle", 3, scale=0.0))
    pool.add(replace(whole, card=whole.card.model_copy(update={"name": "foreign", "backbone": "c"}), fisher=None))
    pool.add(lora("wide", 4, rank=5))
    nan = {key: torch.full_like(value, torch.nan) for key, value in whole.tensors.items()}
    pool.add(replace(whole, tensors=nan, card=whole.card.model_copy(update={"name": "nan"})))
    assert cli.main(["pool", "check", "--pool", str(pool.folder), "--json"]) == 2
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    faults = {one["name"]: one["fault"] for one in told["experts"] if one["fault"]}
    assert sorted(faults) == ["foreign", "idle", "nan", "one"]
    assert faults["one"] == "does the same as copied"
    assert faults["idle"] == "changes nothing (ΔW = 0)"
    assert faults["foreign"].startswith("is for another backbone")
    assert "not finite" in faults["nan"]
    assert told["redundancy"] == pytest.approx(1 / 6)
    assert {one["name"]: one["rank"] for one in told["experts"]}["wide"] == 5
    assert told["kinds"] == {"lora": 6}
    assert "4 of 7 experts have a fault; the first: foreign: is for another backbone" in printed.err
