"""PEFT's LoRAs, read as ours: which of its settings we understand, and which tensor is which."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Annotated, Any

import peft
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.errors import InputError, first_problem
from pitune.experts.kind import MOST, Size, Tell
from pitune.experts.kinds.lora_update import BIAS, DOWN, UP, LoraSettings, scaling
from pitune.experts.patterns import endings, full_names, pattern_key

_OWN_BIAS = re.compile(r"(\.base_layer)?\.bias$")
# settings that say how a LoRA was found or trained; any that is not read here must ask for nothing
# fmt: off
_HISTORY = frozenset((
    "peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "lora_dropout", "eva_config", "corda_config", "lora_ga_config", "loftq_config",
    "runtime_config", "megatron_core", "qalora_group_size", "ensure_weight_tying",
))
# fmt: on
_ALLOWED: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", "lora_only", None),
    "init_lora_weights": (True, False, None, "gaussian", "orthogonal", "eva"),  # the others change the base too
}


def _modules(value: Any) -> Any:
    several = isinstance(value, list) and len(value) <= MOST and all(isinstance(one, str) for one in value)
    if not (value is None or isinstance(value, str) or several):
        raise ValueError("expected names of modules, or one pattern")
    return value


_Modules = Annotated[Any, AfterValidator(_modules)]


class _Read(BaseModel):
    """What decides where a PEFT LoRA is and how much it adds, with PEFT's defaults."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    r: Size = 8
    lora_alpha: float = 8
    target_modules: _Modules = None
    exclude_modules: _Modules = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: str | list[str] | None = None
    rank_pattern: Annotated[dict[str, Size], Field(max_length=MOST)] | None = None
    alpha_pattern: Annotated[dict[str, float], Field(max_length=MOST)] | None = None
    use_rslora: bool | None = None
    lora_bias: bool | None = None


def check_supported(config: Mapping[str, Any], where: str, tell: Tell) -> None:
    """Raise `InputError` naming the first setting that asks for what we do not compute.

    A setting that we do not read asks for nothing where it is as in the installed PEFT's `LoraConfig()`, and where
    PEFT does not know it either, if it is off or empty; that much is told.
    """
    defaults = _defaults()
    for field, value in config.items():
        if field in _Read.model_fields or field in _HISTORY:
            continue
        if field in _ALLOWED:
            refused = not any(value is one or (isinstance(one, str) and value == one) for one in _ALLOWED[field])
        elif field in defaults:
            refused = not (_same(value, defaults[field]) or _is_off(value, defaults[field]))
        elif refused := bool(value):
            told = config.get("peft_version")
            newer = f"; PEFT {told!s:.30} wrote it" if told else ""
            raise InputError(
                f"{where}: {field:.80} is {value!r:.80}, which the installed PEFT {peft.__version__} does not know"
                f"{newer}: install that PEFT, or train without it"
            )
        else:
            tell(
                f"{field:.80} is {value!r:.80}, which the installed PEFT {peft.__version__} does not know; passed over"
            )
        if refused:
            raise InputError(
                f"{where}: {field:.80} is {value!r:.80}, which is not supported; train without it, or merge it into "
                "its base model (PEFT's merge_and_unload) and give that model's folder as the backbone"
            )


