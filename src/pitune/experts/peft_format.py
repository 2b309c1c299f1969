"""Experts in and out of PEFT: a stranger's LoRA into a pool, an expert of ours as a folder that plain PEFT loads."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.expert import Card, Expert, check_tensors
from pitune.experts.kind import attached
from pitune.experts.kinds.layernorm import LAYERNORM
from pitune.experts.kinds.lora import BIAS, DOWN, LORA, UP, LoraSettings, scaling
from pitune.experts.storage import CONFIG, README, WEIGHTS, check_name, peft_json, readme, weights
from pitune.files import json_bytes

PICKLE = "adapter_model.bin"
_PREFIX = "base_model.model."
_OWN_BIAS = re.compile(r"(\.base_layer)?\.bias$")
# settings that say how a LoRA was found or trained, and those that we translate; any other must ask for nothing
# fmt: off
_KNOWN = frozenset((
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "use_rslora", "lora_bias",
    "eva_config", "corda_config", "lora_ga_config", "loftq_config", "runtime_config", "megatron_core",
    "qalora_group_size", "ensure_weight_tying",
))
# fmt: on
_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", "lora_only", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),  # the others change the base too
}


def import_peft(source: str | Path, backbone: Backbone, name: str, any_base: bool = False) -> Expert:
    """Return any PEFT LoRA, in a folder or on the hub, as an expert of `backbone`.

    Its base model must be the backbone, by name, unless `any_base` says that it is under another name; the
    shapes must fit either way. Only `adapter_config.json` and `adapter_model.safetensors` are read. Raise
    `InputError` naming what is not supported: another kind of expert, DoRA, `modules_to_save`,
    `target_parameters`, pickled weights, another base.
    """
    check_name(name)
    config_file, weights_file = _find(source)
    config = _read_config(config_file)
    where = str(source)
    _check_supported(config, where)
    if not any_base:
        _check_base(config, backbone, where)
    stored = {key.removeprefix(_PREFIX): value.float() for key, value in _read_weights(weights_file).items()}
    settings, tensors = _translate(config, stored, backbone, where)
    with attached(backbone, LORA, settings) as place:
        check_tensors(place.shapes, tensors, where)
    origin = {"imported_from": where, "base_model": config.get("base_model_name_or_path")}
    card = Card(name=name, backbone=backbone.fingerprint, base_model=backbone.name, hyperparameters={"origin": origin})
    return Expert(LORA.name, settings.model_dump(mode="json"), tensors, card)


def export_peft(expert: Expert, folder: str | Path, backbone: Backbone | None = None) -> None:
    """Write an expert as a folder that plain `PeftModel.from_pretrained` loads; `folder` must be free.

    `lora` and `ia3` need the expert alone; `layernorm` needs the backbone too, since PEFT keeps whole norms.
    Raise `InputError` for kinds that PEFT has no like of.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists; choose a folder that is free")
    config, data = peft_json(expert), weights(expert)
    if expert.method == LAYERNORM.name:
        if backbone is None:
            raise InputError("layernorm experts hold changes, PEFT whole norms; name the backbone to export them")
        config = {"peft_type": "LN_TUNING", "target_modules": list(expert.config["target_modules"])}
        data = _whole_norms(expert, backbone)
    if config is None:
        raise InputError(f"PEFT has no experts like {expert.method!r}; load it with pitune.load_expert instead")
    config |= {"base_model_name_or_path": expert.card.base_model, "inference_mode": True}
    files = {CONFIG: json_bytes(config), WEIGHTS: data, README: readme(expert, "peft")}
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for name, content in files.items():
            (beside / name).write_bytes(content)
        beside.chmod(0o755)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _find(source: str | Path) -> tuple[Path, Path]:
    folder = Path(source)
    if folder.is_dir():
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


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); fetch it again") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: holds a {type(config).__name__}; expected a PEFT configuration")
    return config


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a safetensors file ({error}); fetch it again") from error


def _check_supported(config: Mapping[str, Any], where: str) -> None:
    if config.get("peft_type") != "LORA":
        raise InputError(f"{where}: is of PEFT type {config.get('peft_type')!r}; expected LORA")
    for field, value in config.items():
        refused = value not in _ALLOWED[field] if field in _ALLOWED else field not in _KNOWN and bool(value)
        if refused:
            raise InputError(f"{where}: {field} is {value!r}, which is not supported; train without it")


