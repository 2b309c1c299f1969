"""The command line end to end on the tiny backbone: what each command prints, keeps, and picks up again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.conftest import Command, apart

import pitune
from pitune import cli
from pitune.backbones import Backbone
from pitune.experts import Kind
from pitune.pocket.backbone import Pocket
from pitune.studies import ComparePlan
from pitune.tasks import Task
from pitune.training import TrainingSettings, evaluate_expert

FAST = ("--shots", "4", "--steps", "12", "--learning-rate", "0.01")


@pytest.fixture
def command(pocket_is_tiny: Pocket, command: Command) -> Command:
    """Run on the tiny backbone."""
    return command


@pytest.fixture(scope="module")
def fitted(tiny_backbone: Pocket, tiny_task_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool of three experts; do not alter it."""
    folder = tmp_path_factory.mktemp("fitted")
    with apart(tiny_backbone, folder):
        for name in ("taste", "place", "colour"):
            where = ("--pool", str(folder / "pool"), "--name", name)
            assert cli.main(["fit", str(tiny_task_paths[name]), *FAST, *where]) == 0
    return folder / "pool"


@pytest.fixture
def pool(pocket_is_tiny: Pocket, fitted: Path, tmp_path: Path) -> Path:
    """A pool of three experts."""
    return shutil.copytree(fitted, tmp_path / "pool")


