"""Run the real commands on what strangers gave, with Python's audit hook listening: what data may never bring about.

All commands run once on sound data, so that what they import is known; then once more on a pool, tasks, pictures, an
archive and an adapter that say all they can, whether they are refused or read. Told as one JSON object: the commands
that ended, and every import of something new, process, socket, library, pickle, or write outside.

    python -m tests.attacks.audit
"""

from __future__ import annotations

import codecs
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from PIL import Image
from tests.attacks.kills import build

from pitune import cli

_NEVER = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"),
    *("ctypes.dlopen", "pickle.find_class", "webbrowser.open", "urllib.Request"),
)
_CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("shutil.rmtree", "shutil.move", "shutil.copyfile", "sqlite3.connect"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_MODEL = ("--backbone", "t5")
_FAST = ("--shots", "2", "--steps", "2", "--seed")


class Listener:
    """What was brought about while it listens: `imports`, and `faults` by event."""

    def __init__(self, inside: Path) -> None:
        self.inside, self.listens = inside, False
        self.imports: set[str] = set()
        self.faults: list[str] = []

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.listens:
            return
        self.listens = False  # what is done here is no command's
        try:
            if event == "import":
                self.imports.add(str(arguments[0]))
            elif self._is_fault(event, arguments):
                self.faults.append(f"{event} {arguments!r:.200}")
        finally:
            self.listens = True

    def _is_fault(self, event: str, arguments: tuple[Any, ...]) -> bool:
        if event == "open":
            return bool(arguments[2] & _WRITING) and not self._is_inside(arguments[0])
        if event in _CHANGES:
            return not self._is_inside(arguments[0], arguments[-1])
        return event in _NEVER or event.startswith("socket.")

    def _is_inside(self, path: Any, folder: Any = -1) -> bool:
        if isinstance(path, int) or path in (os.devnull, ":memory:"):
            return True
        start = Path(os.readlink(f"/proc/self/fd/{folder}")) if isinstance(folder, int) and folder > 2 else Path.cwd()
        return (start / os.fsdecode(path)).resolve().is_relative_to(self.inside)


def commands(data: str, pool: str, seed: str) -> list[tuple[str, ...]]:
    """Return every command that reads what others made, on a task and a pool."""
    expert = f"{pool}/taste"
    return [
        ("tasks", "check", data),
        ("pool", "list", "--pool", pool),
        ("pool", "verify", "--pool", pool),
        *(("pool", "show", name, "--pool", pool) for name in ("taste", "odd")),
        ("pool", "add", "stranger", "--pool", pool, "--name", f"added{seed}"),
        ("pool", "add", f"{pool}/odd", "--pool", pool, "--name", f"odd{seed}"),
        ("pool", "import", f"peft-{pool}", "--pool", pool, "--name", f"in{seed}", *_MODEL, "--any-base"),
        ("pool", "export", "taste", "--pool", pool, "--out", f"out{seed}"),
        ("pool", "clean", "--pool", pool),
        ("doctor", pool),
        ("fit", data, *_MODEL, *_FAST, seed, "--pool", pool, "--name", f"fitted{seed}"),
        ("multitask", data, "mood.csv", *_MODEL, *_FAST, seed, "--out", f"both{seed}"),
        ("graph", "--pool", pool, *_MODEL, "--html", f"graph{seed}.html"),
        ("neighbours", data, "--pool", pool, *_MODEL, "--shots", "2"),
        ("tune", data, "--pool", pool, *_MODEL, *_FAST, seed, "-k", "1", "--out", f"tuned{seed}"),
        ("eval", expert, data, *_MODEL),
        ("predict", expert, "sweet", *_MODEL, "--task", data, "--out", f"said{seed}.csv"),
        ("predict", f"{pool}/odd", "sweet", *_MODEL),
        ("pool", "remove", f"added{seed}", "--pool", pool),
        ("tasks", "check", "pictures"),
        ("tasks", "check", "archive.zip"),
        ("tasks", "check", "task.yaml"),
    ]


def make_hostile(world: Path) -> None:
    """Write beside the sound pool and tasks those of a stranger, which name modules, programs and places."""
    marker = "import os; os.system('touch made')"
    rows = (world / "taste.csv").read_text().replace("sweet", f"=cmd|'{marker}'!A0 __import__('antigravity')")
    (world / "hostile.csv").write_text(rows)
    shutil.copytree(world / "pool", world / "strangers")
    shutil.copytree(world / "strangers" / "mood", world / "strangers" / "odd")
    record = json.loads((world / "strangers" / "odd" / "expert.json").read_text())
    card = record["card"] | {"name": "odd", "task": "antigravity:this", "base_model": "../../etc/passwd"}
    record |= {"method": "antigravity", "package": "antigravity", "card": card}
    (world / "strangers" / "odd" / "expert.json").write_text(json.dumps(record))
    for name in ("cat", "dog"):
        (world / "pictures" / name).mkdir(parents=True)
        (world / "pictures" / name / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with zipfile.ZipFile(world / "archive.zip", "w") as archive:
        archive.writestr("../../out.csv", "text,label\n")
    (world / "task.yaml").write_text("name: !!python/object/apply:os.system ['touch made']\nsource: hostile.csv\n")
    folder = world / "peft-strangers"
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"auto_mapping": {"base_model_class": "this", "parent_library": "antigravity"}}
    config |= {"peft_type": "PEFT_antigravity", "hook": marker}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def run(listener: Listener, some: Sequence[tuple[str, ...]]) -> dict[str, int]:
    """Run commands, and return how each ended."""
    ends = {}
    for one in some:
        listener.listens = True
        try:
            ends[" ".join(one)] = cli.main(one)
        finally:
            listener.listens = False
    return ends


def listen(place: Path) -> dict[str, Any]:
    """Return how the commands ended and what was heard; this process goes on to listen."""
    for name in ("antigravity", "this"):  # what hostile data names is not there yet
        sys.modules.pop(name, None)
    Image.init()  # all of Pillow's own formats, which a file that is of none has it try
    codecs.lookup("cp437")  # the same of zipfile's names
    sys.dont_write_bytecode = True
    world = place.resolve() / "world"
    world.mkdir()
    build(world)
    known = Listener(world)
    sys.addaudithook(known.hear)
    assert cli.main(("pool", "export", "mood", "--pool", "pool", "--out", "peft-pool")) == 0
    shutil.copytree(world / "peft-pool", world / "peft-strangers")
    sound = run(known, commands("taste.csv", "pool", "5"))
    make_hostile(world)
    before = {path.name for path in place.iterdir()}
    heard = Listener(world)
    sys.addaudithook(heard.hear)
    hostile = run(heard, commands("hostile.csv", "strangers", "6"))
    made = [str(path) for path in place.rglob("made")]
    made += [path.name for path in place.iterdir() if path.name not in before]
    os.chdir("/")
    told = {"sound": sound, "hostile": hostile, "faults": known.faults + heard.faults + made}
    return told | {"imports": sorted(heard.imports - known.imports)}


def main() -> None:
    """Print what was heard."""
    with tempfile.TemporaryDirectory(prefix="audit-") as place, redirect_stdout(sys.stderr):
        told = listen(Path(place))
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
