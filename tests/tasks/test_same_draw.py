"""What is drawn depends neither on the order in which data is listed nor on what its top folder is called."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pitune.tasks import few_shot, load_task

Png = Callable[[int], bytes]
SHAPES = ("folder", "parts", "coop", "elevater", "coco", "captions", "metadata")
NAMES = ("cat", "dog", "owl")


def build(shape: str, folder: Path, png: Png, chance: random.Random) -> Path:
    """Write 36 images of three classes in a shape, entries in any order; two of them are copies of others."""
    order = chance.sample(range(36), 36)
    part = ["test" if i % 4 == 0 else "val" if i % 4 == 1 else "train" for i in range(36)]
    inside = {i: f"{NAMES[i % 3]}/{i}.png" for i in order}
    if shape == "parts":
        inside = {i: f"{part[i]}/{one}" for i, one in inside.items()}
    for i, name in inside.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png({35: 23, 34: 22}.get(i, i)))
    listed: dict[str, list[Any]] = {
        "coop": [[inside[i], i % 3, NAMES[i % 3]] for i in order],
        "elevater": [f"{inside[i]} {i % 3}" for i in order],
        "images": [{"id": i, "file_name": inside[i]} for i in order],
        "coco": [{"image_id": i, "category_id": i % 3} for i in order],
        "captions": [
            {"image_id": i, "caption": f"it is {j} of {i}"} for i in order for j in chance.sample(range(3), 3)
        ],
    }
    if shape == "coop":
        parts = {name: [one for i, one in zip(order, listed["coop"], strict=True) if part[i] == name] for name in part}
        (folder / "split_zhou_Pets.json").write_text(json.dumps(parts))
    if shape == "elevater":
        (folder / "labels.txt").write_text("\n".join(NAMES))
        for name in set(part):
            lines = [one for i, one in zip(order, listed["elevater"], strict=True) if part[i] == name]
            (folder / f"{name}.txt").write_text("\n".join(lines))
    if shape in ("coco", "captions"):
        classes = chance.sample([{"id": i, "name": name} for i, name in enumerate(NAMES)], 3)
        held = {"images": listed["images"], "annotations": chance.sample(listed[shape], len(listed[shape]))}
        (folder / "pets.json").write_text(json.dumps({**held, "categories": classes}))
        return folder / "pets.json"
    if shape == "metadata":
        rows = [f"{inside[i]},{NAMES[i % 3]}" for i in order]
        (folder / "metadata.csv").write_text("\n".join(["file_name,label", *rows]))
    return folder


@pytest.mark.parametrize("shape", SHAPES)
def test_the_draw_is_the_same(shape: str, tmp_path: Path, png: Png) -> None:
    found = []
    for seed, name in enumerate(("one", "another name")):
        task = load_task(build(shape, tmp_path / name, png, random.Random(seed)))
        draw = few_shot(task, 2, 7)
        ids = [[e.id for e in part] for part in (draw.train, draw.validation)]
        told = [[(e.target, e.right) for e in part] for part in (draw.train, draw.validation)]
        test = sorted(e.id for e in task.splits.get("test", ()))
        found.append((task.data_hash, ids, told, test))
    assert found[0] == found[1]
