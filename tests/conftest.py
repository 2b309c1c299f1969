"""What tests share: a cache folder of their own, a tiny random backbone, and tiny tasks that it can learn.

No test needs the network or real weights. The builders are plain functions, so that a test which starts a
process of its own can load this file by its path and call them there.
"""

from __future__ import annotations

import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from pitune import cli
from pitune.backbones import Backbone
from pitune.backbones.cache import FeatureCache
from pitune.files import sha256_bytes
from pitune.pocket.backbone import _FEATURES, Pocket
from pitune.pocket.model import PocketModel, Projection
from pitune.pocket.stem import Stem
from pitune.tasks import Draw, Task, load_task
from pitune.training import loop as loop

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
FILLER = tuple(f"word{i}" for i in range(120))
# task → answer → the words that give it away; `taste` and `mood` share theirs, `place` has its own
TEXT_TASKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "taste": {"good": ("sweet", "fresh", "warm"), "bad": ("sour", "stale", "cold")},
    "mood": {"happy": ("sweet", "warm", "smile"), "sad": ("sour", "cold", "tear")},
    "place": {"sea": ("wave", "sand", "salt"), "hill": ("rock", "path", "peak"), "town": ("road", "shop", "tram")},
}
IMAGE_TASK = "colour"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
PER_CLASS = 24  # divided into 6 test, 3 validation and 15 train examples
Command = Callable[..., Any]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def pitune_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a cache folder of its own."""
    home = tmp_path / "pitune-home"
    monkeypatch.setenv("PITUNE_HOME", str(home))
    return home


@pytest.fixture
def png() -> Callable[[int], bytes]:
    """Return a function that makes a small PNG, another one for every number."""

    def make(number: int) -> bytes:
        sink = io.BytesIO()
        Image.new("RGB", (8, 8), (number % 256, number // 256 % 256, 99)).save(sink, "PNG")
        return sink.getvalue()

    return make


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pocket]:
    """A pocket backbone with two small layers and random weights; the same for the whole session."""
    backbone = build_tiny_backbone(tmp_path_factory.mktemp("features"))
    yield backbone
    backbone._cache.close()


@pytest.fixture(scope="session")
def other_backbone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pocket]:
    """Another backbone of the same shape: experts of the one must not run on the other."""
    backbone = build_tiny_backbone(tmp_path_factory.mktemp("other-features"), seed=1)
    yield backbone
    backbone._cache.close()


@pytest.fixture(scope="session")
def tiny_task_paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of the tiny tasks by name, as a user would give them to the command line; do not alter them."""
    return write_tiny_tasks(tmp_path_factory.mktemp("tasks"))


@pytest.fixture(scope="session")
def tiny_tasks(tiny_task_paths: dict[str, Path]) -> dict[str, Task]:
    """The tiny tasks by name: `taste`, `mood` and `place` of text, `colour` of images."""
    return {name: load_task(path) for name, path in tiny_task_paths.items()}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs `pitune … --json` and returns what it prints, or with `fails` the line of error."""

    def run(*arguments: object, fails: bool = False) -> Any:
        status = cli.main([str(argument) for argument in (*arguments, "--json")])
        printed = capsys.readouterr()
        assert status == (2 if fails else 0), printed.err
        return printed.err.splitlines()[-1] if fails else json.loads(printed.out)

    return run


@pytest.fixture
def pocket_is_tiny(tiny_backbone: Pocket, monkeypatch: pytest.MonkeyPatch) -> Pocket:
    """Make `load_backbone("pocket")` return the tiny backbone; names and devices are still checked."""
    return stand_in(tiny_backbone, monkeypatch)


@contextmanager
def apart(backbone: Pocket, folder: Path) -> Iterator[None]:
    """Give what several tests share, and is done once for them, the cache and the backbone that a test has."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PITUNE_HOME", str(folder / "home"))
        stand_in(backbone, patch)
        yield


@contextmanager
def stopped_after(steps: int) -> Iterator[None]:
    """Interrupt training within the block, as by Ctrl-C, once so many steps are taken; that ends the block."""
    true_step = loop._step
    taken: list[int] = []

    def step(*arguments: Any) -> torch.Tensor:
        if len(taken) == steps:
            raise KeyboardInterrupt
        taken.append(1)
        return true_step(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            yield


def draw_of(task: Task, train: int | None = None, *, validate: bool = True) -> Draw:
    """Draw a task's first examples in their own order, so many or all; validate on all there are, or on none."""
    return Draw(task, tuple(task.examples("train")[:train]), tuple(task.examples("validation")) if validate else ())


def tarred(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files as a tar."""
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def stand_in(backbone: Pocket, monkeypatch: pytest.MonkeyPatch) -> Pocket:
    """Let `backbone` be what `load_backbone("pocket")` returns."""

    def load(device: torch.device) -> Backbone:
        return backbone

    monkeypatch.setattr("pitune.pocket.backbone.load_pocket", load)
    return backbone


def build_tiny_backbone(features: Path, seed: int = 0) -> Pocket:
    """Return a pocket backbone of random weights that keeps image features under `features`."""
    tokenizer = _tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(  # type: ignore[call-arg]
            vocab_size=len(tokenizer),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=128,
            initializer_range=0.2,
            attn_implementation="sdpa",
        )
        trunk = BertModel(config, add_pooling_layer=False).eval().requires_grad_(False)
        projection = Projection(config.hidden_size)
        projection.class_embeddings.normal_()
        stem = _seeing_stem()
        model = PocketModel(trunk, projection.requires_grad_(False)).eval()
    cache = FeatureCache(features / "features.sqlite", (_FEATURES,))
    return Pocket(model, stem, tokenizer, sha256_bytes(f"tiny {seed}".encode()), cache)


def _seeing_stem() -> Stem:
    stem = Stem()
    for layer in stem.modules():
        if isinstance(layer, torch.nn.Conv2d):  # the usual starting values let the signal die on its way through
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return stem.freeze()


def write_tiny_tasks(folder: Path) -> dict[str, Path]:
    """Write the tiny tasks as files under `folder`: CSV tables of texts, and a folder of 16×16 images."""
    paths = {}
    for name, classes in TEXT_TASKS.items():
        draw = random.Random(name)
        rows = [
            f"{answer},{' '.join(draw.sample([*draw.sample(FILLER, 4), *draw.sample(words, 2)], 6))}"
            for answer, words in classes.items()
            for _ in range(PER_CLASS)
        ]
        paths[name] = folder / f"{name}.csv"
        paths[name].write_text("\n".join(["label,text", *rows]) + "\n", encoding="utf-8")
    paths[IMAGE_TASK] = folder / IMAGE_TASK
    noise = np.random.default_rng(0)
    for answer, colour in COLOURS.items():
        (paths[IMAGE_TASK] / answer).mkdir(parents=True)
        for number in range(PER_CLASS):
            pixels = np.clip(np.array(colour) + noise.integers(-30, 31, (16, 16, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(paths[IMAGE_TASK] / answer / f"{number:02}.png")
    return paths


def _tokenizer() -> PreTrainedTokenizerFast:
    told = {word for classes in TEXT_TASKS.values() for words in classes.values() for word in words}
    answers = {answer for classes in TEXT_TASKS.values() for answer in classes} | set(COLOURS)
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *FILLER, *sorted(told | answers)])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        sep_token="[SEP]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        mask_token="[MASK]",
    )
