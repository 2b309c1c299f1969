"""Every parser of what a stranger wrote, on bytes that are almost right: a value, or one printable line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.attacks.fuzz import CORPUS, READERS, check
from torch import nn, ones, optim

from pitune.commands.config import read_config
from pitune.commands.kinds import read_settings
from pitune.commands.set_up import read_columns
from pitune.commands.study import read_shots
from pitune.errors import InputError
from pitune.experts import check_name
from pitune.experts.patterns import modules_matching, pattern_key
from pitune.experts.storage import decode
from pitune.studies import CompareResults, TransferResults
from pitune.studies.rows import Rows
from pitune.tasks.formats.declaration import read_names
from pitune.tasks.formats.reading import read_templates
from pitune.training import read_mixing
from pitune.training.checkpoint import load_checkpoint

ROW = '{"task":"a","method":"b","shots":4,"seed":0,"metric":"accuracy","value":0.5,"n":2,"seconds":1.0}\n'
TENSORS = (CORPUS / "experts" / "fisher").read_bytes()[1:]
EXAMPLES = 60


def corpus(kind: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / kind).iterdir()) if path.stat().st_size < 20_000]


def config(path: Path) -> object:
    context = typer.Context(typer.core.TyperCommand("x"))
    return read_config(context, path)


def checkpoint(path: Path) -> object:
    values = [nn.Parameter(ones(2))]
    (path.parent / "checkpoint.safetensors").write_bytes(path.read_bytes())
    return load_checkpoint(path.parent, "key", values, optim.AdamW(values))


FILES: Mapping[str, tuple[Callable[[Path], object], list[bytes]]] = {
    "names.txt": (read_names, [b"a\nb\n", b"\xef\xbb\xbfa\r\n"]),
    "names.json": (read_names, [b'["a", "b"]', b'{"1": "a"}']),
    "names.yaml": (read_names, [b"[a, b]", b"1: a\n2: b\n"]),
    "rows.jsonl": (Rows, [ROW.encode() * 2]),
    "compare.json": (CompareResults.read, [json.dumps({"schema": 1, "rows": [json.loads(ROW)]}).encode()]),
    "transfer.json": (TransferResults.read, [b'{"schema": 1, "study": "transfer", "tasks": ["a"]}']),
    "options.yaml": (config, [b"steps: 3\nseed: 1\n"]),
    "state.safetensors": (checkpoint, [TENSORS]),
    "some.safetensors": (lambda path: decode(path, path.read_bytes()), [TENSORS]),
}
TEXTS: Mapping[str, tuple[Callable[[str], object], list[str]]] = {
    "a name": (check_name, ["abc-1"]),
    "a mixing": (read_mixing, ["temperature=2", "capped=256", "balanced"]),
    "shots": (lambda text: read_shots([text]), ["4", "all"]),
    "columns": (lambda text: read_columns([text]), ["label=stars"]),
    "a template": (read_templates, ["a photo of a {}."]),
    "a pattern": (lambda text: modules_matching(text, ["layer.0.query", "layer.1.query"]), [r".*\.(query|value)"]),
    "a key": (lambda text: pattern_key((text,), "layer.0.query"), [r"layer\.\d+"]),
    "a setting": (lambda text: read_settings("lora", None, [text]), ["r=2", "target_modules=[query]"]),
}


@st.composite
def almost(draw: Any, seeds: list[Any]) -> Any:
    """Draw one of some bytes or texts with a few parts cut out, doubled, or replaced."""
    found = draw(st.sampled_from(seeds))
    other = st.binary(max_size=8) if isinstance(found, bytes) else st.text(max_size=8)
    for _ in range(draw(st.integers(0, 3))):
        start, end = sorted((draw(st.integers(0, len(found))), draw(st.integers(0, len(found)))))
        found = found[:start] + draw(st.one_of(other, st.just(found[start:end] * 2), st.just(found[:0]))) + found[end:]
    return found


def settled(read: Callable[[Any], object], given_: Any) -> None:
    try:
        read(given_)
    except typer.BadParameter:
        pass  # the command line makes it printable
    except InputError as error:
        check(error)


LIKE = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.mark.parametrize("name", FILES)
def test_a_file(tmp_path: Path, name: str, record_property: Callable[[str, object], None]) -> None:
    read, seeds = FILES[name]

    @LIKE
    @given(almost(seeds))
    def go(data: bytes) -> None:
        (tmp_path / name).write_bytes(data)
        settled(read, tmp_path / name)

    go()
    record_property("inputs", EXAMPLES)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text(name: str, record_property: Callable[[str, object], None]) -> None:
    read, seeds = TEXTS[name]

    @LIKE
    @given(almost(seeds))
    def go(text: str) -> None:
        settled(read, text)

    go()
    record_property("inputs", EXAMPLES)


@pytest.mark.parametrize("kind", READERS)
def test_experts_and_tasks(tmp_path: Path, kind: str, record_property: Callable[[str, object], None]) -> None:
    @LIKE
    @given(almost(corpus(kind)))
    def go(data: bytes) -> None:
        READERS[kind](tmp_path / kind, data)

    go()
    record_property("inputs", EXAMPLES)
