"""Bad input: exit status 2, one clear line, and nothing written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import pitune
from pitune import cli
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def expert(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> pitune.Expert:
    settings = pitune.TrainingSettings(steps=3)
    made = pitune.fit(tiny_backbone, tiny_tasks["taste"], shots=2, settings=settings)
    return replace(made, card=made.card.model_copy(update={"name": "taste"}))


@pytest.fixture
def pool(expert: pitune.Expert, tmp_path: Path) -> Path:
    pitune.ExpertPool(tmp_path / "pool").add(expert)
    return tmp_path / "pool"


@pytest.fixture
def refused(pocket_is_tiny: Pocket, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refused:
    """Return a function that runs `pitune …`, which must refuse and write nothing, and returns its one line."""

    def run(*arguments: object) -> str:
        before = _files(tmp_path)
        capsys.readouterr()
        status = cli.main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert status == 2
        assert printed.out == ""
        assert _files(tmp_path) == before
        lines = printed.err.splitlines()
        assert len(lines) == 1
        return lines[0].removeprefix("pitune: ")

    return run


def _files(folder: Path) -> dict[Path, bytes]:
    """Return the files below a folder; what is known of pools is a cache that reading them may begin."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent.name != "pools")
    return {path: path.read_bytes() for path in found}


def _named(text: str, tasks: dict[str, Path]) -> list[str]:
    return [str(tasks[word[1:]]) if word.startswith("@") else word for word in text.split()]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit nothing", "unknown task 'nothing'"),
        ("fit missing.csv", "missing.csv: no such file"),
        ("fit @taste --method nothing", "unknown method 'nothing'; expected one of: adapter, bitfit, "),
        ("fit @taste --device nothing", "device 'nothing' cannot be used"),
        ("fit @taste --backbone nothing", "unknown backbone 'nothing'"),
        ("fit @taste --shots 0", "shots is 0, expected 1 or more"),
        ("fit @taste --shots 500", "expected at least 500"),
        ("fit @taste --steps 0", "--steps: input should be greater than or equal to 1"),
        (f"fit @taste --steps {10**20}", "--steps: input should be less than or equal to 2147483648"),
        (f"fit @taste --batch-size {2**63}", "--batch-size: input should be less than or equal to 2147483648"),
        ("fit @taste --shots 2 --folds 100", "found 100 folds; expected 1 to 4, as many as a class has labels"),
        ("fit @taste --set r=1:30", "r: input should be a valid integer (found '1:30')"),
        ("fit @taste --device meta", "device 'meta' cannot be used"),
        ("fit @taste --learning-rate -1", "--learning-rate: input should be greater than 0"),
        ("fit @taste --rank 0", "--rank: expected 1 or more (found 0)"),
        ("fit @taste --rank 4 --method adapter", "--rank: adapter experts have none"),
        ("fit @taste --set r", "--set r: expected NAME=VALUE"),
        ("fit @taste --method adapter --dropout 0.2", "dropout is of what a LoRA reads"),
        ("fit @taste --dropout 1", "--dropout: input should be less than 1"),
        ("fit @taste --precision fp8", "--precision: input should be 'fp32', 'bf16' or 'fp16'"),
        ("multitask @taste --method adapter --dropout 0.2 --out there", "dropout is of what a LoRA reads"),
        ("study compare @taste @mood --precision fp8", "--precision: input should be 'fp32', 'bf16' or 'fp16'"),
        ("fit @taste --set width=4", "lora experts have no setting 'width'; expected one of: alpha_pattern, "),
        ("fit @taste --set r=[1", "--set r=[1: the value is not YAML"),
        ("fit @taste --set r=0", "method 'lora': r: input should be greater than or equal to 1 (found 0)"),
        ("fit @taste --method bitfit --set target_modules=[no.such]", "the backbone has no submodule 'no.such'"),
        ("fit @taste --set target_modules=[no.such]", "the expert cannot attach: "),
        ("fit @taste --set r=2 --set r=3", "r is set already"),
        ("fit @taste --set r=2 --rank 3", "--rank and --set r=… say the same"),
        ("fit @taste --seed -1", "'--seed'"),
        ("fit @taste --learning-rate inf", "--learning-rate: input should be a finite number (found inf)"),
        ("fit @taste --set lora_alpha=.inf", "lora_alpha: input should be a finite number (found inf)"),
        ("fit @taste --set r=true", "r: input should not be true or false (found True)"),
        ("fit @taste --name=", "'' cannot name an expert"),
        ("fit @taste --name Not/A/Name", "'Not/A/Name' cannot name an expert"),
        ("fit @taste --steps many", "'--steps'"),
        ("fit @taste --nothing", "--nothing (see pitune fit --help)"),
        ("fit", "Missing argument 'TASK...'. (see pitune fit --help)"),
        ("nothing", "No such command 'nothing'"),
        ("pool", "Missing command"),
        ("neighbours @taste", "Missing option '--pool'"),
        ("neighbours @taste --pool nothing", "nothing: no such pool"),
        ("tune @taste --pool nothing", "nothing: no such pool"),
        ("graph --pool nothing", "nothing: no such pool"),
        ("pool list --pool nothing", "nothing: no such pool"),
        ("pool remove taste --pool nothing", "nothing: no such pool"),
        ("pool add nothing --pool other", "nothing: is not an expert"),
        ("eval nothing @taste", "nothing: is not an expert"),
        ("eval @taste", "expected an expert and a task"),
        ("eval @taste @taste --zero-shot", "--zero-shot takes no expert"),
        ("eval @taste --zero-shot --split nothing", "'--split'"),
        ("predict nothing hello", "nothing: is not an expert"),
        ("data pull nothing", "unknown task 'nothing'"),
        ("demo --out @taste", "is a file; expected a folder"),
        ("demo --out demo --device nothing", "device 'nothing' cannot be used"),
    ],
)
def test_refused(line: str, says: str, refused: Refused, tiny_task_paths: dict[str, Path]) -> None:
    assert says in refused(*_named(line, tiny_task_paths))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fit @taste --pool POOL --name taste", "the pool has an expert of this name"),
        ("fit @taste --out @place", "is a file; expected a folder"),
        ("fit @taste --out POOL", "exists and is not an expert"),
        ("fit @taste --run POOL", "exists and is not a run of pitune"),
        ("graph --pool POOL", "a task graph needs at least 2 tasks; found 1"),
        ("neighbours @taste --pool POOL", "has no expert of another task than 'taste'"),
        ("neighbours @mood --pool POOL --shots 0", "shots is 0"),
        ("neighbours @mood --pool POOL -k 0", "'-k'"),
        ("tune @mood --pool POOL --shots 500", "expected at least 500"),
        ("tune @mood --pool POOL --method nothing", "unknown method 'nothing'"),
        ("tune @mood --pool POOL --method adapter --rank 4", "--rank: adapter experts have none"),
        ("tune @mood --pool POOL --method adapter", "has no adapter expert of another task; it has lora, choose with"),
        ("tune @mood --pool POOL --out POOL", "exists and is not an expert"),
        ("pool show nothing --pool POOL", "has no expert 'nothing'; it has: taste"),
        ("pool show ../pool --pool POOL", "cannot name an expert"),
        ("pool remove nothing --pool POOL", "has no expert 'nothing'"),
        ("predict taste POOL --pool POOL", "pool: a folder without images"),
        ("predict taste POOL --pool POOL --answer good", "pool: a folder without images"),
        ("predict taste POOL/taste/README.md --pool POOL", "README.md: a file that is none of what can be read"),
        ("predict taste new.csv --pool POOL", "'new.csv': no such file or folder; task 'taste' reads texts"),
        ("predict taste sweet --pool POOL --out out.txt", "--out out.txt: expected a name that ends in .csv, .tsv"),
        ("predict taste sweet --pool POOL --out POOL", "expected a name that ends in"),
        ("predict taste @colour --pool POOL", "task 'taste' reads texts"),
        ("predict taste nothing.png --pool POOL --answer a", "nothing.png: cannot be read"),
        ("predict taste @place/nothing.png --pool POOL --task @taste", "cannot be read"),
    ],
)
def test_refused_with_a_pool(
    line: str, says: str, refused: Refused, pool: Path, tiny_task_paths: dict[str, Path]
) -> None:
    words = [word.replace("POOL", str(pool)) for word in line.split()]
    assert says in refused(
        *_named(" ".join(words).replace("@place/", str(tiny_task_paths["place"]) + "/"), tiny_task_paths)
    )


