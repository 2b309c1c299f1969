"""A package that adds one of everything by its entry points alone works from the command line, workers included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Command

import pitune

PLUGIN = Path(__file__).parent / "plugin"
WORDS = {
    "taste": {"sweet": "honey sugar candy syrup", "sour": "lemon vinegar lime pickle"},
    "mood": {"glad": "laugh smile party sun", "sad": "tears rain grey alone"},
    "place": {"sea": "wave beach salt ship", "hill": "slope rock climb goat"},
}
RUN = """
import contextlib, io, json, sys
from pitune.cli import main
for line in json.load(sys.stdin):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main([*line, "--json"])
    print(json.dumps([status, json.loads(out.getvalue()) if status == 0 else None]))
    if status:
        break
else:
    import pitune
    print(json.dumps([0, {"method": pitune.load_expert("out").method}]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages that holds what an installer writes of the plugin."""
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    site = tmp_path_factory.mktemp("site")
    info = site / f"pitune_example-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [line for group, points in groups for line in (f"[{group}]", *(f"{k} = {v}" for k, v in points.items()))]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def run(lines: list[list[str]], folder: Path, *paths: Path) -> list[dict[str, Any]]:
    """Run command lines in one process that knows of packages by their entry points alone, and load what came `out`.

    Return what each prints, and the kind of the expert.
    """
    search = [str(path) for path in (*paths, Path(pitune.__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(search), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(lines) + 1, done.stderr
    assert all(status == 0 for status, _ in results), done.stderr
    return [printed for _, printed in results]


def test_a_package_adds_one_of_everything(
    installed: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task, classes in WORDS.items():
        rows = [
            f"{label}: {first} {second} {number}"
            for label, words in classes.items()
            for number, first in enumerate(words.split() * 4)
            for second in words.split()[: 1 + number % 2]
        ]
        (tmp_path / f"{task}.notes").write_text("\n".join(rows) + "\n", encoding="utf-8")
    files, bag = [f"{task}.notes" for task in WORDS], ["--backbone", "bag"]
    short = ["--shots", "2", "--steps", "6", *bag]
    near_by = ["--pool", "pool", "--by", "validated"]
    study = ["--method", "half single", "--method", "single", "--pool", "pool", "--shots", "2", "--seeds", "1"]
    study += ["-k", "1", "--steps", "4", "--workers", "2", "--out", "compare"]
    fitted = [["fit", file, "--method", "gate", "--pool", "pool", *short] for file in files[:2]]
    printed = run(
        [
            *fitted,
            ["graph", "--pool", "pool"],
            ["neighbours", files[2], *near_by, "--shots", "2", *bag],
            ["tune", files[2], *near_by, "-k", "2", "--method", "gate", "--out", "out", *short],
            ["eval", "out", files[2], *bag],
            ["predict", "out", "wave beach", "--task", files[2], *bag],
            ["study", "compare", *files, *study, *bag],
        ],
        tmp_path,
        installed,
        PLUGIN / "src",
    )
    first, second, graph, near, tuned, scored, answered, compared, loaded = printed
    assert first["metric"] == "error-rate"
    assert graph["names"] == ["mood-gate-2-0", "taste-gate-2-0"]
    validated = {one["expert"]: one["validation"] for one in (first, second)}
    assert {one["name"]: one["similarity"] for one in near["neighbours"]} == validated
    assert {one["name"] for one in tuned["neighbours"]} == set(validated)
    assert scored["metric"] == "error-rate"
    assert 0 <= scored["value"] <= 1
    assert answered["predictions"][0]["answer"] in WORDS["place"]
    assert {row["method"] for row in compared["rows"]} == {"half single", "single"}
    assert len(compared["rows"]) == 2 * len(files)

    assert loaded == {"method": "gate"}

    monkeypatch.chdir(tmp_path)  # in this process, which knows nothing of the package
    line = command("pool", "show", "mood-gate-2-0", "--pool", "pool", fails=True)
    assert "come with the package pitune-example; install it (pip install pitune-example)" in line
