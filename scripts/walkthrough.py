"""Run the commands of docs/walkthrough.md from nothing, and write into it what they print and how long they take.

    python scripts/walkthrough.py [PAGE] [--check] [--keep DIR]

The page's programs (blocks that begin with `import`) write the sets; then every line that begins with `$` is run, in
the order of the page, in a folder and a cache of its own, which holds nothing but what was fetched out of packages.
What stands below such a line in its block is replaced by what the command prints, without empty lines and with `~` for
the home folder; the line below a block gets its time. A server is there for lines that ask it: that of docs/loading.md,
with the last expert made.

With `--check` the page stays as it is, and the status is 1 if anything but times would be another.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"```(console|text)\n(.*?)```\n(?:\n\*\d+ s of one processor core\.\*\n)?", re.DOTALL)
TIME = re.compile(r"\*\d+ s of one processor core\.\*")
ANY_TIME = re.compile(rf"{TIME.pattern}|about \d+ \w+ here|trial of [\d.]+ s")
PROGRAM = "import sys; sys.argv[0] = 'pitune'; from pitune.cli import main; sys.exit(main())"
SERVER = ("http://127.0.0.1:8000", ('("127.0.0.1", 0)', '("127.0.0.1", 8000)'), ('"./clip"', '"pocket"'))
Run = Callable[[str], tuple[str, float]]


def main() -> int:
    """Run the page and write it, or say in what it differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path, default=DOCS / "walkthrough.md")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--keep", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        place = (asked.keep or Path(made)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        before = asked.page.read_text(encoding="utf-8")
        after = written_anew(before, runner(place, surroundings(place)))
    if not asked.check:
        asked.page.write_text(after, encoding="utf-8")
        return 0
    lines = (ANY_TIME.sub("", text).splitlines() for text in (before, after))
    differs = list(unified_diff(*lines, "the page", "what is printed", lineterm="", n=1))
    print("\n".join(differs) or f"{asked.page}: every command prints what the page shows")
    return 1 if differs else 0


def surroundings(place: Path) -> dict[str, str]:
    """Return the environment of every command: one thread, and a cache that holds what packages gave and no more."""
    ours = Path(os.environ.get("PITUNE_HOME", Path.home() / ".cache" / "pitune"))
    cache = place / ".cache"
    cache.mkdir(exist_ok=True)
    for name in ("archives", "pocket", "tasks"):
        if (ours / name).is_dir() and not (cache / name).exists():
            (cache / name).symlink_to(ours / name)
    return {**os.environ, "PITUNE_HOME": str(cache), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def runner(place: Path, environment: Mapping[str, str]) -> Run:
    """Return what runs a line in a folder, and gives what it printed and the seconds of a processor that it took."""
    folder = place / "sets"
    folder.mkdir(exist_ok=True)

    def run(line: str) -> tuple[str, float]:
        command = (
            line.replace("pitune ", f'{sys.executable} -c "{PROGRAM}" ', 1) if line.startswith("pitune ") else line
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        with served(folder, environment) if SERVER[0] in line else nothing():
            done = subprocess.run(
                command, shell=True, cwd=folder, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT
            )
        said = done.stdout.replace(environment["PITUNE_HOME"], "~/.cache/pitune")
        if done.returncode:
            raise SystemExit(f"$ {line}\n{said}\nended with status {done.returncode}")
        return said, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before

    return run


def written_anew(page: str, run: Run) -> str:
    """Return a page with what its commands print now; first its programs are run, which write what these need."""
    for block in BLOCK.finditer(page):
        if block[2].startswith("import "):
            run(f"{sys.executable} - <<'END'\n{block[2]}END")
    return BLOCK.sub(lambda block: _shown(block, run), page)


def _shown(block: re.Match[str], run: Run) -> str:
    commands = [line for line in block[2].splitlines() if line.startswith("$ ")]
    if not commands:
        return block[0]
    lines, seconds = list[str](), 0.0
    for command in commands:
        print(command, file=sys.stderr, flush=True)
        said, took = run(command[2:])
        lines += [command, *(line.rstrip() for line in said.splitlines() if line.strip())]
        seconds += took
    shown = "\n".join([f"```{block[1]}", *lines, "```\n"])
    return shown + (f"\n*{seconds:.0f} s of one processor core.*\n" if TIME.search(block[0]) else "")


@contextmanager
def nothing() -> Iterator[None]:
    """Do nothing around a line."""
    yield


@contextmanager
def served(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Let the server of docs/loading.md answer by the expert that was made last."""
    last = max(folder.glob("*/expert.json"), key=lambda path: path.stat().st_mtime).parent.name
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "loading.md").read_text(encoding="utf-8"), re.DOTALL)
    program = next(block for block in blocks if "HTTPServer(" in block) + "\nserver.serve_forever()\n"
    for old, new in (*SERVER[1:], ('"clip-pool/flags"', f'"{last}"')):
        assert old in program, f"docs/loading.md: its server has no {old}"
        program = program.replace(old, new)
    server = subprocess.Popen([sys.executable, "-c", program], cwd=folder, env=environment)
    try:
        for _ in range(600):
            if subprocess.run(["curl", "--silent", SERVER[0]], stdout=-3, check=False).returncode != 7:  # refused
                break
            time.sleep(0.2)
        yield
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    shutil.which("curl") or sys.exit("curl is not installed, which asks the server")
    sys.exit(main())
