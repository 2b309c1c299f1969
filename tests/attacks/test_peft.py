"""PEFT folders of strangers, to import: read as numbers and JSON, in bounded time, or refused in one line."""

from __future__ import annotations

import json
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.attacks.answers import SOON
from tests.contracts.families import Tiny, build
from tests.contracts.strangers import CONFIG, WEIGHTS, stranger

from pitune.errors import InputError
from pitune.experts import import_peft

pytestmark = [
    # PEFT asks transformers by a name that is going out of use
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
SLOW = r"(\w|\w\w|[a-z])+(\.(\w|\w\w|\w\w\w)+)+!"
CONFIGS: dict[str, Any] = {
    "huge rank": {"r": 10**18},
    "large rank": {"r": 10**7},
    "negative rank": {"r": -1},
    "rank of another kind": {"r": True},
    "infinite scale": {"lora_alpha": float("inf")},
    "no number": {"lora_alpha": float("nan")},
    "slow pattern": {"target_modules": SLOW},
    "slow rank pattern": {"rank_pattern": {SLOW: 2}},
    "slow layers": {"layers_pattern": SLOW, "layers_to_transform": [0]},
    "long pattern": {"target_modules": "(a+)+" * 5000},
    "broken pattern": {"target_modules": "(["},
    "many names": {"target_modules": ["query"] * 300_000},
    "unknown names": {"target_modules": [f"m{i}" for i in range(1000)]},
    "numbers for names": {"target_modules": [1, 2]},
    "nothing": {"target_modules": []},
    "code": {"auto_mapping": {"base_model_class": "os", "parent_library": "os"}},
    "runtime": {"runtime_config": {"ephemeral_gpu_offload": True}},
    "initialiser": {"init_lora_weights": "pissa_niter_4"},
    "data for a start": {"corda_config": {"cache_file": "/etc/passwd"}, "init_lora_weights": "corda"},
    "another type": {"peft_type": "os.system"},
    "escapes in a type": {"peft_type": "\x1b[2J"},
    "type of a number": {"peft_type": 3},
    "another base": {"base_model_name_or_path": "\x1b]0;owned\x07/../../etc"},
    "base with a null": {"base_model_name_or_path": "a\0b"},
    "base of a device": {"base_model_name_or_path": "/dev/zero"},
    "revision": {"revision": "\x1b[31m"},
    "saved modules": {"modules_to_save": ["../../x"]},
    "what is to come": {"hook": "os.system('touch made')"},
    "deep": {"hook": json.loads("[" * 400 + "]" * 400)},
}

READ = (
    *("slow pattern", "slow rank pattern", "slow layers", "long pattern", "broken pattern", "unknown names", "nothing"),
    *("code", "runtime", "revision"),
)


@pytest.fixture(scope="module")
def bert() -> Tiny:
    return build("bert")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain") / "theirs"
    stranger(folder)
    return folder


@pytest.fixture
def theirs(sound: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in sound.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def refused(theirs: Path, bert: Tiny) -> str:
    start = time.process_time()
    with pytest.raises(InputError) as error:
        import_peft(theirs, bert, "theirs")
    assert time.process_time() - start < SOON
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 2000
    return str(error.value)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_refused(
    bert: Tiny, theirs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = json.loads((theirs / CONFIG).read_text())
    (theirs / CONFIG).write_text(json.dumps(config | CONFIGS[name]))
    if name in READ:  # which modules there are, the tensors say
        import_peft(theirs, bert, "theirs")
    else:
        refused(theirs, bert)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("text", ["", "[", "3", "[]", "[" * 100_000, '{"peft_type": ' + "9" * 5000 + "}", "\xff"])
def test_what_is_no_configuration(bert: Tiny, theirs: Path, text: str) -> None:
    (theirs / CONFIG).write_bytes(text.encode("latin-1"))
    assert CONFIG in refused(theirs, bert)


class _Runs:
    def __reduce__(self) -> Any:
        return os.system, ("touch made",)


@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.pt", WEIGHTS])
def test_a_pickle_is_never_read(
    bert: Tiny, theirs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (theirs / WEIGHTS).unlink()
    (theirs / name).write_bytes(pickle.dumps(_Runs()))
    refused(theirs, bert)
    assert not (tmp_path / "made").exists()


def _header(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff" * 8,
        _header(b"{"),
        _header(b"[" * 10_000),
        _header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
        _header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
        _header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}') + bytes(4),
        _header(b'{"a":{"dtype":"OS","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
        _header(b'{"__metadata__":{"a":3}}'),
        _header(b'{"\\u001b[2J":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
    ],
)
def test_what_are_no_weights(bert: Tiny, theirs: Path, data: bytes) -> None:
    (theirs / WEIGHTS).write_bytes(data)
    refused(theirs, bert)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value * float("nan"),
        lambda value: value + float("inf"),
        lambda value: value.to(torch.int64),
        lambda value: value.to(torch.complex64),
        lambda value: value.bool(),
        lambda value: value[:0],
        lambda value: value.reshape(-1),
        lambda value: value.T.contiguous(),
    ],
)
def test_other_numbers_are_refused(bert: Tiny, theirs: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    tensors = load_file(theirs / WEIGHTS)
    first = sorted(tensors)[0]
    save_file({**tensors, first: change(tensors[first])}, theirs / WEIGHTS)
    refused(theirs, bert)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("what", ["pipe", "folder", "device"])
def test_what_is_no_file_is_not_waited_for(bert: Tiny, theirs: Path, name: str, what: str) -> None:
    (theirs / name).unlink()
    if what == "pipe":
        os.mkfifo(theirs / name)
    elif what == "folder":
        (theirs / name).mkdir()
    else:
        (theirs / name).symlink_to("/dev/zero")
    refused(theirs, bert)