def _check_base(config: Mapping[str, Any], backbone: Backbone, where: str) -> None:
    found = str(config.get("base_model_name_or_path") or "")
    known = {backbone.name, getattr(getattr(backbone.module, "config", None), "_name_or_path", "")} - {""}
    if found not in known and not (Path(found).is_absolute() and Path(found).name in {Path(one).name for one in known}):
        raise InputError(
            f"{where}: belongs to the base model {found!r}; expected {' or '.join(sorted(known))} "
            "(if they are the same model, say so)"
        )


def _translate(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], backbone: Backbone, where: str
) -> tuple[LoraSettings, dict[str, Tensor]]:
    """Return settings that name every site, and tensors by our names; biases of the base become changes of them."""
    sites = [name.removesuffix(DOWN) for name in stored if name.endswith(DOWN)]
    if not sites:
        raise InputError(f"{where}: has no LoRA factors; expected tensors named …{DOWN}")
    alphas, ranks = dict(config.get("alpha_pattern") or {}), {}
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    settings: dict[str, float] = {}
    for site in sites:
        ours = _site_in(backbone.module, site, where)
        ranks[ours] = stored[f"{site}{DOWN}"].shape[0]
        settings[ours] = float(alphas.get(get_pattern_key(alphas.keys(), site), config.get("lora_alpha", 8)))
        for suffix in (DOWN, UP, BIAS):
            if f"{site}{suffix}" in stored:
                tensors[f"{ours}{suffix}"] = stored[f"{site}{suffix}"].contiguous()
                used.add(f"{site}{suffix}")
    rank, alpha = int(config.get("r", 8)), float(config.get("lora_alpha", 8))
    own = {site: name for name in stored if (site := _OWN_BIAS.sub("", name)) in sites and _OWN_BIAS.search(name)}
    biased = bool(config.get("lora_bias")) or bool(own)
    made = LoraSettings(
        r=rank,
        lora_alpha=alpha,
        target_modules=tuple(ranks),
        use_rslora=bool(config.get("use_rslora")),
        rank_pattern={site: value for site, value in ranks.items() if value != rank},
        alpha_pattern={site: value for site, value in settings.items() if value != alpha},
        lora_bias=biased,
    )
    for site, name in own.items():
        ours = _site_in(backbone.module, site, where)
        base = backbone.module.get_submodule(ours).get_parameter("bias").detach().float().cpu()
        change = (stored[name] - base) / scaling(made, ours, ranks[ours])
        tensors[f"{ours}{BIAS}"] = change + tensors.get(f"{ours}{BIAS}", 0.0)
        used.add(name)
    if extra := sorted(stored.keys() - used):
        raise InputError(f"{where}: tensor {extra[0]!r} is not part of a LoRA of linear layers; it is not supported")
    return made, tensors


def _site_in(module: nn.Module, site: str, where: str) -> str:
    """Return the name of a site inside the backbone's module; adapters of a model with a head say one name more."""
    shorter = site.removeprefix(f"{getattr(module, 'base_model_prefix', '')}.")
    for name in dict.fromkeys((site, shorter)):
        try:
            layer = module.get_submodule(name)
        except AttributeError:
            continue
        if not isinstance(layer, nn.Linear):
            raise InputError(f"{where}: targets {site!r}, a {type(layer).__name__}; only linear layers are supported")
        return name
    raise InputError(f"{where}: targets {site!r}, which the backbone does not have; it belongs to another base model")


def _whole_norms(expert: Expert, backbone: Backbone) -> bytes:
    tensors = {}
    for name, change in expert.tensors.items():
        site, kind = LAYERNORM.site(name), name.rsplit(".", 1)[1]
        base = backbone.module.get_submodule(site).get_parameter(kind).detach().cpu()
        tensors[f"{_PREFIX}{site}.ln_tuning_layers.{kind}"] = (base + change.detach().cpu()).contiguous()
    return safetensors.torch.save(tensors, metadata={"format": "pt"})
