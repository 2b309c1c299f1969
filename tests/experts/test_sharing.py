"""Experts pushed and pulled: the same on the hub's stand-in and in any folder, with a card, checked as any other."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import huggingface_hub
import pytest
import yaml
from huggingface_hub import constants
from tests.conftest import Command, draw_of

from pitune.errors import InputError
from pitune.experts import Expert, ExpertPool, Parent, Sharing, digest, hub_card, load_expert, pull_expert, sharing
from pitune.pocket.backbone import Pocket
from pitune.tasks import Task
from pitune.training import TrainingSettings, fit_expert

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def expert(tiny_backbone: Pocket, tiny_tasks: dict[str, Task]) -> Expert:
    return fit_expert(tiny_backbone, draw_of(tiny_tasks["mood"]), settings=TrainingSettings(steps=1))[0]


@pytest.fixture
def pool(expert: Expert, tmp_path: Path) -> Path:
    ExpertPool(tmp_path / "pool").add(expert)
    return tmp_path / "pool"


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as pushing and pulling ask for, one revision of each repository."""

    files: dict[str, bytes]

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        given = self.rfile.read(int(self.headers["Content-Length"]))
        told: dict[str, Any] = {"url": f"{constants.ENDPOINT}/owner/mood"}
        if "/preupload/" in self.path:
            names = [one["path"] for one in json.loads(given)["files"]]
            told = {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        elif "/commit/" in self.path:
            repository = self.path.split("/api/models/")[1].split("/commit/")[0]
            for line in map(json.loads, given.splitlines()):
                if line["key"] == "file":
                    name = f"{repository}/{line['value']['path']}"
                    self.files[name] = base64.b64decode(line["value"]["content"])
            told = {"commitUrl": f"{constants.ENDPOINT}/{repository}/commit/{COMMIT}", "commitOid": COMMIT}
        self.answer(200, json.dumps(told).encode(), Content_Type="application/json")

    def do_GET(self) -> None:
        repository, _, rest = self.path.lstrip("/").partition("/resolve/")
        data = self.files.get(f"{repository}/{rest.partition('/')[2]}")
        if data is None:
            self.answer(404, X_Error_Code="EntryNotFound")
        else:
            self.answer(200, data, X_Repo_Commit=COMMIT, ETag=f'"{hash(data):x}"')

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """Begin a stand-in for the hub, and return the files that it holds."""
    files: dict[str, bytes] = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Holding", (Hub,), {"files": files}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(huggingface_hub.hf_api, "ENDPOINT", endpoint, raising=False)
    monkeypatch.setattr(sharing, "HfApi", lambda: huggingface_hub.HfApi(endpoint=endpoint, token="hf_none"))
    yield files
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("place", ["owner/mood", "memory://shared/mood", "file"])
def test_what_is_pushed_is_pulled(
    place: str, hub: dict[str, bytes], expert: Expert, pool: Path, tmp_path: Path, command: Command
) -> None:
    place = (tmp_path / "shared").as_uri() if place == "file" else place
    assert command("pool", "push", expert.name, place, "--pool", pool) == {"expert": expert.name, "to": place}
    told = command("pool", "pull", place, "--pool", tmp_path / "mine", "--name", "mood")
    assert told == {"expert": "mood", "folder": str(tmp_path / "mine" / "mood")}
    pulled = load_expert(tmp_path / "mine" / "mood")
    assert digest(pulled) == digest(expert)
    assert pulled.card == expert.card.model_copy(update={"name": "mood"})
    command("pool", "pull", place, "--pool", tmp_path / "mine", "--name", "mood")  # which is no error


def test_a_card_may_be_mended_where_it_is_and_nothing_else(expert: Expert, pool: Path, command: Command) -> None:
    place, files = "memory://altered/mood", fsspec.filesystem("memory")
    command("pool", "push", expert.name, place, "--pool", pool)
    files.pipe_file("/altered/mood/README.md", b"mended")
    assert digest(pull_expert(place)) == digest(expert)
    files.pipe_file("/altered/mood/adapter_config.json", b"{}")
    line = command("pool", "pull", place, "--pool", pool.parent / "mine", fails=True)
    assert line.startswith(f"pitune: {place}/adapter_config.json: altered or cut short")
    assert not (pool.parent / "mine").exists()


def test_a_pull_that_is_cut_leaves_nothing(
    expert: Expert, pool: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "memory://cut/mood"
    command("pool", "push", expert.name, place, "--pool", pool)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(tmp_path.rglob("*"))

    def cut(*arguments: object) -> list[str]:
        assert len(list(tmp_path.glob("pitune-*/expert.json"))) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(sharing, "files_of", cut)
    with pytest.raises(KeyboardInterrupt):
        pull_expert(place)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("owner/none", "owner/none: cannot be fetched"),
        ("memory://nowhere", "memory://nowhere: cannot be fetched"),
        ("nothing://x", "Protocol not known"),
        ("zip://a::memory://b", "a chain of file systems is not followed"),
        ("not a name", "cannot be fetched"),
    ],
)
def test_what_cannot_be_fetched_is_said_in_one_line(
    place: str, said: str, hub: dict[str, bytes], tmp_path: Path, command: Command
) -> None:
    assert said in command("pool", "pull", place, "--pool", tmp_path / "mine", fails=True)
    assert not (tmp_path / "mine").exists()