def test_an_altered_expert(refused: Refused, pool: Path, tiny_task_paths: dict[str, Path]) -> None:
    weights = pool / "taste" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    altered = "adapter_model.safetensors: altered or cut short"
    assert altered in refused("eval", pool / "taste", tiny_task_paths["taste"])
    assert altered in refused("neighbours", tiny_task_paths["mood"], "--pool", pool)
    assert altered in refused("tune", tiny_task_paths["mood"], "--pool", pool)
    assert altered in refused("pool", "add", pool / "taste", "--pool", pool.parent / "other")
    assert altered in refused("predict", pool / "taste", "sweet", "--answer", "good")


def test_verify_names_the_altered_expert_and_list_shows_the_others(
    pool: Path, capsys: pytest.CaptureFixture[str], expert: pitune.Expert
) -> None:
    pitune.ExpertPool(pool).add(replace(expert, card=expert.card.model_copy(update={"name": "sound"})))
    (pool / "taste" / "README.md").write_text("altered", encoding="utf-8")
    assert cli.main(["pool", "verify", "--pool", str(pool)]) == 2
    printed = capsys.readouterr()
    assert "1 of 2 experts are not sound" in printed.err
    assert cli.main(["pool", "list", "--pool", str(pool)]) == 0
    assert "sound" in capsys.readouterr().out


