"""Every block of the pages runs as it stands, one after the other, in a folder of small data and a tiny backbone."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.backbones.conftest import write_clip
from tests.conftest import write_tiny_tasks

import pitune
from pitune import cli
from pitune.backbones.family import FAMILIES
from pitune.pocket.backbone import Pocket
from pitune.pocket.library import PocketLibrary
from pitune.tasks import Task
from pitune.tasks.formats.declaration import Declaration
from pitune.training import TrainingSettings, settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [path for path in (*sorted(DOCS.rglob("*.md")), ROOT / "README.md") if path.parent.name != "adding"]
LANGUAGES = {"python", "sh", "yaml", "console", "text"}
WITH_BLOCKS = {"python", "sh", "yaml"}
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAIRS = {"reviews": "taste", "moods": "mood"}
PICTURES = ("pictures", "drawings", "photos")


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return each fenced block with its language, behind as many empty lines as stand before it in the page."""
    text = page.read_text(encoding="utf-8")
    return [(one[1], "\n" * text[: one.start(2)].count("\n") + one[2]) for one in BLOCK.finditer(text)]


def commands(block: str) -> Iterator[list[str]]:
    """Yield the arguments of each `pitune …` of a block; other programs' lines are not run."""
    for line in map(str.strip, block.splitlines()):
        if line.removeprefix("$ ").startswith("pitune "):
            yield shlex.split(line.removeprefix("$ "), comments=True)[1:]


def runs(page: Path) -> bool:
    return any(language in WITH_BLOCKS for language, _ in blocks(page))


@pytest.fixture(scope="module")
def experts(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> list[pitune.Expert]:
    """An expert of every tiny task."""
    quick = TrainingSettings(steps=2, batch_size=8)
    made = {
        name: pitune.fit(tiny_backbone, task, shots=2, settings=quick, folds=0) for name, task in tiny_tasks.items()
    }
    return [replace(one, card=one.card.model_copy(update={"name": f"kept-{name}"})) for name, one in made.items()]


@pytest.fixture
def sandbox(
    tmp_path: Path,
    tiny_tasks: dict[str, Task],
    pocket_is_tiny: Pocket,
    experts: list[pitune.Expert],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A folder with own data, a pool, a checkpoint and an adapter of PEFT; named tasks are tiny, training is short."""

    def load(library: PocketLibrary, name: str, options: object) -> Task:
        pictures = name.removeprefix("pocket/") in ("mnist", "digits", "fashion", "emoji-images")
        return replace(tiny_tasks["colour" if pictures else "taste"], name=name)

    monkeypatch.setattr(PocketLibrary, "load", load)
    for steps in ("_FEWEST", "_MOST", "_AT_ANSWERS"):
        monkeypatch.setattr(settings, steps, 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    place = tmp_path / "docs"
    place.mkdir()
    monkeypatch.chdir(place)
    made = write_tiny_tasks(tmp_path)
    for name, source in PAIRS.items():
        shutil.copy(made[source], f"{name}.csv")
    for name in PICTURES:
        shutil.copytree(made["colour"], name)
    pool = pitune.ExpertPool("pool")
    for expert in experts:
        pool.add(expert)
    pitune.export_peft(pool.get("kept-taste"), "theirs", pocket_is_tiny)
    write_clip(place / "clip")
    Path("docs").symlink_to(DOCS)
    return place


@pytest.mark.parametrize("page", [page for page in PAGES if runs(page)], ids=lambda page: page.stem)
def test_the_blocks_of_a_page_run(page: Path, sandbox: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, str(page), "exec"), names)
        elif language == "sh":
            for line in commands(block):
                assert cli.main(line) == 0, f"{page}: pitune {shlex.join(line)}"
        elif language == "yaml":
            said = yaml.safe_load(block)
            if not block.lstrip().startswith("# fit.yaml"):
                Declaration.model_validate(said)
            else:
                Path("fit.yaml").write_text(block, encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_block_says_what_it_is(page: Path) -> None:
    found = {language for language, _ in blocks(page)}
    assert found <= LANGUAGES
    for language, block in blocks(page):
        if language in ("sh", "console"):
            assert list(commands(block)), "a block without a command is text"


def test_pages_of_fields_and_types_have_all_of_them() -> None:
    fields = re.findall(r"^\| `(\w+)` \|", (DOCS / "yaml.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert fields == list(Declaration.model_fields)
    listed = set(re.findall(r"`([\w-]+)`", (DOCS / "backbone.md").read_text(encoding="utf-8")))
    assert {kind for family in FAMILIES.all() for kind in family.types} <= listed
    documented = set(
        re.findall(r"^::: pitune\..*\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    assert documented == {name for name in dir(pitune) if name in pitune._HOMES}


def texts_of_the_package() -> str:
    """Return all text that the package's code holds, with `…` where a value stands."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(text(one) for one in node.values)
        return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "…"

    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in Path(pitune.__file__).parent.rglob("*.py"))
    return "\n".join(
        text(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant | ast.JoinedStr)
    )


def test_the_lines_of_error_are_the_programs() -> None:
    known = texts_of_the_package()
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").split("## Results")[0]
    lines = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(lines) > 10
    for line in lines:
        for phrase in re.findall(r"`([^`]+)`", line.split(" | ")[0]):
            for part in phrase.split("…"):
                assert part.strip(" ':;,") in known, phrase


def test_a_claims_numbers_stand_in_the_page_that_it_names() -> None:
    rows = re.findall(
        r"^\| .* \| (.*) \| .* \| \[[\w ]+\]\((.*)\) \|$", (DOCS / "claims.md").read_text("utf-8"), re.MULTILINE
    )
    assert len(rows) > 10
    for number, page in rows:
        text = (DOCS / page).read_text(encoding="utf-8")
        for one in re.findall(r"\d*\.\d+|\d+e-\d+", number):
            assert one in text, (number, page)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PEFT, which notebooks call themselves
@pytest.mark.parametrize("notebook", sorted(DOCS.glob("notebooks/*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, sandbox: Path) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    for i, cell in enumerate(cells):
        assert not cell.get("outputs"), "notebooks are kept without outputs"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{notebook.name}, cell {i}", "exec"), names)