def test_nothing_larger_than_expected_is_read() -> None:
    files = fsspec.filesystem("memory")
    files.pipe_file("/large/expert.json", bytes((1 << 24) + 1))
    with pytest.raises(InputError, match=r"^memory://large/expert.json: has 16 MB; expected at most 16 MB"):
        pull_expert("memory://large")


@pytest.mark.parametrize("what", ["pipe", "device", "link"])
@pytest.mark.parametrize("name", ["expert.json", "adapter_model.safetensors", "README.md"])
def test_what_is_no_file_of_its_own_is_not_fetched(pool: Path, expert: Expert, name: str, what: str) -> None:
    path = pool / expert.name / name
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if what == "device" else "/etc/hostname")
    with pytest.raises(InputError, match=rf"^file://.*{name}: is no regular file"):
        pull_expert(f"file://{path.parent}")


def test_a_card_tells_what_people_look_for(tiny_tasks: dict[str, Task], expert: Expert) -> None:
    weights = {"a": 0.25, "b": 0.75}
    hyperparameters = {**expert.card.hyperparameters, "neighbours": {"taste-lora": 0.875}}
    card = expert.card.model_copy(
        update={
            "parents": (Parent(name="taste-lora", digest="f" * 64, weights=weights),),
            "hyperparameters": hyperparameters,
            "base_model": "owner/base@0123456789",
        }
    )
    mixed = Expert(expert.kind, expert.settings, expert.tensors, card)
    task = tiny_tasks["mood"]
    page = hub_card(mixed, Sharing("owner/mood", task, "CC-BY-4.0", "2 cores, a minute")).decode()
    told = yaml.safe_load(page.split("---\n")[1])
    assert (told["license"], told["base_model"], told["library_name"]) == ("cc-by-4.0", "owner/base", "peft")
    (result,) = told["model-index"][0]["results"]
    assert result["task"] == {"type": "text-classification"}
    assert result["dataset"]["name"] == "mood"
    assert result["metrics"][0] == {"type": "accuracy", "value": card.validation}
    first = next(one.text for one in task.examples("train") if one.target == "happy")
    assert f"| `happy` | `{first}` |" in page
    assert f"| `taste-lora` | 0.5 | 0.875 | `{'f' * 16}` |" in page
    for line in ("| seed | 0 |", "| steps | 1 |", "| trained on | 2 cores, a minute |", "PeftModel.from_pretrained"):
        assert line in page
    assert first
    assert first not in hub_card(mixed, Sharing("owner/mood", task, examples=False)).decode()


def test_a_stranger_s_words_stay_words(expert: Expert) -> None:
    answers = ["`](https://x) | <script>", "\x1b[2J"]
    verdict = ["<script>alert(1)</script>", "![](https://x)", "[here](https://y)"]
    hyperparameters = {"asked": {"answers": answers}, "verdict": verdict}
    update = {"hyperparameters": hyperparameters, "task": "a\n# b", "base_model": "$(rm -rf .)"}
    card = expert.card.model_copy(update=update)
    page = hub_card(Expert(expert.kind, expert.settings, expert.tensors, card), Sharing("o/n")).decode()
    assert "| `'](https://x) ¦ <script>` |  |" in page
    assert "\x1b" not in page
    assert "\n# b" not in page
    assert "--backbone '$(rm -rf .)'" in page
    for words in ("<script>alert", "![](", "[here]("):
        assert words not in page
