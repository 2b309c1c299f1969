"""A stranger's adapter_config.json, whatever it says: the same outputs, or one line that names what is wrong."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from peft.utils.other import get_pattern_key
from safetensors.torch import load_file, save_file
from tests.contracts.families import Tiny, build
from tests.contracts.strangers import CONFIG, WEIGHTS, alter, rename, scores_of, stranger

from pitune.errors import InputError
from pitune.experts import Expert, import_peft, load_expert
from pitune.experts.kinds.lora_update import LoraSettings, delta

pytestmark = [
    # PEFT asks transformers by a name that is going out of use
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def bert() -> Tiny:
    return build("bert")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    folder = tmp_path_factory.mktemp("plain") / "theirs"
    return folder, stranger(folder)


@pytest.fixture
def theirs(plain: tuple[Path, torch.Tensor], tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for file in plain[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@dataclass
class NextLoraConfig(LoraConfig):  # type: ignore[misc]  # PEFT is looked past
    """The LoraConfig of a PEFT to come."""

    new_size: int = 16


def test_a_setting_that_the_installed_peft_knows_may_have_its_default(
    bert: Tiny, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(theirs, new_size=16, peft_version="99.0.0")
    with pytest.raises(
        InputError, match=r"new_size is 16, which the installed PEFT .* does not know; PEFT 99.0.0 wrote"
    ):
        import_peft(theirs, bert, "theirs")
    monkeypatch.setattr(peft, "LoraConfig", NextLoraConfig)
    import_peft(theirs, bert, "theirs")
    for value in (17, 0, True, "16", [16]):
        alter(theirs, new_size=value)
        with pytest.raises(InputError, match=r"new_size is .* which is not supported"):
            import_peft(theirs, bert, "theirs")


@pytest.mark.parametrize("value", [None, False, 0, [], {}, ""])
def test_a_setting_that_is_off_passes_with_a_note(
    bert: Tiny, plain: tuple[Path, torch.Tensor], theirs: Path, value: Any
) -> None:
    alter(theirs, of_tomorrow=value)
    expert = import_peft(theirs, bert, "theirs")
    torch.testing.assert_close(scores_of(bert, expert), plain[1], rtol=1e-4, atol=1e-4)
    assert "of_tomorrow" in expert.card.hyperparameters["origin"]["notes"][0]


def test_every_default_of_the_installed_peft_passes_without_a_note(bert: Tiny, theirs: Path) -> None:
    LoraConfig(r=4, lora_alpha=6, target_modules=["query", "value"]).save_pretrained(theirs)
    alter(theirs, base_model_name_or_path="bert")
    assert "notes" not in import_peft(theirs, bert, "theirs").card.hyperparameters["origin"]


@pytest.mark.parametrize(
    "wrap",
    [
        "_orig_mod.{}".format,
        "module.{}".format,
        "module._orig_mod.{}".format,
        lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda name: name.replace("base_model.model.", "base_model.model.module."),
        lambda name: name.replace("layer.0.", "layer.0._orig_mod."),
        lambda name: name.replace("layer.", "layer._fsdp_wrapped_module."),
    ],
)
def test_a_wrapped_model_leaves_no_trace(bert: Tiny, plain: tuple[Path, torch.Tensor], theirs: Path, wrap: Any) -> None:
    rename(theirs, wrap)
    expert = import_peft(theirs, bert, "theirs")
    torch.testing.assert_close(scores_of(bert, expert), plain[1], rtol=1e-4, atol=1e-4)


def test_one_tensor_under_two_names_is_refused(bert: Tiny, theirs: Path) -> None:
    tensors = load_file(theirs / WEIGHTS)
    name = next(iter(tensors))
    save_file({**tensors, f"module.{name}": tensors[name] + 1}, theirs / WEIGHTS)
    with pytest.raises(InputError, match="twice"):
        import_peft(theirs, bert, "theirs")


def imported_or_refused(folder: Path, backbone: Tiny) -> Expert | str:
    try:
        return import_peft(folder, backbone, "theirs")
    except InputError as error:
        return str(error)


WRONG: list[Any] = ["eight", True, [], {}, 3.5, -1, 0, None, 10**18, 10**400, [[1]], {"a": "b"}, [3]]
WRONG += [float("nan"), float("inf")]


@pytest.mark.parametrize("field", [field.name for field in fields(LoraConfig)])
def test_no_value_of_a_field_is_worse_than_one_line(
    bert: Tiny, plain: tuple[Path, torch.Tensor], theirs: Path, field: str
) -> None:
    for value in WRONG:
        (theirs / CONFIG).write_bytes((plain[0] / CONFIG).read_bytes())
        alter(theirs, **{field: value})
        found = imported_or_refused(theirs, bert)
        if isinstance(found, str):
            assert found.isprintable()
            assert len(found) < 700
        elif field not in ("lora_alpha", "use_rslora"):  # these mean something else, rightly
            torch.testing.assert_close(scores_of(bert, found), plain[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", "eight"),
        ("r", True),
        ("r", 10**18),
        ("lora_alpha", []),
        ("lora_alpha", "16"),
        ("lora_alpha", float("nan")),
        ("target_modules", 3),
        ("target_modules", [3]),
        ("rank_pattern", [4]),
        ("rank_pattern", {"query": "4"}),
        ("alpha_pattern", {"query": float("inf")}),
        ("use_rslora", "yes"),
        ("lora_bias", 1),
        ("base_model_name_or_path", 5),
        ("revision", []),
        ("peft_type", {}),
    ],
)
def test_a_wrong_type_is_named(bert: Tiny, theirs: Path, field: str, value: Any) -> None:
    alter(theirs, **{field: value})
    with pytest.raises(InputError, match=rf"{field}(\.\w+)*: "):
        import_peft(theirs, bert, "theirs")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(
        st.sampled_from([field.name for field in fields(LoraConfig)]) | st.text(max_size=12), JSON, max_size=3
    )
)
def test_any_configuration_is_an_expert_or_one_line(
    bert: Tiny, plain: tuple[Path, torch.Tensor], theirs: Path, changes: dict[str, Any]
) -> None:
    (theirs / CONFIG).write_bytes((plain[0] / CONFIG).read_bytes())
    alter(theirs, **changes)
    found = imported_or_refused(theirs, bert)
    assert not isinstance(found, str) or found.isprintable()


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "null", '"lora"', "[" * 100_000, '{"r": ' + "9" * 5000 + "}", "\xff", "{}"]
)
def test_a_file_that_is_no_configuration_is_refused(bert: Tiny, theirs: Path, text: str) -> None:
    (theirs / CONFIG).write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=CONFIG):
        import_peft(theirs, bert, "theirs")


def test_a_base_of_any_name_is_refused_in_one_line(bert: Tiny, theirs: Path) -> None:
    for name in ("a" * 5000, "\0", "\x1b[31m", "/proc/self/root", ""):
        alter(theirs, base_model_name_or_path=name)
        with pytest.raises(InputError, match="belongs to the base model") as error:
            import_peft(theirs, bert, "theirs")
        assert str(error.value).isprintable()


def test_settings_that_contradict_the_tensors_are_refused(bert: Tiny, theirs: Path) -> None:
    for fields_ in ({"r": 8}, {"rank_pattern": {"layer.0.attention.self.query": 2}}):
        alter(theirs, **{"r": 4, "rank_pattern": {}, **fields_})
        with pytest.raises(InputError, match=r"the rank (8|2), its tensor lora_A.weight has 4"):
            import_peft(theirs, bert, "theirs")


def test_layers_that_are_targeted_and_have_no_part_are_told(bert: Tiny, theirs: Path) -> None:
    tensors = load_file(theirs / WEIGHTS)
    save_file({name: value for name, value in tensors.items() if "layer.1" not in name}, theirs / WEIGHTS)
    origin = import_peft(theirs, bert, "theirs").card.hyperparameters["origin"]
    assert "targets 2 more layers of the backbone, such as encoder.layer.1.attention.self.query" in origin["notes"][0]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_tensors_that_are_no_floats_are_refused(bert: Tiny, theirs: Path, dtype: torch.dtype) -> None:
    save_file({name: value.to(dtype) for name, value in load_file(theirs / WEIGHTS).items()}, theirs / WEIGHTS)
    with pytest.raises(InputError, match="expected floats"):
        import_peft(theirs, bert, "theirs")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_tensors_of_other_floats_are_read(bert: Tiny, theirs: Path, dtype: torch.dtype) -> None:
    tensors = {name: value.to(dtype) for name, value in load_file(theirs / WEIGHTS).items()}
    save_file(tensors, theirs / WEIGHTS)
    expert = import_peft(theirs, bert, "theirs")
    for name, value in tensors.items():
        assert torch.equal(expert.tensors[name.removeprefix("base_model.model.")], value.float())


def test_a_name_that_ends_another_is_that_module_alone(tmp_path: Path) -> None:
    backbone, inner = build("bert"), build("bert").module
    backbone.module.other = inner
    short, long = "encoder.layer.0.attention.self.query", "other.encoder.layer.0.attention.self.query"
    anchored = "^" + re.escape(short)
    config = LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=r".*\.query",
        init_lora_weights=False,
        rank_pattern={anchored: 2},
        alpha_pattern={anchored: 9},
    )
    model = get_peft_model(backbone.module, config)
    model.save_pretrained(tmp_path / "both")
    alter(tmp_path / "both", base_model_name_or_path="bert")
    model.unload()
    expert = import_peft(tmp_path / "both", backbone, "both")
    expert.save(tmp_path / "ours")
    read = json.loads((tmp_path / "ours" / CONFIG).read_text())
    again = load_expert(tmp_path / "ours")
    for site, alpha, rank in ((short, 9, 2), (long, 6, 4)):
        expected = alpha / rank * again.tensors[f"{site}.lora_B.weight"] @ again.tensors[f"{site}.lora_A.weight"]
        torch.testing.assert_close(delta(cast("LoraSettings", again.settings), again.tensors, site), expected)
        for pattern, otherwise, value in (("alpha_pattern", "lora_alpha", alpha), ("rank_pattern", "r", rank)):
            key = get_pattern_key(sorted(read[pattern]), site)  # in the order of the file, as PEFT looks
            assert read[pattern].get(key, read[otherwise]) == value
    only = {name: value for name, value in expert.tensors.items() if not name.startswith("other.")}
    save_file({f"base_model.model.{name}": value for name, value in only.items()}, tmp_path / "both" / WEIGHTS)
    one = import_peft(tmp_path / "both", backbone, "one")
    assert not any(site.startswith("other.") for site in one.sites)
