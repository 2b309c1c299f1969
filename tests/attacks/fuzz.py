"""Give the readers of experts and tasks bytes that a fuzzer makes: whatever they hold, a value or an `InputError`.

    pip install atheris
    python -m tests.attacks.fuzz experts -max_total_time=1800
    python -m tests.attacks.fuzz tasks -max_total_time=1800

Flags are libFuzzer's. It begins with what is kept in `tests/attacks/corpus`; what it finds it keeps in a folder of the
system's temporary ones, out of which `-merge=1 tests/attacks/corpus/tasks FOUND` takes what reaches more code.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
EXPERT_FILES = ("expert.json", "adapter_model.safetensors", "fisher.safetensors")
TASK_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".yaml", ".zip", ".tar", ".parquet", ".png", ".txt")


def read_expert(folder: Path, data: bytes) -> None:
    """Read a sound expert of which one file, that the first byte chooses, has the rest for its bytes."""
    from pitune.errors import InputError
    from pitune.experts import load_expert
    from pitune.files import sha256_bytes

    if not (folder / "sound").is_dir():
        write_sound(folder / "sound")
    place, name = folder / "expert", EXPERT_FILES[data[0] % len(EXPERT_FILES)] if data else EXPERT_FILES[0]
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "sound", place)
    (place / name).write_bytes(data[1:])
    if name != EXPERT_FILES[0]:
        record = json.loads((place / EXPERT_FILES[0]).read_bytes())
        record["files"][name] = sha256_bytes(data[1:])
        (place / EXPERT_FILES[0]).write_text(json.dumps(record))
    try:
        load_expert(place)
    except InputError as error:
        check(error)


def check(error: Exception) -> None:
    """Raise `AssertionError` unless what is said can be shown as it is."""
    assert str(error).isprintable()


def write_sound(folder: Path) -> None:
    """Write an expert that nothing is wrong with."""
    import torch

    from pitune.experts import KINDS, Card, Expert
    from pitune.experts.kind import read_settings

    kind = KINDS.get("lora")
    settings = read_settings(kind, {"r": 2, "lora_alpha": 4, "target_modules": ["a.query"]}, "a sound expert")
    tensors = {"a.query.lora_A.weight": torch.ones(2, 4), "a.query.lora_B.weight": torch.ones(3, 2)}
    card = Card(name="sound", backbone="0" * 64, base_model="none")
    Expert(kind, settings, tensors, card, {name: torch.ones_like(value) for name, value in tensors.items()}).save(
        folder
    )


def read_data(folder: Path, data: bytes) -> None:
    """Load and check a file of the kind that the first byte chooses, with the rest for its bytes."""
    from pitune.errors import InputError
    from pitune.tasks import inspect, load_task, read_task
    from pitune.tasks.images import open_image

    suffix = TASK_SUFFIXES[data[0] % len(TASK_SUFFIXES)] if data else ".csv"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("cat", "dog"):
        (folder / "data" / name).mkdir(parents=True)
    path = (
        folder / "data" / ("cat/1.png" if suffix == ".png" else "labels.txt" if suffix == ".txt" else f"data{suffix}")
    )
    path.write_bytes(data[1:])
    given = folder / "data" if suffix in (".png", ".txt") else path
    for read in (load_task, lambda one: inspect(read_task(one))):
        try:
            task = read(given)
        except InputError as error:
            check(error)
            continue
        for example in (one for part in getattr(task, "splits", {}).values() for one in part[:4]):
            try:
                open_image(example)
            except InputError as error:
                check(error)


READERS: Mapping[str, Callable[[Path, bytes], None]] = {"experts": read_expert, "tasks": read_data}


def write_corpus() -> None:
    """Write one small sound input of each kind, from which others grow."""
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (2, 2)).save(picture, "PNG")
    packed, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, tarfile.open(fileobj=tarred, mode="w") as tar:
        for name in ("cat/1.png", "dog/2.png"):
            archive.writestr(name, picture.getvalue())
        for name, held in (("1.png", picture.getvalue()), ("1.cls", b"a"), ("2.json", b'{"label": "b", "text": "x"}')):
            info = tarfile.TarInfo(name)
            info.size = len(held)
            tar.addfile(info, io.BytesIO(held))
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in (1, 2)],
        "annotations": [{"image_id": i, "category_id": i} for i in (1, 2)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    texts = {
        ".csv": "text,label,split\none,a,train\ntwo,b,test\n",
        ".tsv": "question\tanswer\tcandidates\none\ta\ta|b\n",
        ".jsonl": '{"text": "one", "label": 1}\n{"text": "two", "label": [1, 2]}\n',
        ".json": json.dumps(coco),
        ".yaml": "name: x\nsource: data.csv\ncolumns: {label: stars}\nclasses: [a, b]\nweights: {a: 2}\n",
        ".txt": "a\nb\n",
    }
    data = {suffix: text.encode() for suffix, text in texts.items()}
    data |= {".zip": packed.getvalue(), ".tar": tarred.getvalue(), ".png": picture.getvalue()}
    for suffix, held in data.items():
        _write("tasks", suffix.lstrip("."), bytes([TASK_SUFFIXES.index(suffix)]) + held)
    with tempfile.TemporaryDirectory() as place:
        write_sound(Path(place) / "sound")
        for number, name in enumerate(EXPERT_FILES):
            _write("experts", name.partition(".")[0], bytes([number]) + (Path(place) / "sound" / name).read_bytes())


def _write(kind: str, name: str, data: bytes) -> None:
    (CORPUS / kind).mkdir(parents=True, exist_ok=True)
    (CORPUS / kind / name).write_bytes(data)


def main() -> None:
    """Fuzz one kind of reader."""
    import atheris

    kind, *flags = sys.argv[1:]
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.environ["PITUNE_HOME"] = str(folder / "home")  # which is deleted with the rest before the next input
    with atheris.instrument_imports(include=["pitune"]):
        from pitune.experts import KINDS
        from pitune.tasks.formats.registry import FORMATS
        from pitune.tasks.library import LIBRARIES

        for registry in (KINDS, FORMATS, LIBRARIES):
            registry.all()  # what is imported when it is needed
    reader = READERS[kind]
    found = tempfile.mkdtemp(prefix=f"found-{kind}-")
    known = [] if any(flag.startswith("-merge") for flag in flags) else [found, str(CORPUS / kind)]
    atheris.Setup([sys.argv[0], "-max_len=4096", *flags, *known], lambda data: reader(folder, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
