"""An export loads with PEFT's own loaders, base model and all, and answers as the expert does here."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModel, AutoPeftModelForCausalLM, AutoPeftModelForSeq2SeqLM
from tests.backbones.conftest import FAMILIES, TEXTS_ALONE, task_for

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts import (
    KINDS,
    Card,
    Expert,
    attached,
    export_peft,
    import_peft,
    initial_tensors,
    make_settings,
    peft_check,
)

pytestmark = pytest.mark.filterwarnings("ignore")  # what PEFT and transformers say of each other


def random_expert(backbone: Backbone, method: str = "lora", **settings: Any) -> Expert:
    kind = KINDS.get(method)
    chosen = make_settings(kind, backbone, **settings)
    with attached(backbone, kind, chosen) as place:
        tensors = initial_tensors(kind, place.shapes, 0, chosen)
    generator = torch.Generator().manual_seed(0)
    tensors = {name: value + 0.3 * torch.randn(value.shape, generator=generator) for name, value in tensors.items()}
    return Expert(kind, chosen, tensors, Card(name="it", backbone=backbone.fingerprint, base_model=backbone.name))


def scores(backbone: Backbone, data: dict[str, Path], expert: Expert | None = None, module: Any = None) -> torch.Tensor:
    """The scores and features of examples, with an expert attached, or of another module in the backbone's place."""
    used: Any = copy.copy(backbone)
    kind = next((one for one in TEXTS_ALONE if type(backbone.module).__name__.lower().startswith(one)), "")
    task = task_for(kind, data)
    examples = task.examples("test")[:4]
    with torch.no_grad():
        if expert is not None:
            with attached(used, expert.kind, expert.settings) as place:  # first, so that no picture is read without it
                batch = used.prepare(examples, task)
                return torch.cat([place.scores(expert.tensors, batch), place.features(expert.tensors, batch)], 1)
        used.module = used._model = module
        batch = used.prepare(examples, task)
        return torch.cat([used.scores(batch), used.features(batch)], 1)


EXPORTS = [(kind, method) for kind in FAMILIES for method in ("lora", "ia3", "layernorm")]
EXPORTS.remove(("modernbert", "ia3"))  # whose keys and values come out of one layer


