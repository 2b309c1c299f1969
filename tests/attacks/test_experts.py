"""An expert's folder that somebody altered: one line that says what is wrong, soon, and the others are listed."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from tests.contracts.families import Tiny, build

from pitune import cli
from pitune.errors import InputError
from pitune.experts import (
    KINDS,
    Card,
    Expert,
    ExpertPool,
    attached,
    check_name,
    initial_tensors,
    load_expert,
    make_settings,
    record_hash,
)
from pitune.experts.fisher_file import decode_fisher
from pitune.experts.patterns import modules_matching, pattern_key
from pitune.files import sha256_bytes, sha256_file

RECORD, WEIGHTS, FISHER = "expert.json", "adapter_model.safetensors", "fisher.safetensors"
BOMB = "(a|aa)+$"
HUGE = "a number of 5,000 digits"
SOON = 20.0  # seconds, on a busy machine; without bounds these take minutes to forever


@pytest.fixture(scope="module")
def bert() -> Tiny:
    return build("bert")


@pytest.fixture(scope="module")
def sound(bert: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kind = KINDS.get("lora")
    chosen = make_settings(kind, bert, r=2)
    with attached(bert, kind, chosen) as place:
        tensors = initial_tensors(kind, place.shapes, 0, chosen)
    card = Card(name="bad", backbone=bert.fingerprint, base_model=bert.name)
    fisher = {f"expert.{name}": torch.ones_like(value) for name, value in tensors.items()}
    folder = tmp_path_factory.mktemp("sound")
    for name in ("bad", "good"):
        named = card.model_copy(update={"name": name})
        ExpertPool(folder).add(Expert(kind, chosen, tensors, named, fisher))
    return folder


@pytest.fixture
def pool(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "pool")
    return tmp_path / "pool"


def record(pool: Path, change: Callable[[Any], Any]) -> None:
    path = pool / "bad" / RECORD
    found = json.loads(path.read_text())
    change(found)
    text = json.dumps(found)
    path.write_text(text.replace(f'"{HUGE}"', "9" * 5000))


def tensors(pool: Path, change: Callable[[torch.Tensor], torch.Tensor], name: str = WEIGHTS) -> None:
    path = pool / "bad" / name
    data = save({key: change(value) for key, value in decode_fisher(load(path.read_bytes()), name).items()})
    path.write_bytes(data)
    record(pool, lambda found: found["files"].update({name: sha256_bytes(data)}))


def refused(pool: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The reason for which the bad expert is listed as bad; the good one is listed as ever."""
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        ExpertPool(pool).get("bad")
    assert cli.main(["pool", "list", "--pool", str(pool), "--json"]) == 0
    assert time.monotonic() - start < SOON
    found = {one["name"]: one["problem"] for one in json.loads(capsys.readouterr().out)["experts"]}
    assert found == {"bad": str(error.value), "good": None}
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700
    return str(error.value)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"r": 10**7}, "r: "),
        ({"r": 10**18}, "r: "),
        ({"r": 60_000}, "the rank 60000, its tensors 2"),
        ({"r": 3}, "the rank 3, its tensors 2"),
        ({"r": True}, "r: "),
        ({"r": "2"}, "r: "),
        ({"lora_alpha": float("nan")}, "finite"),
        ({"lora_alpha": float("inf")}, "finite"),
        ({"rank_pattern": {"query": 10**9}}, "rank_pattern"),
        ({"rank_pattern": {"(a+)+" * 500: 2}}, "characters"),
        ({"alpha_pattern": {"query": float("inf")}}, "finite"),
        ({"target_modules": ["query"] * 300_000}, "target_modules"),
        ({"target_modules": [f"m{i}" for i in range(60_000)]}, "target_modules names 60000 modules"),
        ({"target_modules": ["query"]}, "does not name '.*value', which has tensors"),
        ({"target_modules": ["elsewhere"]}, "no submodule 'elsewhere'"),
        ({"target_modules": "elsewhere"}, "no module of the backbone matches 'elsewhere'"),
        ({"target_modules": "("}, "is no regular expression"),
        ({"lora_bias": True}, r"lora_B.bias' is missing; expected one of 1 dimensions"),
        ({"hook": "os.system"}, "hook"),
        ({"r": {}}, "r: "),
        ({"deep": HUGE}, "malformed|deep"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_settings_out_of_bounds(pool: Path, capsys: pytest.CaptureFixture[str], config: Any, says: str) -> None:
    record(pool, lambda found: found["config"].update(config))
    assert re.search(says, refused(pool, capsys))


@pytest.mark.parametrize("field", ["target_modules", "alpha_pattern", "rank_pattern"])
def test_a_pattern_that_never_ends_is_stopped(bert: Tiny, pool: Path, field: str) -> None:
    slow = r"(\w|\w\w|[a-z])+(\.(\w|\w\w|\w\w\w)+)+!"
    record(pool, lambda found: found["config"].update({field: slow if field == "target_modules" else {slow: 2}}))
    start = time.monotonic()
    with suppress(InputError):
        expert = ExpertPool(pool).get("bad")
        with attached(bert, expert.kind, expert.settings):
            pass
    assert time.monotonic() - start < SOON


@pytest.mark.parametrize("find", [lambda name: modules_matching(BOMB, [name]), lambda name: pattern_key((BOMB,), name)])
def test_a_pattern_that_takes_too_long_is_named(find: Callable[[str], object]) -> None:
    start = time.monotonic()
    with pytest.raises(InputError, match=r"the pattern '\(a\|aa\)\+\$' takes too long"):
        find("a" * 60 + "b")
    assert time.monotonic() - start < SOON


@pytest.mark.parametrize(
    "change",
    [
        {"validation": float("nan")},
        {"validation": float("-inf")},
        {"shots": HUGE},
        {"seed": 2**70},
        {"seed": float("nan")},
        {"hyperparameters": {"steps": float("inf")}},
        {"hyperparameters": {"a": [{"b": [float("nan")]}]}},
        {"hyperparameters": {"a": 10**400}},
        {"hyperparameters": {"a": HUGE}},
        {"parents": [{"name": "x", "digest": "0", "weights": {"a": float("nan")}}]},
        {"name": 3},
        {"name": "other"},
        {"task": None},
    ],
    ids=lambda value: str(value)[:32],
)
def test_cards_with_numbers_that_are_none(pool: Path, capsys: pytest.CaptureFixture[str], change: Any) -> None:
    record(pool, lambda found: found["card"].update(change))
    refused(pool, capsys)


@pytest.mark.parametrize("file", [WEIGHTS, FISHER])
@pytest.mark.parametrize(
    "dtype",
    [torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.int64, torch.bool, torch.complex64],
)
def test_numbers_of_other_kinds(pool: Path, capsys: pytest.CaptureFixture[str], file: str, dtype: Any) -> None:
    tensors(pool, lambda value: value.to(dtype), file)
    assert f"holds {str(dtype).removeprefix('torch.')} values; expected float32" in refused(pool, capsys)


@pytest.mark.parametrize("file", [WEIGHTS, FISHER])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite(pool: Path, capsys: pytest.CaptureFixture[str], file: str, value: float) -> None:
    tensors(pool, lambda tensor: torch.full_like(tensor, value), file)
    assert "not finite" in refused(pool, capsys)


def test_numbers_of_which_products_overflow(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors(pool, lambda tensor: torch.full_like(tensor, 3e38))
    assert "holds values above 1e+15, of which products overflow" in refused(pool, capsys)


def test_two_formats_in_one_expert(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors(pool, lambda tensor: tensor.half() if tensor.shape[0] == 2 else tensor)
    assert "holds float16 and float32 values; expected one format" in refused(pool, capsys)


@pytest.mark.parametrize(("end", "says"), [("lora_A.weight", "has the shape ()"), ("lora_B.weight", "is missing")])
def test_a_tensor_of_another_shape_or_none(pool: Path, capsys: pytest.CaptureFixture[str], end: str, says: str) -> None:
    path = pool / "bad" / WEIGHTS
    kept = load(path.read_bytes())
    first = next(name for name in kept if name.endswith(end))
    kept[first] = torch.tensor(1.0)
    if says == "is missing":
        del kept[first]
    path.write_bytes(data := save(kept))
    record(pool, lambda found: found["files"].update({WEIGHTS: sha256_bytes(data)}))
    assert f"{end}' {says}; expected one of 2 dimensions" in refused(pool, capsys)


@pytest.mark.parametrize("field", ['"method": "ia3", "method"', '"r": 4, "r"', '"seed": 1, "seed"'])
def test_a_field_that_is_there_twice(pool: Path, capsys: pytest.CaptureFixture[str], field: str) -> None:
    path = pool / "bad" / RECORD
    name = field.rpartition(" ")[2]
    path.write_text(path.read_text().replace(name, field, 1))
    assert f"the field {name!r} is there twice".replace('"', "") in refused(pool, capsys).replace('"', "")


def test_a_version_that_is_no_number(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(pool, lambda found: found.update(schema_version=True))
    assert "schema_version: input should be a valid integer (found True)" in refused(pool, capsys)


def test_an_export_has_modules_by_name_and_no_pattern_of_a_stranger_s(pool: Path) -> None:
    sites = ExpertPool(pool).get("good").sites
    every, some = "|".join(map(re.escape, sites)), f"(?:{re.escape(sites[0])})"
    change = {"target_modules": every, "rank_pattern": {some: 2}, "alpha_pattern": {some: 3.0}}
    record(pool, lambda found: found["config"].update(change))
    expert = ExpertPool(pool).get("bad")
    told, _ = expert.kind.to_peft(expert, None)
    assert (sorted(told["target_modules"]), told["rank_pattern"]) == (sorted(sites), {sites[0]: 2})
    assert told["alpha_pattern"] == {sites[0]: 3.0}


@pytest.mark.parametrize("name", ["con", "nul", "aux.x", "com1", "a."])
def test_names_that_some_systems_keep(name: str) -> None:
    with pytest.raises(InputError, match="some systems keep it for themselves"):
        check_name(name)


def test_a_pipe_in_a_pool_is_not_waited_for_by_tune(pool: Path) -> None:
    (pool / "bad" / RECORD).unlink()
    os.mkfifo(pool / "bad" / RECORD)
    with pytest.raises(InputError, match="is no regular file"):
        record_hash(pool / "bad")
    with pytest.raises(InputError, match="is no regular file"):
        sha256_file(pool / "bad" / RECORD)


def test_an_information_below_zero(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tensors(pool, torch.neg, FISHER)
    assert "below zero" in refused(pool, capsys)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_formats_are_read(bert: Tiny, pool: Path, dtype: torch.dtype) -> None:
    tensors(pool, lambda value: value.to(dtype))
    expert = ExpertPool(pool).get("bad")
    with torch.no_grad(), attached(bert, expert.kind, expert.settings) as place:
        assert torch.isfinite(place.scores(expert.tensors, bert.batch)).all()


@pytest.mark.parametrize("name", [RECORD, WEIGHTS, FISHER, "README.md"])
@pytest.mark.parametrize("what", ["pipe", "socket", "device", "folder", "link"])
def test_what_is_no_file_is_not_waited_for(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    path = pool / "bad" / name
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "socket":
        monkeypatch.chdir(path.parent)  # names of sockets are short
        server = socket.socket(socket.AF_UNIX)
        server.bind(name)
        server.close()
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if what == "device" else "/etc/hostname")
    assert name in refused(pool, capsys)


def test_a_linked_folder_and_a_copied_one(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(pool / "bad")
    (pool / "bad").symlink_to(pool / "good")
    assert "is a link" in refused(pool, capsys)
    ExpertPool(pool).remove("bad")
    assert ExpertPool(pool).names() == ["good"]
    shutil.copytree(pool / "good", pool / "bad")
    assert "holds the expert 'good', not 'bad'" in refused(pool, capsys)
    load_expert(pool / "bad")  # a folder of its own may be called anything


def test_an_error_that_nobody_foresaw_is_listed(
    pool: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    true = ExpertPool.get

    def get(self: ExpertPool, name: str) -> Expert:
        if name == "bad":
            raise RuntimeError("\x1b[31mnot\nforeseen")
        return true(self, name)

    monkeypatch.setattr(ExpertPool, "get", get)
    assert cli.main(["pool", "list", "--pool", str(pool), "--json"]) == 0
    found = {one["name"]: one["problem"] for one in json.loads(capsys.readouterr().out)["experts"]}
    assert "cannot be read (RuntimeError: \\x1b[31mnot)" in found["bad"]
    assert found["good"] is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.sampled_from(["", "config", "card"]), key=st.integers(0, 12), value=JSON)
def test_any_value_anywhere_is_an_expert_or_one_line(sound: Path, pool: Path, part: str, key: int, value: Any) -> None:
    (pool / "bad" / RECORD).write_bytes((sound / "bad" / RECORD).read_bytes())

    def change(found: Any) -> None:
        inside = found[part] if part else found
        inside[sorted(inside)[key % len(inside)]] = value

    record(pool, change)
    try:
        expert = ExpertPool(pool).get("bad")
    except InputError as error:
        line = str(error)
    else:
        line = json.dumps(expert.card.model_dump(mode="json"), allow_nan=False)
    assert "\n" not in line
