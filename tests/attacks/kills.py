"""Kill each command that writes at random times, and hold what is left against what an undisturbed run leaves.

A round copies a small world, starts a command in it and kills it. What a pool lists then must be whole and what was
finished must still be there; the same command is run again to its end, the pool is cleaned, and every file, hidden
ones too, must have the bytes of an undisturbed run. Rows of studies keep their seconds, so that a row that was
measured again would differ. Processes are forked, which spares each the imports, and the system ends them after a
random share of the processor time that the command takes, so that a busy machine kills no later than an idle one.

    python -m tests.attacks.kills --rounds 100
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
import torch  # after what it reads
import typer
from tests.backbones.conftest import write_t5
from tests.conftest import write_tiny_tasks

from pitune import cli, studies
from pitune.training import TrainingSettings

_MODEL = ("--backbone", "t5", "--seed", "3")
_LABELS = ("--shots", "2")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "fit": ("fit", "place.csv", *_MODEL, *_LABELS, "--steps", "8", "--pool", "pool", "--name", "new"),
    "tune": ("tune", "place.csv", *_MODEL, *_LABELS, "--steps", "6", "--pool", "pool", "-k", "2", "--out", "new"),
    "multitask": (
        *("multitask", "mood.csv", "place.csv", *_MODEL, *_LABELS),
        *("--steps", "8", "--pool", "pool", "--name", "new"),
    ),
    "pool add": ("pool", "add", "stranger", "--pool", "pool", "--name", "new"),
    "study compare": (
        *("study", "compare", "taste.csv", "mood.csv", *_MODEL, "--quick", "--out", "study", "--shots", "2"),
        *("--seeds", "1", "--steps", "4", "--test", "6", "-k", "1"),
        *("--method", "zero-shot", "--method", "single", "--method", "pi"),
    ),
}
_CLEAN = ("pool", "clean", "--pool", "pool")
_SLACK = 1.1  # seconds after which what a killed process left is known to be nobody's


def build(folder: Path) -> None:
    """Write the world: a tiny backbone, tasks, a pool of two experts, and one outside it."""
    torch.manual_seed(0)
    write_t5(folder / "t5")
    write_tiny_tasks(folder)
    shutil.rmtree(folder / "colour")
    _work_in(folder)
    for task, where in (("taste", "pool/taste"), ("mood", "pool/mood"), ("taste", "stranger")):
        name = where.rpartition("/")[2]
        known = ("fit", f"{task}.csv", *_MODEL, *_LABELS, "--steps", "4", "--rank", "2", "--name", name, "--out", where)
        assert cli.main(known) == 0
    shutil.rmtree(folder / "home")


def _work_in(folder: Path) -> None:
    os.chdir(folder)
    os.environ["PITUNE_HOME"] = str(folder / "home")


def run(folder: Path, arguments: Sequence[str], seconds: float = 0.0) -> tuple[int, str, float]:
    """Run a command in a process of its own, in a folder that holds its cache too, for so long of processor time.

    Return how it ended, as −SIGPROF if it was killed, what it printed, and the processor time that it took.
    """
    log = Path(f"{folder}.log")
    process = os.fork()
    if not process:
        status = 70
        try:
            _work_in(folder)
            with log.open("wb") as sink:
                os.dup2(sink.fileno(), 1)
                os.dup2(sink.fileno(), 2)
            signal.signal(signal.SIGPROF, signal.SIG_DFL)  # which ends a process at once, as SIGKILL does
            signal.setitimer(signal.ITIMER_PROF, seconds)
            status = cli.main(arguments)
            sys.stdout.flush()
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
        finally:
            os._exit(status)
    _, status, used = os.wait4(process, 0)
    return os.waitstatus_to_exitcode(status), log.read_text(errors="replace"), used.ru_utime + used.ru_stime


def must(folder: Path, arguments: Sequence[str]) -> tuple[str, float]:
    """Run a command that has to end well; return what it printed and the processor time."""
    status, said, took = run(folder, arguments)
    assert status == 0, f"{' '.join(arguments)} ended with {status}: {said[-2000:]}"
    return said, took


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file's bytes by its path; what a run takes to measure is left out, and the cache of pools."""
    found = (path for path in folder.rglob("*") if path.parent.name != "pools")
    return {str(path.relative_to(folder)): _timeless(path) if path.is_file() else b"" for path in found}