@pytest.mark.parametrize(("kind", "method"), EXPORTS)
def test_an_export_loads_by_itself_with_the_same_scores(
    kind: str,
    method: str,
    backbones: dict[str, Backbone],
    checkpoints: dict[str, Path],
    data: dict[str, Path],
    tmp_path: Path,
) -> None:
    backbone = backbones[kind]
    expert = random_expert(backbone, method, **({"r": 2} if method == "lora" else {}))
    checked = export_peft(expert, tmp_path / "out", backbone)
    assert checked is not None
    assert checked.tensors == len(expert.tensors)
    assert checked.error is not None
    assert checked.error < 1e-3
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(checkpoints[kind])
    if kind == "t5":
        assert config["task_type"] == "SEQ_2_SEQ_LM"
        loaded = AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    elif kind in ("llama", "gemma3"):
        assert config["task_type"] == "CAUSAL_LM"
        loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    else:
        assert config["auto_mapping"]["base_model_class"] == type(backbone.module).__name__
        loaded = AutoPeftModel.from_pretrained(tmp_path / "out").eval()
    expected = scores(backbone, data, expert)
    assert float((expected - scores(backbone, data, module=backbone.module)).abs().max()) > 1e-4
    found = scores(backbone, data, module=loaded.get_base_model())
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_relative_folder_is_written_whole(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pitune.backbones import load_backbone

    monkeypatch.chdir(checkpoints["t5"].parent)
    backbone = load_backbone("t5", "cpu")
    export_peft(random_expert(backbone), tmp_path / "out", backbone)
    monkeypatch.chdir(tmp_path)
    assert AutoPeftModelForSeq2SeqLM.from_pretrained("out").peft_config["default"].task_type == "SEQ_2_SEQ_LM"


@pytest.mark.parametrize("method", ["adapter", "bitfit", "prefix", "deep_prompt", "visual_prompt", "text_prompt"])
def test_a_kind_that_peft_cannot_hold_is_refused_by_name(
    method: str, backbones: dict[str, Backbone], tmp_path: Path
) -> None:
    backbone = backbones["clip"]
    expert = random_expert(backbone, method)
    for base in (None, backbone):
        with pytest.raises(InputError, match=f"no experts of kind '{method}'; expected one of: lora, layernorm, ia3; "):
            export_peft(expert, tmp_path / "out", base)
    assert not (tmp_path / "out").exists()


def test_what_peft_would_drop_or_scale_otherwise_is_not_written(
    backbones: dict[str, Backbone], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = backbones["clip"]
    expert = random_expert(backbone)
    true: Any = type(expert.kind).peft
    for changes, message in (
        ({"lora_alpha": 17.0}, "off what it is here"),
        ({"target_modules": ["q_proj"]}, "PEFT drops 'base_model.model"),
        ({"r": 3}, "PEFT cannot read it back"),
    ):
        monkeypatch.setattr(
            type(expert.kind), "peft", lambda self, settings, changes=changes: {**true(self, settings), **changes}
        )
        with pytest.raises(InputError, match=f"not written, .*{message}|{message}"):
            export_peft(expert, tmp_path / "out", backbone)
        assert list(tmp_path.iterdir()) == []


def test_another_backbone_is_refused(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    for method in ("lora", "layernorm"):
        with pytest.raises(InputError, match="belongs to another backbone"):
            export_peft(random_expert(backbones["clip"], method), tmp_path / "out", backbones["siglip"])


def test_a_tied_output_layer_is_checked_alone(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone = backbones["t5"]
    checked = export_peft(random_expert(backbone, target_modules=("lm_head",)), tmp_path / "out", backbone)
    assert checked == peft_check.Checked(2, checked.error if checked else None)


def test_names_that_end_like_another_are_only_theirs(backbones: dict[str, Backbone], tmp_path: Path) -> None:
    backbone: Any = copy.copy(backbones["t5"])
    backbone.module = copy.deepcopy(backbone.module)
    backbone.module.other = copy.deepcopy(backbone.module)
    names = [name for name, _ in backbone.module.named_modules() if name.endswith("SelfAttention.q")]
    ranks = {name: 3 for name in names if name.startswith("other.")}
    expert = random_expert(backbone, target_modules=tuple(names), rank_pattern=ranks, r=2)
    assert export_peft(expert, tmp_path / "out", backbone) is not None


HUB = """
import json, sys, torch, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from peft import AutoPeftModel, AutoPeftModelForCausalLM, AutoPeftModelForSeq2SeqLM
from pitune.backbones import load_backbone
from pitune.errors import InputError
from pitune.experts import export_peft, import_peft
from tests.backbones.test_peft_exports import random_expert

out, commit, other = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
for name, auto in (("some/t5", AutoPeftModelForSeq2SeqLM), ("some/clip", AutoPeftModel)):
    backbone = load_backbone(name, "cpu")
    assert backbone.name == f"{name}@{commit}", backbone.name
    expert, folder = random_expert(backbone), out / name
    folder.parent.mkdir(exist_ok=True)
    export_peft(expert, folder, backbone)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == (name, commit), config
    loaded = auto.from_pretrained(folder)
    site = expert.sites[0]
    layer = loaded.get_base_model().get_submodule(site)
    assert torch.equal(layer.lora_A["default"].weight, expert.tensors[f"{site}.lora_A.weight"])
    for revision, base, fits in (
        (commit, name, True), (None, name, True), ("main", name, True), (other, name, False),
        (None, "some/other", False),
        (None, "/home/it/" + name.split("/")[1], False), (None, "/home/it/checkpoint-500", False),
    ):
        file.write_text(json.dumps({**config, "revision": revision, "base_model_name_or_path": base}))
        try:
            again = import_peft(folder, backbone, "again")
            assert fits, (revision, base)
            assert all(torch.equal(value, again.tensors[key]) for key, value in expert.tensors.items())
        except InputError as error:
            assert not fits, error
    again = import_peft(folder, backbone, "again", any_base=True)
print("good")
"""


def test_hub_backbones_go_out_and_come_in_by_id_and_revision(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    commit, other = "0123456789abcdef0123456789abcdef01234567", "f" * 40
    for name in ("t5", "clip"):
        cache = tmp_path / "hub" / f"models--some--{name}"
        (cache / "snapshots").mkdir(parents=True)
        (cache / "refs").mkdir()
        (cache / "refs" / "main").write_text(commit)
        (cache / "snapshots" / commit).symlink_to(checkpoints[name])
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    (tmp_path / "out").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", HUB, str(tmp_path / "out"), commit, other],
        env=environment,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("good\n"), done.stderr[-3000:]


def test_a_checkpoint_of_one_name_is_known_by_its_weights(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from pitune.backbones import load_backbone

    for place, kind in (("mine", "t5"), ("same", "t5"), ("other", "clip")):
        shutil.copytree(checkpoints[kind], tmp_path / place / "checkpoint-500")
    backbone = load_backbone(str(tmp_path / "mine" / "checkpoint-500"), "cpu")
    export_peft(random_expert(backbone), tmp_path / "out", backbone)
    file = tmp_path / "out" / "adapter_config.json"
    for place, fits in (("mine", True), ("same", True), ("other", False), ("nowhere", False)):
        base = str(tmp_path / place / "checkpoint-500")
        file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": base}))
        if fits:
            import_peft(tmp_path / "out", backbone, "it")
        else:
            with pytest.raises(InputError, match="belongs to the base model"):
                import_peft(tmp_path / "out", backbone, "it")