def translate(
    config: Mapping[str, Any], stored: Mapping[str, Tensor], backbone: Backbone, where: str, tell: Tell
) -> tuple[LoraSettings, dict[str, Tensor]]:
    """Return settings that name every site, and tensors by our names; biases of the base become changes of them."""
    try:
        read = _Read.model_validate({key: value for key, value in config.items() if key in _Read.model_fields})
    except ValidationError as error:
        raise InputError(f"{where}: {first_problem(error)}") from error
    sites = [name.removesuffix(DOWN) for name in stored if name.endswith(DOWN)]
    if not sites:
        raise InputError(f"{where}: has no LoRA factors; expected tensors named …{DOWN}")
    tensors: dict[str, Tensor] = {}
    used: set[str] = set()
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    for site in sites:
        ours = _site_in(backbone.module, site, where)
        if ours in ranks:
            raise InputError(f"{where}: has two LoRAs for {ours!r:.200}; expected one")
        ranks[ours] = _setting(read.rank_pattern, site, read.r)
        alphas[ours] = _setting(read.alpha_pattern, site, read.lora_alpha)
        found = stored[f"{site}{DOWN}"].shape[:1]
        if found != (ranks[ours],):
            raise InputError(
                f"{where}: its settings give {site!r:.200} the rank {ranks[ours]}, its tensor {DOWN[1:]} has "
                f"{'none' if not found else found[0]}; fetch it again"
            )
        for suffix in (DOWN, UP, BIAS):
            if f"{site}{suffix}" in stored:
                tensors[f"{ours}{suffix}"] = stored[f"{site}{suffix}"].contiguous()
                used.add(f"{site}{suffix}")
    own = {site: name for name in stored if (site := _OWN_BIAS.sub("", name)) in sites and _OWN_BIAS.search(name)}
    settings = {
        "r": read.r,
        "lora_alpha": read.lora_alpha,
        "target_modules": tuple(ranks),
        "use_rslora": bool(read.use_rslora),
        "rank_pattern": full_names({site: value for site, value in ranks.items() if value != read.r}, ranks),
        "alpha_pattern": full_names({site: alpha for site, alpha in alphas.items() if alpha != read.lora_alpha}, ranks),
        "lora_bias": bool(read.lora_bias) or bool(own),
    }
    try:
        made = LoraSettings.model_validate(settings)
    except ValidationError as error:
        raise InputError(f"{where}: {first_problem(error)}") from error
    for site, name in own.items():
        ours = _site_in(backbone.module, site, where)
        base = getattr(backbone.module.get_submodule(ours), "bias", None)
        if base is None or base.shape != stored[name].shape:
            raise InputError(f"{where}: tensor {name!r:.200} is a bias that the backbone's layer does not have")
        change = (stored[name] - base.detach().float().cpu()) / scaling(made, ours, ranks[ours])
        tensors[f"{ours}{BIAS}"] = change + tensors.get(f"{ours}{BIAS}", 0.0)
        used.add(name)
    for site in ranks if own else ():  # nothing is added where a layer has no bias of its own
        if f"{site}{BIAS}" not in tensors and f"{site}{UP}" in tensors:
            tensors[f"{site}{BIAS}"] = tensors[f"{site}{UP}"].new_zeros(tensors[f"{site}{UP}"].shape[0])
    if extra := sorted(stored.keys() - used):
        raise InputError(
            f"{where}: tensor {extra[0]!r:.200} is not part of a LoRA of linear layers; it is not supported"
        )
    if left := _left_out(read, backbone.module, ranks):
        tell(
            f"targets {len(left)} more layers of the backbone, such as {left[0]}, and holds nothing for them: "
            "they stay as they are"
        )
    return made, tensors


def _left_out(read: _Read, module: nn.Module, sites: Collection[str]) -> list[str]:
    """Return the layers of the backbone that the settings target, as far as names say, and the file has no part for."""
    if not isinstance(read.target_modules, list) or read.layers_to_transform is not None or read.exclude_modules:
        return []
    names = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    targets = set(read.target_modules)
    return [name for name in names if name not in sites and not targets.isdisjoint([name, *endings(name)])]


def _defaults() -> dict[str, Any]:
    """Return the installed PEFT's defaults of a LoRA, as JSON holds them."""
    values = {}
    for field in fields(peft.LoraConfig):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        values[field.name] = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return values


def _same(value: Any, default: Any) -> bool:
    return isinstance(value, bool) == isinstance(default, bool) and bool(value == default)


def _is_off(value: Any, default: Any) -> bool:
    """Return whether a value is as empty as a default, such as `[]` for None."""
    return not value and not default


def _setting(pattern: Mapping[str, Any] | None, site: str, otherwise: Any) -> Any:
    return (pattern or {}).get(pattern_key(tuple(pattern or ()), site), otherwise)


def _site_in(module: nn.Module, site: str, where: str) -> str:
    """Return the name of a site inside the backbone's module; adapters of a model with a head say one name more."""
    shorter = site.removeprefix(f"{getattr(module, 'base_model_prefix', '')}.")
    for name in dict.fromkeys((site, shorter)):
        try:
            layer = module.get_submodule(name)
        except AttributeError:
            continue
        if not isinstance(layer, nn.Linear):
            found = f"targets {site!r:.200}, a {type(layer).__name__}"
            raise InputError(f"{where}: {found}; only linear layers are supported")
        return name
    raise InputError(
        f"{where}: targets {site!r:.200}, which the backbone does not have; it belongs to another base model"
    )
