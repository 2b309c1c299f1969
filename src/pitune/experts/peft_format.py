"""Experts in and out of PEFT: a stranger's LoRA into a pool, an expert of ours as a folder that plain PEFT loads."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from pitune.backbones import Backbone, same_weights
from pitune.backbones.checkpoint import open_checkpoint
from pitune.compat import checkpoint_of
from pitune.errors import InputError, first_problem
from pitune.experts import peft_conversion as conversion
from pitune.experts.attached import attached
from pitune.experts.card import Card, base_of, hub_id
from pitune.experts.expert import CONFIG, PREFIX, README, WEIGHTS, Expert, check_tensors, weights_bytes
from pitune.experts.kind import Kind
from pitune.experts.peft_check import Checked, check_written
from pitune.experts.registry import KINDS
from pitune.experts.storage import check_name, decode, read_file
from pitune.files import atomic_folder, check_free, json_bytes
from pitune.tasks.formats.parsing import json_value

PICKLE = "adapter_model.bin"
_LARGEST_CONFIG = 1 << 24
_WRAPPERS = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")


def import_peft(
    source: str | Path, backbone: Backbone, name: str, any_base: bool = False, *, convert: float | None = None
) -> Expert:
    """Return any PEFT LoRA, in a folder or on the hub, as an expert of `backbone`.

    Its base model must be the backbone, by name, unless `any_base` says that it is under another name; the
    shapes must fit either way. Only `adapter_config.json` and `adapter_model.safetensors` are read. Another kind of
    adapter that PEFT can turn into a LoRA comes in as one where `convert` is its rank, or below 1 the share of each
    ΔW's energy to keep; the error stands in the card, in `hyperparameters["origin"]["conversion"]`, and what was
    passed over in `["notes"]`. Raise `InputError` naming what is not supported: DoRA, `modules_to_save`,
    `target_parameters`, pickled weights, another base.
    """
    check_name(name)
    config_file, weights_file = _find(source)
    config = _read_config(config_file)
    where = str(source)
    converted = convert is not None and config["peft_type"] not in _readable()
    kind = KINDS.get("lora") if converted else _kind(config, where)
    if not any_base:
        _check_base(config, backbone, where)
    origin: dict[str, Any] = {"imported_from": where, "base_model": config.get("base_model_name_or_path")}
    stored = _read_weights(weights_file, where)
    if convert is not None and converted:
        made = conversion.convert(config, stored, backbone.module, where, convert)
        origin["conversion"] = {"peft_type": made.kind, "rank": convert, "error": made.error}
        config, stored = made.config, made.tensors
    notes: list[str] = []
    settings, tensors = kind.from_peft(config, floats(stored, where), backbone, where, notes.append)
    kind.check(settings, tensors, where)
    with attached(backbone, kind, settings) as place:
        check_tensors(place.shapes, tensors, where)
    if notes:
        origin["notes"] = notes
    card = Card(name=name, backbone=backbone.fingerprint, base_model=backbone.name, hyperparameters={"origin": origin})
    return Expert(kind, settings, tensors, card)


def export_peft(expert: Expert, folder: str | Path, backbone: Backbone | None = None) -> Checked | None:
    """Write an expert as a folder that plain PEFT loads; `folder` must be free.

    With its backbone, the folder also says of which class the base model is, so that `AutoPeftModel…` loads both, and
    is read back with PEFT before it takes its place: every tensor, and every change of the backbone's weights. That
    is what is returned. `lora` and `ia3` can be written without; `layernorm` cannot, since PEFT keeps whole norms.
    Raise `InputError` for kinds that PEFT has no like of, and where PEFT would read anything else.
    """
    folder = Path(folder)
    check_free(folder)
    check_exports(expert)
    if backbone is not None and not same_weights(expert.card.backbone, backbone.fingerprint):
        raise InputError(f"expert {expert.name!r} belongs to another backbone ({expert.card.base_model})")
    config, tensors = expert.kind.to_peft(expert, backbone)
    base = base_model(expert.card, backbone)
    classes = classes_of(backbone.module) if backbone is not None and _can_be_found(base) else {}
    config = {**config, **base, **classes, "inference_mode": True}
    files = {CONFIG: json_bytes(config), WEIGHTS: weights_bytes(tensors), README: expert.readme("peft")}
    with atomic_folder(folder) as beside:
        for name, content in files.items():
            (beside / name).write_bytes(content)
        if backbone is None:
            return None
        return check_written(beside, {f"{PREFIX}{name}": value for name, value in tensors.items()}, expert, backbone)


def check_exports(expert: Expert) -> None:
    """Raise `InputError` naming what to do instead where PEFT has no experts of a kind."""
    if not expert.kind.exports:
        known = ", ".join(kind.name for kind in KINDS.all() if kind.exports)
        other = "write a whole model (--merged, or merge_into)" if expert.kind.merges else "load it with load_expert"
        raise InputError(f"PEFT has no experts of kind {expert.method!r}; expected one of: {known}; {other} instead")


def base_model(card: Card, backbone: Backbone | None) -> dict[str, str]:
    """Return what PEFT calls a base model: its hub id and revision, or the whole name of its folder if it has one."""
    base = base_of(card)
    named = base["base_model_name_or_path"]
    loaded = checkpoint_of(backbone.module) if backbone is not None else ""  # where a name of its own has it
    folder = next((one for one in (named, loaded) if os.path.isdir(one)), "")
    return base if "revision" in base or not folder else {"base_model_name_or_path": os.path.abspath(folder)}


def _can_be_found(base: Mapping[str, str]) -> bool:
    """Return whether transformers finds a base model: on the hub, or in its folder."""
    return "revision" in base or os.path.isfile(os.path.join(base["base_model_name_or_path"], "config.json"))


def classes_of(module: nn.Module) -> dict[str, Any]:
    """Return what PEFT writes for `AutoPeftModel…` to find a model's class: its task, or else the class itself."""
    found = type(module)
    for task, classes in (
        ("SEQ_2_SEQ_LM", MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES),
        ("CAUSAL_LM", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
    ):
        if classes.get(getattr(getattr(module, "config", None), "model_type", "")) == found.__name__:
            return {"task_type": task, "auto_mapping": None}
    if not isinstance(module, PreTrainedModel):
        return {}
    return {
        "task_type": None,
        "auto_mapping": {"base_model_class": found.__name__, "parent_library": found.__module__},
    }


def _find(source: str | Path) -> tuple[Path, Path]:
    folder = Path(source)
    if os.path.isdir(source):
        if not (folder / CONFIG).is_file():
            raise InputError(f"{folder}: has no {CONFIG}; expected the folder of a PEFT adapter")
        if not (folder / WEIGHTS).is_file():
            reason = f"its weights are pickled ({PICKLE}), which could run code" if (folder / PICKLE).exists() else ""
            raise InputError(f"{folder}: has no {WEIGHTS}; {reason or 'its weights are missing'}; save it again")
        return folder / CONFIG, folder / WEIGHTS
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        raise InputError(f"{source}: no such folder; expected a PEFT adapter's folder, or a hub id such as owner/name")
    try:
        return Path(hf_hub_download(str(source), CONFIG)), Path(hf_hub_download(str(source), WEIGHTS))
    except (EntryNotFoundError, LocalEntryNotFoundError) as error:
        raise InputError(f"{source}: has no {CONFIG} and {WEIGHTS} on the hub, or it cannot be reached") from error
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"{source}: cannot be fetched from the hub ({type(error).__name__})") from error


