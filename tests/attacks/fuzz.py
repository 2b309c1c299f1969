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
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

CORPUS = Path(__file__).with_name("corpus")
RECORD = "expert.json"
EXPERT_FILES = (RECORD, "adapter_config.json", "adapter_model.safetensors", "fisher.safetensors")
TASK_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".yaml", ".zip", ".tar", ".parquet", ".png", ".txt")


def read_expert(folder: Path, data: bytes) -> None:
    """Read a sound expert of which one file has other bytes, or one field of its JSON another value.

    The first byte chooses which. Hashes are as the files are, so that what is behind their check is reached too.
    """
    from pitune.errors import InputError
    from pitune.experts import load_expert
    from pitune.files import sha256_bytes

    if not (folder / "sound").is_dir():
        write_sound(folder / "sound")
    place, choice, rest = folder / "expert", data[0] if data else 0, data[1:]
    name = EXPERT_FILES[choice % len(EXPERT_FILES)]
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "sound", place)
    (place / name).write_bytes(changed(place / name, choice, rest) if choice >= len(EXPERT_FILES) else rest)
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        record = json.loads((place / RECORD).read_bytes())
        record["files"].update(
            {one.name: sha256_bytes(one.read_bytes()) for one in place.iterdir() if one.name != RECORD}
        )
        (place / RECORD).write_text(json.dumps(record))
    try:
        load_expert(place)
    except InputError as error:
        check(error)


def changed(path: Path, choice: int, value: bytes) -> bytes:
    """Return a file of JSON, or of safetensors, in whose JSON a field that `choice` counts off is what `value` says."""
    held = path.read_bytes()
    size = 0 if path.suffix == ".json" else int.from_bytes(held[:8], "little")
    whole = json.loads(held[8 : 8 + size] if size else held)
    fields = [(whole, key) for key in whole]
    for inside, key in fields:
        if isinstance(inside[key], dict):
            fields += [(inside[key], one) for one in inside[key]]
    inside, key = fields[choice // len(EXPERT_FILES) % len(fields)]
    try:
        inside[key] = json.loads(value)
    except (ValueError, RecursionError):
        inside[key] = value.decode(errors="replace")
    told = json.dumps(whole).encode()
    return len(told).to_bytes(8, "little") + told + held[8 + size :] if size else told


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
    """Load and check a file of the kind that the first byte chooses, with the rest for its bytes, among sound ones."""
    from pitune.errors import InputError
    from pitune.tasks import inspect, load_task, read_task
    from pitune.tasks.images import open_image

    suffix = TASK_SUFFIXES[data[0] % len(TASK_SUFFIXES)] if data else ".csv"
    shutil.rmtree(folder, ignore_errors=True)
    place = folder / "data"
    if suffix in (".png", ".txt"):  # of a folder of pictures
        for name in ("cat", "dog"):
            (place / name).mkdir(parents=True)
            for number in range(4):
                (place / name / f"{number}.png").write_bytes(picture(f"{name} {number}"))
        path, given = place / ("cat/1.png" if suffix == ".png" else "labels.txt"), place
    else:  # with what it may name
        place.mkdir(parents=True)
        (place / "other.csv").write_bytes(TABLE)
        for number in range(8):
            (place / f"{number}.png").write_bytes(picture(str(number)))
        path = given = place / f"data{suffix}"
    path.write_bytes(data[1:])
    for read in (load_task, lambda one: inspect(read_task(one))):
        try:
            task = read(given)
        except InputError as error:
            check(error)
            continue
        for example in (one for part in getattr(task, "splits", {}).values() for one in part[:4] if one.image):
            try:
                open_image(example)
            except InputError as error:
                check(error)


READERS: Mapping[str, Callable[[Path, bytes], None]] = {"experts": read_expert, "tasks": read_data}


TABLE = b"text,label,split\n" + b"".join(
    f"{label} {number},{label},{split}\n".encode()
    for label in ("good", "bad")
    for number, split in enumerate(("train", "train", "validation", "test"))
)


@lru_cache
def picture(name: str) -> bytes:
    """Return a small picture that no other name has."""
    from PIL import Image

    held = io.BytesIO()
    Image.new("RGB", (2, 2), (zlib.crc32(name.encode()) & 255, len(name), ord(name[-1]))).save(held, "PNG")
    return held.getvalue()


def write_corpus() -> None:
    """Write one small sound input of each kind, from which others grow."""
    packed, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, tarfile.open(fileobj=tarred, mode="w") as tar:
        for name in (f"{label}/{number}.png" for label in ("cat", "dog") for number in range(3)):
            archive.writestr(name, picture(name))
        for number in range(6):
            label = "ab"[number % 2].encode()
            for name, held in ((f"{number}.png", picture(str(number))), (f"{number}.cls", label)):
                info = tarfile.TarInfo(name)
                info.size = len(held)
                tar.addfile(info, io.BytesIO(held))
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in range(8)],
        "annotations": [{"image_id": i, "category_id": 1 + i % 2} for i in range(8)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }
    rows = [{"text": f"text {i}", "label": i % 2} for i in range(8)]
    texts = {
        ".tsv": "question\tanswer\tcandidates\n" + "".join(f"which {i}\t{'ab'[i % 2]}\ta|b\n" for i in range(8)),
        ".jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        ".json": json.dumps(coco),
        ".yaml": "name: x\nsource: other.csv\ncolumns: {label: label}\nclasses: [good, bad]\n",
        ".txt": "cat\ndog\n",
    }
    data = {suffix: text.encode() for suffix, text in texts.items()} | {".csv": TABLE}
    data |= {".zip": packed.getvalue(), ".tar": tarred.getvalue().rstrip(b"\0") + bytes(1024), ".png": picture("cat 1")}
    for suffix, held in data.items():
        _write("tasks", suffix.lstrip("."), bytes([TASK_SUFFIXES.index(suffix)]) + held)
    with tempfile.TemporaryDirectory() as place:
        write_sound(Path(place) / "sound")
        for number, name in enumerate(EXPERT_FILES):
            _write("experts", name.partition(".")[0], bytes([number]) + (Path(place) / "sound" / name).read_bytes())
    for number, value in enumerate((b"1e999", b"-1", b'{"r": 1}', b"[0, 4]", b'"a.query"')):
        _write("experts", f"field-{number}", bytes([len(EXPERT_FILES) * (1 + 5 * number) + number % 4]) + value)


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
    atheris.Setup([sys.argv[0], "-max_len=16384", *flags, *known], lambda data: reader(folder, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
