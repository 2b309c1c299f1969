"""Other kinds of PEFT adapter as LoRAs: what PEFT's own conversion gives, held against what the adapter computes."""

from __future__ import annotations

import copy
import inspect
import math
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import peft
import torch
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, nn

from pitune.errors import InputError
from pitune.experts.expert import PREFIX
from pitune.experts.kind import MOST, Tensors
from pitune.experts.patterns import endings_of_others, full_names, modules_matching, pattern_key
from pitune.experts.peft_layers import peft_json

_MERGE = (
    "merge it into its base model (PEFT's merge_and_unload, then save_pretrained) and give that folder as the backbone"
)
_SHARED = "base_model."  # what a kind keeps once for all layers, not under the model
_ABOVE_BEST = 1e-3  # of the error of a conversion over that of the nearest LoRA; beyond it, something else was lost


@dataclass(frozen=True)
class Conversion:
    """A LoRA that stands for another kind of adapter: PEFT's configuration and tensors, and how far off it is.

    `error` is the Frobenius norm of what was lost, relative to that of ΔW, over all layers together.
    """

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    kind: str
    error: float


def help_with(kind: str) -> str:
    """Return what to do with an adapter of a PEFT type that is no LoRA."""
    if kind not in PEFT_TYPE_TO_CONFIG_MAPPING:
        return f"the installed PEFT {peft.__version__} does not know it; update PEFT"
    if issubclass(PEFT_TYPE_TO_CONFIG_MAPPING[kind], peft.PromptLearningConfig):
        own = "prefix" if "PREFIX" in kind else "prompt"
        return f"no LoRA can stand for it; train one of our own: pitune fit TASK --method {own}"
    if kind in convertible():
        return "PEFT can turn it into one: give --convert RANK (convert=RANK in Python)"
    return f"PEFT cannot turn it into one: {_MERGE}"


def convertible() -> tuple[str, ...]:
    """Return the PEFT types whose layers the installed PEFT turns into LoRAs, as far as can be told without any."""
    return tuple(str(kind.value) for kind, tuner in PEFT_TYPE_TO_TUNER_MAPPING.items() if _converts(kind.value, tuner))


def _converts(kind: str, tuner: type) -> bool:
    layers = sys.modules.get(f"{tuner.__module__.rpartition('.')[0]}.layer")
    classes = (
        [] if layers is None or kind == "LORA" else [one for _, one in inspect.getmembers(layers, inspect.isclass)]
    )
    return any(issubclass(one, BaseTunerLayer) and _may_convert(one) for one in classes)


def _may_convert(layer: Any) -> bool:
    try:
        return bool(layer.supports_lora_conversion(None))
    except Exception:  # it depends on the layer
        return True


@torch.no_grad()
def convert(config: Mapping[str, Any], stored: Tensors, module: nn.Module, where: str, rank: float) -> Conversion:
    """Return the LoRA of a rank, or of ranks that keep a share of each ΔW's energy, that PEFT makes of an adapter.

    Raise `InputError` where PEFT cannot, where the adapter changes more than the weights of linear layers, or where
    what PEFT makes is further from what the adapter adds than a LoRA of that rank has to be.
    """
    kind = str(config["peft_type"])
    if kind not in convertible():
        raise InputError(f"{where}: is of PEFT type {kind!r:.80}; expected LORA; {help_with(kind)}")
    if not (0 < rank < 1 or (float(rank).is_integer() and 1 <= rank <= MOST)):
        raise InputError(f"cannot convert to rank {rank}; expected a whole number, or a share of ΔW's energy below 1")
    _check_values(config, where)
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            model = _model(config, stored, copy.deepcopy(module), where)
            made, factors = peft.convert_to_lora(model, rank=rank if rank < 1 else int(rank))
            merged = model.merge_and_unload()
        except InputError:
            raise
        except Exception as error:  # code of PEFT's that runs on whatever the configuration says
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(f"{where}: PEFT cannot turn it into a LoRA ({reason:.300}); {_MERGE}") from error
    tensors = {name.removeprefix(PREFIX): value.float() for name, value in factors.items()}
    return Conversion(peft_json(made), tensors, kind, _error(module, merged, tensors, where, kind))


