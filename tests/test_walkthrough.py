"""The walkthrough shows what its commands print, which the script that writes it runs."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pitune import cli
from pitune.pocket.backbone import Pocket

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "walkthrough.md"
SMALL = """Two commands.

```console
$ pitune init moods.csv --out moods.yaml
something of before
```

*0 s of one processor core.*

```console
$ pitune tasks check moods.yaml
```

## The program

```text
import csv
rows = [(f"text {n}", "ab"[n % 2]) for n in range(30)]
with open("moods.csv", "w", newline="") as file:
    csv.writer(file).writerows([("text", "label"), *rows])
```
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walkthrough", ROOT / "scripts" / "walkthrough.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sections(script: ModuleType) -> dict[str, list[tuple[str, str, int | None]]]:
    """Return by heading the commands of the page, each with what it shows and its seconds."""
    found = {}
    for part in PAGE.read_text("utf-8").split("\n## ")[1:]:
        blocks = [one for one in script.BLOCK.finditer(part) if one[2].startswith("$ ")]
        lines = [(one[2].split("\n", 1), re.search(r"\*(\d+) s", one[0].split("```")[-1])) for one in blocks]
        found[part.split("\n")[0]] = [(first, rest, int(time[1]) if time else None) for (first, rest), time in lines]
    return found


def test_a_page_is_written_anew_and_held_against_what_is_printed(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(SMALL, encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["walkthrough.py", str(page)])
    assert script.main() == 0
    text = page.read_text("utf-8")
    assert "```console\n$ pitune init moods.csv --out moods.yaml\nwrote moods.yaml; next: pitune tasks" in text
    assert re.search(r"check moods.yaml\n```\n\n\*\d+ s of one processor core\.\*\n", text)
    assert "something of before" not in text
    assert re.search(r"\$ pitune tasks check moods.yaml\n class +all\n", text)
    assert text.endswith(SMALL[SMALL.index("## The program") :])
    monkeypatch.setattr(sys, "argv", ["walkthrough.py", str(page), "--check"])
    page.write_text(text.replace("30 all", "31 all").replace("*0 s", "*99 s"), encoding="utf-8")
    assert script.main() == 1
    said = capsys.readouterr().out
    assert "-moods: sound (31 all)\n+moods: sound (30 all)" in said
    assert "processor" not in said


def test_the_numbers_that_the_page_draws_from_its_outputs_are_theirs(script: ModuleType) -> None:
    text, found = PAGE.read_text("utf-8"), sections(script)
    assert all(shown.strip() for of in found.values() for _, shown, _ in of)
    times = {name: sum(time or 0 for _, _, time in of) for name, of in found.items()}
    said = re.search(r"packages together took (\d+) s .*?weather (\d+) s, beside the pool's (\d+) s", text, re.DOTALL)
    assert said is not None
    assert [int(one) for one in said.groups()] == [times["The table"], times["The pictures"], times["A pool"]]
    for name, n, alone, expert, by, low, high in re.findall(
        r"^\| (\w+), (\d+) test examples \| (.*) \| (.*) \| \+([\d.]+) \[([−+][\d.]+), ([−+][\d.]+)\] \|$", text, re.M
    ):
        shown = next(shown for of in found.values() for line, shown, _ in of if f"eval {name}-expert" in line)
        assert f"test examples (the backbone alone 0{alone} [" in shown
        assert f"pi-{name}-lora-4-0 has accuracy 0{expert} [" in shown
        ends = ", ".join(f"{float(one.replace('−', '-')) / 100:+.3f}" for one in (low, high))
        assert f"That is {float(by) / 100:+.3f} [{ends}] over the backbone alone" in shown
        assert f"on the {n} test examples" in shown
    assert "Neither set has a relative" in text
    assert text.count("No neighbour lowers the loss on the labels at any scale") == 2


def test_what_needs_no_backbone_prints_what_the_page_shows(
    pocket_is_tiny: Pocket,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    program = next(
        one[2] for one in script.BLOCK.finditer(PAGE.read_text("utf-8")) if one[2].startswith("import random")
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    (tmp_path / "packages.csv").write_text(
        "summary,section\n" + "".join(f"text {n},{'ab'[n % 2]}\n" for n in range(30)), encoding="utf-8"
    )
    commands = [one for of in sections(script).values() for one in of]
    quick = [one for one in commands if one[0].startswith(("$ pitune init", "$ pitune tasks check weather"))]
    assert len(quick) == 2
    for line, shown, _ in quick:
        capsys.readouterr()
        assert cli.main(shlex.split(line)[2:]) == 0
        printed = capsys.readouterr()
        lines = [one.rstrip() for one in (printed.err + printed.out).splitlines() if one.strip()]
        assert lines == shown.splitlines()