def test_an_expert_of_another_backbone(
    refused: Refused,
    pool: Path,
    other_backbone: Pocket,
    tiny_task_paths: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pitune.pocket.backbone.load_pocket", lambda device: other_backbone)
    mood, taste = tiny_task_paths["mood"], tiny_task_paths["taste"]
    for line in (["neighbours", mood], ["tune", mood], ["eval", "taste", taste]):
        assert "belongs to another backbone" in refused(*line, "--pool", pool)
    assert "belongs to another backbone" in refused("predict", pool / "taste", "sweet", "--answer", "good")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stepz: 3", "unknown field 'stepz'; did you mean steps? expected one of: at_most, backbone"),
        ("config: other.yaml", "unknown field 'config'"),
        ("steps: [1, 2]", "field 'steps' is a list; expected one plain value"),
        ("steps: {a: 1}", "field 'steps' is a dict; expected one plain value"),
        ("steps: 1.5", "'--steps'"),
        ("shots: true", "'--shots'"),
        ("- steps", "holds a list; expected `field: value` lines"),
        ("steps: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("", "holds a NoneType"),
    ],
)
def test_bad_yaml(text: str, says: str, refused: Refused, tiny_task_paths: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(text, encoding="utf-8")
    assert says in refused("fit", tiny_task_paths["taste"], "--config", file)


def test_a_missing_yaml(refused: Refused, tiny_task_paths: dict[str, Path], tmp_path: Path) -> None:
    assert "cannot be read" in refused("fit", tiny_task_paths["taste"], "--config", tmp_path / "missing.yaml")


def test_a_run_folder_of_other_inputs(
    pocket_is_tiny: Pocket, refused: Refused, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    run = ["--shots", "2", "--steps", "3", "--run", str(tmp_path / "run")]
    assert cli.main(["fit", str(tiny_task_paths["taste"]), *run]) == 0
    assert "holds a run with other inputs" in refused("fit", tiny_task_paths["taste"], *run, "--seed", 1)


@pytest.mark.parametrize("text", ["{", "{}", '{"task": "taste"}'])
def test_an_altered_result_of_a_run(
    text: str, pocket_is_tiny: Pocket, refused: Refused, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    run = ["fit", str(tiny_task_paths["taste"]), "--shots", "2", "--steps", "3", "--run", str(tmp_path / "run")]
    assert cli.main(run) == 0
    (tmp_path / "run" / "result.json").write_text(text, encoding="utf-8")
    assert "result.json: damaged; delete" in refused(*run)