def _check_values(config: Mapping[str, Any], where: str) -> None:
    """Raise `InputError` at what PEFT would not know, and at numbers that only a fault would give."""
    known = {field.name for field in fields(PEFT_TYPE_TO_CONFIG_MAPPING[config["peft_type"]])}
    for field, value in config.items():
        if field not in known and value:
            raise InputError(
                f"{where}: {field:.80} is {value!r:.80}, which the installed PEFT does not know; update it"
            )
        numbers = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
        for one in numbers:
            large = isinstance(one, int | float) and not abs(one) <= MOST and "seed" not in field and "key" not in field
            if large or (isinstance(one, int) and abs(one) >= 1 << 63):
                raise InputError(f"{where}: {field:.80} is {one!r:.80}; expected at most {MOST}")
    pattern = config.get("layers_pattern")
    for one in [pattern] if isinstance(pattern, str) else pattern or []:
        if not re.fullmatch(r"[\w.-]*", str(one)):
            raise InputError(f"{where}: layers_pattern is {one!r:.80}; expected plain names")


def _model(config: Mapping[str, Any], stored: Tensors, module: nn.Module, where: str) -> Any:
    """Return PEFT's model with the adapter in it, every tensor of which came out of the file."""
    names = [name for name, _ in module.named_modules()]
    shorter = f"{getattr(module, 'base_model_prefix', '')}."  # adapters of a model with a head say one name more
    tops = {name for name, _ in module.named_children()}
    strip = shorter if len(shorter) > 1 and shorter[:-1] not in tops else ""
    tensors = {
        name if name.startswith(_SHARED) else f"{PREFIX}{name.removeprefix(strip)}": value
        for name, value in stored.items()
    }
    given = {field: value for field, value in config.items() if field != "runtime_config"}
    asked = peft.PeftConfig.from_peft_type(**given)
    excluding = getattr(asked, "exclude_modules", None) or ()
    if isinstance(excluding, str):
        raise InputError(f"{where}: exclude_modules is a pattern; expected names of modules")
    targets = modules_matching(_plain(asked.target_modules, strip), names)
    if not isinstance(targets, str):
        excluded = {name for name in targets if _names(name, excluding)}
        asked.target_modules = set(targets) - excluded
        if excluded := excluded.union(endings_of_others(asked.target_modules, names)):
            asked.exclude_modules = excluded
    for field in ("rank_pattern", "alpha_pattern"):
        patterns = getattr(asked, field, None) or {}
        chosen = {site: pattern_key(tuple(patterns), site) for site in (names if isinstance(targets, str) else targets)}
        found = {site: patterns[key] for site, key in chosen.items() if key in patterns}
        if patterns:
            setattr(asked, field, full_names(found, chosen))
    model = peft.get_peft_model(module, asked).eval()
    expected = get_peft_model_state_dict(model)
    for name in sorted(expected.keys() ^ tensors.keys()):
        problem = "is missing" if name in expected else "is not part of such an adapter of this backbone"
        raise InputError(
            f"{where}: tensor {name.removeprefix(PREFIX)!r:.200} {problem}; it belongs to another base model"
        )
    set_peft_model_state_dict(model, tensors)
    return model


def _plain(targets: Any, strip: str) -> Any:
    if isinstance(targets, str):
        return targets
    if not targets:
        raise InputError("target_modules is empty; expected names of modules, or one pattern")
    return [str(name).removeprefix(strip) for name in sorted(targets)]


def _names(name: str, endings: Any) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in endings)


def _error(before: nn.Module, after: nn.Module, tensors: Tensors, where: str, kind: str) -> float:
    """Return the error of LoRA factors against the change of a model's weights, relative to that change."""
    lost = whole = least = 0.0
    changed = dict(after.named_parameters(remove_duplicate=False))
    for name, value in before.named_parameters(remove_duplicate=False):
        site = name.removesuffix(".weight")
        change = (changed[name].detach().float() - value.detach().float()).double().cpu()
        up, down = tensors.get(f"{site}.lora_B.weight"), tensors.get(f"{site}.lora_A.weight")
        if up is None or down is None:
            if change.any():
                raise InputError(f"{where}: also changes {name!r:.200}, which a LoRA cannot hold; {_MERGE}")
            continue
        whole += float(change.square().sum())
        lost += float((change - (up @ down).double()).square().sum())
        least += float(torch.linalg.svdvals(change)[down.shape[0] :].square().sum())
    if not math.isfinite(whole) or not math.isfinite(lost):
        raise InputError(f"{where}: adds values that are not finite; train it again")
    error, best = (math.sqrt(one / whole) if whole else 0.0 for one in (lost, least))
    if error > best + _ABOVE_BEST:
        raise InputError(
            f"{where}: the LoRA that PEFT makes of {kind} is {error:.2%} off where {best:.2%} is possible; {_MERGE}"
        )
    return error