def test_fit_saves_an_expert_that_loads_and_evaluates(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "expert"
    made = command("fit", tiny_task_paths["taste"], *FAST, "--rank", 4, "--out", out)
    assert made["expert"] == "taste-lora-4-0"
    assert made["folders"] == [str(out)]
    assert pitune.load_expert(out).config["r"] == 4
    measured = command("eval", out, tiny_task_paths["taste"])
    assert {"metric": "accuracy", "n": 12, "split": "test"}.items() <= measured.items()
    alone = command("eval", "--zero-shot", tiny_task_paths["taste"])
    assert alone["expert"] is None
    assert alone["n"] == 12


def test_fit_sets_what_the_kind_of_expert_knows(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    targets = "target_modules=[encoder.layer.0.output.dense, encoder.layer.1.output.dense]"
    given = ("--set", "width=3", "--set", "placement=parallel", "--set", "scale=0.5", "--set", targets)
    command("fit", tiny_task_paths["taste"], *FAST, "--method", "adapter", *given, "--out", tmp_path / "out")
    config = pitune.load_expert(tmp_path / "out").config
    assert (config["width"], config["placement"], config["scale"]) == (3, "parallel", 0.5)
    assert config["target_modules"] == ["encoder.layer.0.output.dense", "encoder.layer.1.output.dense"]
    file = tmp_path / "fit.yaml"
    file.write_text("method: prompt\nset: [length=5]\n", encoding="utf-8")
    command("fit", tiny_task_paths["taste"], *FAST, "--config", file, "--out", tmp_path / "prompt")
    assert pitune.load_expert(tmp_path / "prompt").config["length"] == 5


def test_an_ended_run_is_delivered_without_training(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("fit", tiny_task_paths["taste"], *FAST, "--pool", tmp_path / "pool")
    first = command(*given)
    monkeypatch.setattr("pitune.api.fit", lambda *_: pytest.fail("trained again"))
    assert command(*given) == first
    elsewhere = command(*given[:-2], "--out", tmp_path / "out")
    assert elsewhere["folders"] == [str(tmp_path / "out")]
    weights = [Path(folder) / "adapter_model.safetensors" for folder in (*first["folders"], *elsewhere["folders"])]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_that_was_stopped_goes_on_and_ends_at_the_same_bytes(
    command: Command,
    capsys: pytest.CaptureFixture[str],
    tiny_task_paths: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = ["fit", str(tiny_task_paths["taste"]), *FAST]
    whole = command(*given, "--run", tmp_path / "whole")
    from pitune.training import loop as _loop

    taken = _loop._step

    def step(*arguments: Any) -> Any:
        if arguments[3] == 7:
            raise KeyboardInterrupt
        return taken(*arguments)

    monkeypatch.setattr(_loop, "_step", step)
    assert cli.main([*given, "--run", str(tmp_path / "cut")]) == 130
    assert capsys.readouterr().err.splitlines()[-1].startswith("pitune: interrupted; run the same command again")
    assert (tmp_path / "cut" / "state" / "all" / "checkpoint.safetensors").is_file()
    monkeypatch.setattr(_loop, "_step", taken)
    cut = command(*given, "--run", tmp_path / "cut")
    for file in ("adapter_model.safetensors", "fisher.safetensors", "expert.json"):
        assert (Path(whole["folders"][0]) / file).read_bytes() == (Path(cut["folders"][0]) / file).read_bytes()


def test_fit_says_what_its_labels_tell(command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path) -> None:
    made = command("fit", tiny_task_paths["mood"], "--shots", 4, *FAST, "--out", tmp_path / "out")
    assert made["folds"] == 2
    assert made["verdict"][0].startswith(f"it has accuracy {made['validation']:.3f} [")
    kept = command("fit", tiny_task_paths["mood"], "--shots", 4, *FAST, "--folds", 0, "--out", tmp_path / "kept")
    assert kept["folds"] == 0
    assert "on the 6 labels that judge (the backbone alone 0." in kept["verdict"][0]


def test_graph_and_neighbours(command: Command, pool: Path, tiny_task_paths: dict[str, Path]) -> None:
    graph = command("graph", "--pool", pool)
    assert graph["names"] == ["colour", "place", "taste"]
    assert [row[i] for i, row in enumerate(graph["similarity"])] == [1.0] * 3
    assert set(graph["nearest"]) == set(graph["names"])
    found = command("neighbours", tiny_task_paths["mood"], "--pool", pool, "-k", 2, "--shots", 4)
    values = [one["similarity"] for one in found["neighbours"]]
    assert values == sorted(values, reverse=True)
    assert len(values) == 2


def test_graph_as_a_page(command: Command, pool: Path, tmp_path: Path) -> None:
    page = tmp_path / "graph.html"
    assert command("graph", "--pool", pool, "--html", page)["html"] == str(page)
    assert "taste" in page.read_text(encoding="utf-8")


def test_tune_tells_neighbours_candidates_choice_weights_and_the_test_metric(
    command: Command, pool: Path, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    given = ("tune", tiny_task_paths["mood"], "--pool", pool, "-k", 2, *FAST, "--out", out)
    made = command(*given)
    assert {"neighbours", "candidates", "choice", "weights", "test"} <= made.keys()
    assert len(made["neighbours"]) == 2
    assert made["test"]["n"] == 12
    assert pitune.load_expert(out).name == made["expert"]
    assert command(*given) == made
    assert (made["truncation_error"] or 0.0) <= 0.01
    assert command(*given, "--rank", "exact")["truncation_error"] is None


def test_a_tuned_experts_card_is_for_strangers(
    command: Command, pool: Path, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "expert"
    made = command("tune", tiny_task_paths["mood"], "--pool", pool, "--shots", 2, "--steps", 2, "-k", 1, "--out", out)
    card = (out / "README.md").read_text(encoding="utf-8")
    assert "for the task `mood`. It chooses one of 2 answers: happy, sad." in card
    assert " ".join(made["verdict"]) in card
    weights = [group[name] for group in made["weights"].values() for name in group]
    assert card.count("mean mixing weight") == len({name for group in made["weights"].values() for name in group})
    assert weights
    assert "`own`" not in card
    assert 'expert = pitune.load_expert("FOLDER")' in card
    assert 'PeftModel.from_pretrained(model, "FOLDER")' in card


def test_tune_trains_as_long_as_the_labels_ask_unless_told(
    command: Command, pool: Path, tiny_task_paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(labels: int, kind: Kind, *, stopped: bool, whole: int | None = None) -> TrainingSettings:
        return TrainingSettings(steps=labels, evaluations=2)

    for module in ("pitune.training", "pitune.interpolation.tune"):
        monkeypatch.setattr(f"{module}.target_training", short)
    given = ("tune", tiny_task_paths["place"], "--pool", pool, "-k", 1, "--shots", 1, "--out", tmp_path / "out")
    for steps, flags in ((6, ()), (3, ("--folds", 0)), (2, ("--steps", 2))):
        command(*given, *flags)
        assert pitune.load_expert(tmp_path / "out").card.hyperparameters["training"]["steps"] == steps


def test_tune_folds_to_the_rank_asked_for(
    command: Command, pool: Path, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    made = command("tune", tiny_task_paths["mood"], "--pool", pool, "-k", 2, *FAST, "--rank", 3, "--out", out)
    assert 0 <= made["truncation_error"] < 1
    assert pitune.load_expert(out).config["r"] == 3


def test_predict_chooses_among_answers(command: Command, pool: Path, tiny_task_paths: dict[str, Path]) -> None:
    task = tiny_task_paths["colour"]
    images = sorted(task.glob("*/00.png"))
    found = command("predict", "colour", *images, "--pool", pool, "--task", task)["predictions"]
    assert [Path(one["input"]) for one in found] == images
    for one in found:
        assert set(one["probabilities"]) == {"red", "green", "blue"}
        assert sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert one["probability"] == max(one["probabilities"].values())
    texts = command("predict", "taste", "sweet fresh", images[0], "--pool", pool, "--answer", "good", "--answer", "bad")
    assert [set(one["probabilities"]) for one in texts["predictions"]] == [{"good", "bad"}] * 2


def test_graphs_by_both_embeddings_are_compared(command: Command, pool: Path) -> None:
    found = command("graph", "--pool", pool, "--compare")
    assert -1 <= found["correlation"] <= 1
    assert command("graph", "--pool", pool)["correlation"] is None


def test_pool_export_and_import(command: Command, pool: Path, tmp_path: Path) -> None:
    out, other = tmp_path / "plain", tmp_path / "other"
    assert command("pool", "export", "taste", "--pool", pool, "--out", out)["method"] == "lora"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    found = command("pool", "import", out, "--pool", other, "--name", "back")
    assert found["parameters"] == command("pool", "show", "taste", "--pool", pool)["parameters"]
    assert command("pool", "verify", "--pool", other)["experts"] == [{"name": "back", "problem": None}]
    command("pool", "export", "taste", "--pool", pool, "--out", tmp_path / "whole", "--merged")
    assert (tmp_path / "whole" / "model.safetensors").is_file()


def test_pool_from_adding_to_removing(command: Command, pool: Path, tmp_path: Path) -> None:
    assert [row["name"] for row in command("pool", "list", "--pool", pool)["experts"]] == ["colour", "place", "taste"]
    assert command("pool", "show", "taste", "--pool", pool)["card"]["shots"] == 4
    assert all(row["problem"] is None for row in command("pool", "verify", "--pool", pool)["experts"])
    other = tmp_path / "other"
    command("pool", "add", pool / "taste", "--pool", other, "--name", "copied")
    assert command("pool", "list", "--pool", other)["experts"][0]["name"] == "copied"
    command("pool", "remove", "copied", "--pool", other)
    assert command("pool", "list", "--pool", other)["experts"] == []


def test_tasks(command: Command, tiny_task_paths: dict[str, Path]) -> None:
    names = [row["name"] for row in command("tasks", "list")["tasks"]]
    assert "pocket/digits" in names
    shown = command("tasks", "show", tiny_task_paths["place"])
    assert shown["answers"] == ["hill", "sea", "town"]
    assert shown["parts"] == {"train": 45, "validation": 9, "test": 18}
    assert command("tasks", "check", tiny_task_paths["colour"])["sound"] is True


def test_data_pull(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("pitune.tasks.pull", lambda names, progress: asked.extend(names))
    assert command("data", "pull", "pocket/digits", "minilm") == {"pulled": asked}
    assert asked == ["pocket/digits", "minilm"]


def test_demo(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, int, int, tuple[str, ...]]] = []

    def run(out: Path, *, plan: ComparePlan, targets: tuple[str, ...], **how: object) -> SimpleNamespace:
        asked.append((out, plan.seeds, plan.first_seed, (*plan.tasks, *targets)))
        row = {"task": "t", "method": "pi", "value": 0.5}
        gain = {"baseline": "single", "task": "t", "mean": 0.1, "low": 0.0, "high": 0.2, "seeds": plan.seeds}
        found = {"rows": [row], "gains": [gain]}
        return SimpleNamespace(rows=[SimpleNamespace(**row)], gains=[SimpleNamespace(**gain)], described=lambda: found)

    monkeypatch.setattr("pitune.studies.run_demo", run)
    monkeypatch.setattr("pitune.reports.write_report", lambda results, path: path.write_text("report"))
    assert command("demo", "--out", tmp_path, "--seeds", 5, "--seed", 2)["rows"][0]["value"] == 0.5
    assert asked == [(tmp_path, 5, 2, ("pocket-demo-sources", "pocket-demo-targets", "pocket-demo-targets"))]
    command("demo", "--out", tmp_path, "--quick")
    quick = ("pocket-demo-quick-sources", "pocket-demo-quick-targets", "pocket-demo-quick-targets")
    assert asked[-1] == (tmp_path, 1, 0, quick)
    assert (tmp_path / "report.html").read_text() == "report"


def test_what_people_read(pool: Path, tiny_task_paths: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["pool", "list", "--pool", str(pool)]) == 0
    assert cli.main(["graph", "--pool", str(pool)]) == 0
    assert cli.main(["eval", "taste", str(tiny_task_paths["taste"]), "--pool", str(pool)]) == 0
    assert cli.main(["tasks", "show", str(tiny_task_paths["taste"])]) == 0
    assert cli.main(["tune", str(tiny_task_paths["mood"]), "--pool", str(pool), *FAST]) == 0
    out = capsys.readouterr().out
    assert "nearest" in out
    assert out.count("It was chosen") == 1
    assert "weights at" in out
    assert "accuracy" in out
    assert "of 12 test examples" in out


def test_quiet_says_nothing_and_verbose_where_an_error_was_raised(
    pool: Path, tmp_path: Path, tiny_task_paths: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["fit", str(tiny_task_paths["taste"]), "--shots", "2", "--steps", "1", "--folds", "0"]
    assert cli.main(["--quiet", *line, "--out", str(tmp_path / "one")]) == 0
    assert capsys.readouterr().err == ""
    assert cli.main([*line, "--seed", "1", "--out", str(tmp_path / "two")]) == 0
    assert "training a lora expert" in capsys.readouterr().err
    assert cli.main(["--verbose", "fit", "nothing-here"]) == 2
    assert "Traceback" in capsys.readouterr().err
    assert cli.main(["--quiet", "--verbose", "tasks", "list"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_control_characters_of_a_card_do_not_reach_the_terminal(pool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expert = pitune.load_expert(pool / "taste")
    hostile = expert.card.model_copy(update={"name": "hostile", "task": "\x1b]0;owned\x07[bold]task"})
    pitune.ExpertPool(pool).add(replace(expert, card=hostile))
    assert cli.main(["pool", "list", "--pool", str(pool)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[bold]task" in out


def test_yaml_gives_what_no_flag_says(command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "fit.yaml"
    lines = [
        f"task: {tiny_task_paths['taste']}",
        "learning-rate: 1e-2",
        "steps: 5",
        "shots: 4",
        "seed: 3",
        "json: true",
    ]
    file.write_text("\n".join(lines), encoding="utf-8")
    made = command("fit", "--config", file, "--shots", 2, "--out", tmp_path / "out")
    assert (made["shots"], made["seed"]) == (2, 3)
    settings = pitune.load_expert(tmp_path / "out").card.hyperparameters
    assert (settings["steps"], settings["learning_rate"]) == (5, 0.01)


def test_yaml_gives_lists_and_flags(
    command: Command, pool: Path, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    file = tmp_path / "predict.yaml"
    file.write_text(
        f"pool: {pool}\nexpert: taste\ninputs: [sweet warm, stale]\nanswer: [good, bad]\n", encoding="utf-8"
    )
    assert len(command("predict", "--config", file)["predictions"]) == 2
    file.write_text(f"zero-shot: true\nexpert: {tiny_task_paths['taste']}\nsplit: train\n", encoding="utf-8")
    assert command("eval", "--config", file)["n"] == 30


def test_as_a_process() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(pitune.__file__).parents[1])}
    code = "import sys; from pitune.cli import main; sys.exit(main())"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=environment)

    help_ = run("--help")
    assert help_.returncode == 0
    assert all(
        name in help_.stdout for name in ("demo", "fit", "graph", "neighbours", "tune", "eval", "predict", "pool")
    )
    assert run().stdout == help_.stdout
    assert run("--version").stdout == f"pitune {pitune.__version__}\n"
    wrong = run("tasks", "show", "pocket/nothing", "--json")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.splitlines()[-1].startswith("pitune: unknown task")
    assert "Traceback" not in wrong.stderr


def test_python_and_the_command_predict_alike(
    command: Command, pool: Path, tiny_task_paths: dict[str, Path], tiny_tasks: dict[str, Task], tiny_backbone: Backbone
) -> None:
    task, expert = tiny_tasks["taste"], pitune.load_expert(pool / "taste")
    texts = [example.text or "" for example in task.examples("test")[:5]]
    printed = command("predict", "taste", *texts, "--pool", pool, "--task", tiny_task_paths["taste"])["predictions"]
    answers = pitune.predict(tiny_backbone, task, expert, texts)
    assert [row["answer"] for row in printed] == [one.answer for one in answers]
    scores = evaluate_expert(tiny_backbone, task, expert, task.examples("test")[:5])
    by_id = dict(zip(scores.ids, scores.scores.exp(), strict=True))
    for example, one in zip(task.examples("test")[:5], answers, strict=True):
        assert list(one.probabilities.values()) == pytest.approx(by_id[example.id].tolist(), abs=1e-6)
        assert one.probability == max(one.probabilities.values())
    with pytest.raises(pitune.InputError, match=r"reads images"):
        pitune.predict(tiny_backbone, tiny_tasks["colour"], None, ["flags"])


def test_rare_classes_give_what_they_have_when_asked(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [*(f"text {i},often" for i in range(30)), *(f"word {i},rare" for i in range(4)), "text 0,rare"]
    table = tmp_path / "uneven.csv"
    table.write_text("\n".join(["text,label", *rows]), encoding="utf-8")
    fast = ("--shots", 8, "--steps", 2, "--pool", tmp_path / "pool", "--conflicts", "drop")
    assert cli.main([str(one) for one in ("fit", table, *fast)]) == 2
    assert "ask for fewer shots" in capsys.readouterr().err
    assert command("fit", table, *fast, "--at-most")["shots"] == 8
    assert cli.main([str(one) for one in ("fit", table, "--shots", 1, "--steps", 2, "--pool", tmp_path / "pool")]) == 2
    assert "--conflicts" in capsys.readouterr().err


def test_fit_in_a_half_format_and_with_layers_computed_again(
    command: Command, tiny_task_paths: dict[str, Path], tmp_path: Path
) -> None:
    given = ("fit", tiny_task_paths["place"], "--shots", 1, "--steps", 3)
    for flags, stated in (
        (("--precision", "bf16"), {"precision": "bf16", "gradient_checkpointing": False}),
        (("--gradient-checkpointing",), {"precision": "fp32", "gradient_checkpointing": True}),
    ):
        command(*given, *flags, "--out", tmp_path / "out")
        assert stated.items() <= pitune.load_expert(tmp_path / "out").card.hyperparameters.items()
    said = command(*given, "--precision", "half", "--out", tmp_path / "other", fails=True)
    assert said == "pitune: --precision: input should be 'fp32', 'bf16' or 'fp16' (found 'half')"
    assert not (tmp_path / "other").exists()