class _Head(BaseModel):
    """What every kind of PEFT adapter says of itself."""

    model_config = ConfigDict(strict=True)

    peft_type: str
    base_model_name_or_path: str | None = None
    revision: str | None = None
    peft_version: str | None = None


def _read_config(path: Path) -> dict[str, Any]:
    data = read_file(path, most=_LARGEST_CONFIG)
    try:
        config: dict[str, Any] = json_value(data)
        _Head.model_validate(config)
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}; expected a PEFT configuration") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({error}); fetch it again") from error
    return config


def _read_weights(path: Path, where: str) -> dict[str, Tensor]:
    """Return tensors by the module's own names, without those of what the model was wrapped in."""
    tensors: dict[str, Tensor] = {}
    for key, value in decode(path, read_file(path)).items():
        name = plain_name(key)
        if name in tensors:
            raise InputError(f"{where}: has tensor {name!r:.200} twice, once as {key!r:.200}; save it again")
        tensors[name] = value
    return tensors


def floats(tensors: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return tensors in float32; raise `InputError` naming one that holds no floats."""
    for name, value in tensors.items():
        if not value.is_floating_point():
            raise InputError(f"{where}: tensor {name!r:.200} holds {value.dtype} values; expected floats")
    return {name: value.float() for name, value in tensors.items()}


def plain_name(key: str) -> str:
    """Return a stored tensor's name without the prefixes of PEFT, `torch.compile`, DDP and FSDP."""
    for wrapper in _WRAPPERS:
        key = key.replace(wrapper, "")
    return key.removeprefix("module.").removeprefix(PREFIX).removeprefix("module.")


def _readable() -> dict[str, Kind]:
    return {kind.peft_type: kind for kind in KINDS.all() if kind.peft_type}


def _kind(config: Mapping[str, Any], where: str) -> Kind:
    readable, found = _readable(), config["peft_type"]
    if found not in readable:
        raise InputError(
            f"{where}: is of PEFT type {found!r:.80}; expected {' or '.join(readable)}; {conversion.help_with(found)}"
        )
    return readable[found]


def _check_base(config: Mapping[str, Any], backbone: Backbone, where: str) -> None:
    """Raise `InputError` unless an adapter's base model is the backbone: by hub id, by name, or by its weights."""
    base, revision = str(config.get("base_model_name_or_path") or ""), config.get("revision")
    name, commit = hub_id(backbone.name)
    if commit and base == name:
        if revision not in (None, "", "main", commit):
            raise InputError(
                f"{where}: belongs to revision {revision!r:.100} of {name}; expected {commit} "
                "(if they are the same, say so)"
            )
        return
    known = {backbone.name, checkpoint_of(backbone.module)} - {""}
    if base not in known and not _same_weights(base, backbone):
        raise InputError(
            f"{where}: belongs to the base model {base!r:.300}; expected {' or '.join(sorted(known))} "
            "(if they are the same model, say so)"
        )


def _same_weights(folder: str, backbone: Backbone) -> bool:
    """Return whether a folder holds a checkpoint of the backbone's own weights."""
    try:
        return Path(folder).is_dir() and same_weights(open_checkpoint(folder).fingerprint, backbone.fingerprint)
    except (InputError, OSError, ValueError):  # no such folder, or no name of one
        return False
