"""Experts on disk: what was saved is what is loaded, and nothing else is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from tests.conftest import draw_of

from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, load_expert, load_fisher, load_fishers
from pitune.files import sha256_bytes
from pitune.pocket.backbone import Pocket
from pitune.prediction import embed
from pitune.tasks import Task
from pitune.training import TrainingSettings, evaluate_expert, fit_expert

WEIGHTS, RECORD, FISHER = "adapter_model.safetensors", "expert.json", "fisher.safetensors"
Change = Callable[[dict[str, torch.Tensor], str], object]


@pytest.fixture(scope="module")
def expert(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> Expert:
    task = tiny_tasks["taste"]
    data = draw_of(task)
    settings = TrainingSettings(steps=6, batch_size=16, learning_rate=2e-2)
    return embed(tiny_backbone, data, fit_expert(tiny_backbone, data, settings=settings)[0])


@pytest.fixture
def folder(expert: Expert, tmp_path: Path) -> Path:
    expert.save(tmp_path / "expert")
    return tmp_path / "expert"


def reseal(folder: Path, name: str, data: bytes) -> None:
    """Write a file and put its hash into the record, as someone would who means harm."""
    (folder / name).write_bytes(data)
    record = json.loads((folder / RECORD).read_text())
    record["files"][name] = sha256_bytes(data)
    (folder / RECORD).write_text(json.dumps(record))


def test_what_is_loaded_is_what_was_saved(expert: Expert, folder: Path) -> None:
    again = load_expert(folder)
    assert again.card == expert.card
    assert dict(again.config) == dict(expert.config)
    assert again.tensors.keys() == expert.tensors.keys()
    assert all(torch.equal(again.tensors[name], value) for name, value in expert.tensors.items())


def test_fisher_information_is_kept_to_an_eighth_of_an_octave(expert: Expert, folder: Path, tmp_path: Path) -> None:
    """Zeros stay zeros, 9 decades keep their ratios, and what was rounded once is not rounded again."""
    values = torch.tensor([0.0, 3e-44, 1e-9, 0.5, 1.0])
    replace(expert, fisher={"wide": values, "none": torch.zeros(2), "one": torch.rand(())}).save(folder)
    again = load_fisher(folder)
    assert again["wide"][0] == 0
    assert not again["none"].any()
    torch.testing.assert_close(again["wide"][2:], values[2:], rtol=2 ** (1 / 16) - 1, atol=0)
    assert 0 < again["wide"][1] < 3e-10
    load_expert(folder).save(tmp_path / "other")
    assert (folder / FISHER).read_bytes() == (tmp_path / "other" / FISHER).read_bytes()
    with pytest.raises(InputError, match="'w' is negative or not finite"):
        replace(expert, fisher={"w": -values}).save(tmp_path / "bad")


def test_fisher_information_in_single_precision_is_read_too(folder: Path) -> None:
    reseal(folder, FISHER, safetensors.torch.save({"w": torch.tensor([0.3])}))
    assert torch.equal(load_fisher(folder)["w"], torch.tensor([0.3]))


def test_fisher_information_of_several_is_that_of_each(expert: Expert, tmp_path: Path) -> None:
    """Of codes, and where one is in single precision."""
    folders = [tmp_path / f"expert-{i}" for i in range(3)]
    for i, folder in enumerate(folders):
        fisher = {"probe.w": torch.rand(3, 2) * 10**i, "probe.one": torch.rand(()), "expert.w": torch.rand(4)}
        replace(expert, fisher=fisher).save(folder)
    for _ in range(2):
        together = load_fishers(folders, "probe.")
        assert together.keys() == {"probe.w", "probe.one"}
        for i, folder in enumerate(folders):
            alone = load_fisher(folder, "probe.")
            assert all(torch.equal(value[i], alone[name]) for name, value in together.items())
        reseal(folders[1], FISHER, safetensors.torch.save({**load_fisher(folders[1])}))


@pytest.mark.parametrize("tops", [torch.tensor([0]), torch.tensor([0, 0]).short(), torch.tensor([2000]).short()])
def test_codes_that_mean_nothing_are_refused(folder: Path, tops: torch.Tensor) -> None:
    reseal(folder, FISHER, safetensors.torch.save({"w": torch.ones(2, dtype=torch.uint8), "tops": tops}))
    with pytest.raises(InputError, match=r"fisher\.safetensors: its codes"):
        load_expert(folder)


def test_the_same_expert_is_the_same_bytes(expert: Expert, folder: Path, tmp_path: Path) -> None:
    expert.save(tmp_path / "other")
    for path in folder.iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


@pytest.mark.parametrize("name", [WEIGHTS, "adapter_config.json", "fisher.safetensors", "README.md"])
@pytest.mark.parametrize("damage", ["cut", "edit", "remove"])
def test_a_damaged_file_is_named(folder: Path, name: str, damage: str) -> None:
    path = folder / name
    data = path.read_bytes()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(data[:-5] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(InputError, match=name.replace(".", r"\.")):
        load_expert(folder)


def test_a_file_that_is_no_record_is_named(folder: Path) -> None:
    (folder / RECORD).write_text('{"schema_version": 1')
    with pytest.raises(InputError, match=r"expert\.json"):
        load_expert(folder)
    (folder / RECORD).unlink()
    with pytest.raises(InputError, match="is not an expert"):
        load_expert(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "adapter_model.bin", "x.pkl"])
def test_a_record_that_lists_other_files_is_refused(folder: Path, name: str) -> None:
    record = json.loads((folder / RECORD).read_text())
    record["files"][name] = "0" * 64
    (folder / RECORD).write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"expert\.json: malformed"):
        load_expert(folder)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (folder / WEIGHTS).rename(outside)
    (folder / WEIGHTS).symlink_to(outside)
    with pytest.raises(InputError, match="is a link"):
        load_expert(folder)


def test_a_pickle_in_place_of_the_weights_is_not_opened(folder: Path) -> None:
    reseal(folder, WEIGHTS, b"\x80\x04\x95" + b"cos\nsystem\n(S'touch /tmp/owned'\ntR." * 3)
    with pytest.raises(InputError, match="not a safetensors file"):
        load_expert(folder)


def test_an_unknown_method_or_setting_is_refused(folder: Path) -> None:
    record = json.loads((folder / RECORD).read_text())
    (folder / RECORD).write_text(json.dumps({**record, "method": "os.system"}))
    with pytest.raises(InputError, match="unknown method"):
        load_expert(folder)
    (folder / RECORD).write_text(json.dumps({**record, "config": {**record["config"], "hook": "os.system"}}))
    with pytest.raises(InputError, match="hook"):
        load_expert(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, name: tensors.pop(name), "is missing"),
        (lambda tensors, name: tensors.update({"extra.lora_A.weight": torch.ones(2)}), "is not part of"),
        (lambda tensors, name: tensors.update({name: torch.ones(1, 1)}), "wrong shape"),
        (lambda tensors, name: tensors.update({name: torch.full_like(tensors[name], float("nan"))}), "not finite"),
    ],
)
def test_wrong_tensors_are_each_one_named_error(
    expert: Expert, tiny_backbone: Pocket, tiny_tasks: dict[str, Task], change: Change, message: str
) -> None:
    tensors = dict(expert.tensors)
    change(tensors, next(iter(tensors)))
    task = tiny_tasks["taste"]
    with pytest.raises(InputError, match=message):
        evaluate_expert(tiny_backbone, task, replace(expert, tensors=tensors), task.examples("test"))


def test_saving_replaces_an_expert_but_nothing_else(expert: Expert, folder: Path, tmp_path: Path) -> None:
    expert.save(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["expert"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="is not an expert"):
        expert.save(tmp_path / "notes")
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"


def test_a_failing_write_leaves_what_was_there(
    expert: Expert, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace(expert, card=expert.card.model_copy(update={"seed": 9})).save(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["expert"]


@pytest.mark.parametrize("name", ["../up", "/etc", "", "A", "a b", ".hidden", "a/b", "x" * 65])
def test_a_pool_takes_no_name_that_could_leave_its_folder(expert: Expert, tmp_path: Path, name: str) -> None:
    pool = ExpertPool(tmp_path / "pool")
    with pytest.raises(InputError, match="cannot name an expert"):
        pool.add(replace(expert, card=expert.card.model_copy(update={"name": name})))
    assert not (tmp_path / "pool").exists()


def test_a_pool_adds_lists_gives_and_removes(expert: Expert, tmp_path: Path) -> None:
    pool = ExpertPool(tmp_path / "pool")
    assert pool.names() == []
    pool.add(expert)
    assert pool.names() == [expert.name]
    assert expert.name in pool
    assert pool.get(expert.name).card == expert.card
    assert pool.add(expert) == pool.path(expert.name)  # the same again
    other = replace(expert, tensors={name: value + 1 for name, value in expert.tensors.items()})
    with pytest.raises(InputError, match="has an expert of this name that is another"):
        pool.add(other)
    pool.add(expert, replace=True)
    with pytest.raises(InputError, match="has no expert 'other'"):
        pool.get("other")
    (pool.path(expert.name) / WEIGHTS).write_bytes(b"altered")
    pool.remove(expert.name)
    assert len(pool) == 0
    assert list((tmp_path / "pool").iterdir()) == []
    with pytest.raises(InputError, match="no such pool"):
        ExpertPool(tmp_path / "absent", create=False)