def _timeless(path: Path) -> bytes:
    data = path.read_bytes()
    if path.name == "checkpoint.safetensors":
        return b""  # what its header says may stand in any order
    if path.name == "rows.jsonl":
        return b"\n".join(_without_seconds(json.loads(line)) for line in data.splitlines())
    return _without_seconds(json.loads(data)) if path.parent.name == "study" and path.suffix == ".json" else data


def _without_seconds(value: object) -> bytes:
    def plain(one: object) -> object:
        if isinstance(one, dict):
            return {key: plain(inner) for key, inner in one.items() if key != "seconds"}
        return [plain(inner) for inner in one] if isinstance(one, list) else one

    return json.dumps(plain(value), sort_keys=True).encode()


def experts(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """Return what the pools in a folder list, with the bytes of each; raise `AssertionError` if one is not sound."""
    found = {}
    for pool in ("pool", "study/pool"):
        if not (folder / pool).is_dir():
            continue
        said, _ = must(folder, ("pool", "list", "--pool", pool, "--json"))
        for one in json.loads(said.splitlines()[-1])["experts"]:
            assert one["problem"] is None, f"{pool} lists a bad expert: {one}"
            files = sorted((folder / pool / one["name"]).iterdir())
            found[f"{pool}/{one['name']}"] = tuple(file.read_bytes() for file in files)
    return found


def rows(folder: Path) -> list[str]:
    """Return the whole lines of a study's rows, with the seconds that they took."""
    path = folder / "study" / "rows.jsonl"
    return path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []


def kill(world: Path, command: str, rounds: int, seed: int, tell: Callable[[str], None]) -> Counter[str]:
    """Kill a command at so many random times; return when, in tenths of its run, and raise `AssertionError` at a fault.

    Kills that came too late are drawn again.
    """
    folder, arguments = world.with_name("turn"), COMMANDS[command]
    fresh(world, folder)
    _work_in(folder)
    assert cli.main(arguments) == 0  # in this process, which then has all that the command imports
    _work_in(world)
    fresh(world, folder)
    before = experts(folder)
    _, took = must(folder, arguments)
    must(folder, _CLEAN)
    expected, draw = contents(folder), random.Random(f"{command} {seed}")
    when: Counter[str] = Counter()
    while sum(when.values()) < rounds:
        fresh(world, folder)
        share = draw.random()
        status, _, _ = run(folder, arguments, took * share)
        if status != -signal.SIGPROF:
            continue
        left, measured = experts(folder), rows(folder)
        assert before.items() <= left.items(), f"experts were lost: {before.keys() - left.keys()}"
        time.sleep(_SLACK)
        must(folder, arguments)
        assert left.items() <= experts(folder).items(), "an expert that was finished has changed"
        assert set(measured) <= set(rows(folder)), "a row that was finished was measured again"
        must(folder, _CLEAN)
        found = contents(folder)
        differ = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        assert not differ, f"{command} killed after {share:.3f} of {took:.2f} s: {differ[:9]} are not as without"
        when[f"{int(share * 10) / 10:.1f}"] += 1
        tell(f"{command}: {sum(when.values())} of {rounds}")
    return when


def fresh(world: Path, folder: Path) -> None:
    """Make a folder a copy of the world."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(world, folder)


def kill_each(place: Path, commands: Sequence[str], rounds: int, seed: int = 0) -> None:
    """Kill commands so often, and print how often each was killed when; this process is then of no other use."""
    torch.set_num_threads(1)
    world = place / "world"
    world.mkdir()
    build(world)
    studies.QUICK = studies.QUICK.but(source_training=TrainingSettings(steps=6, evaluations=2))
    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]  # once, not in every process
    for command in commands:
        when = kill(world, command, rounds, seed, lambda line: print(line, file=sys.stderr, flush=True))
        print(f"{command}: {sum(when.values())} kills, by tenth of the run {dict(sorted(when.items()))}", flush=True)


def main() -> None:
    """Kill each command so often."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--command", action="append", choices=COMMANDS)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as place:
        kill_each(Path(place), given.command or tuple(COMMANDS), given.rounds, given.seed)


if __name__ == "__main__":
    main()
