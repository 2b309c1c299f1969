"""Read an exported adapter back with PEFT, onto the backbone, and hold it against the expert."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from torch import Tensor, nn

from pitune.backbones import Backbone
from pitune.errors import InputError
from pitune.experts.expert import Expert
from pitune.experts.merging import changed_parameters, untied_copy

_ERROR = 1e-3  # of a change, beside the rounding of the parameter that it is added to


@dataclass(frozen=True)
class Checked:
    """What PEFT read back: how many tensors, and the largest error of a changed parameter relative to its change.

    `error` is None where the expert cannot merge, so that only its tensors could be compared.
    """

    tensors: int
    error: float | None


@torch.no_grad()
def check_written(folder: Path, written: dict[str, Tensor], expert: Expert, backbone: Backbone) -> Checked:
    """Return what PEFT reads of an adapter's folder; raise `InputError` if it is not all of the expert, or more."""
    try:
        expected = changed_parameters(backbone.module, expert) if expert.kind.merges else None
    except InputError:  # a layer that has no place for the change
        expected = None
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        try:
            module = untied_copy(backbone.module, expected or ())
            model = PeftModel.from_pretrained(module, str(folder))
            read = get_peft_model_state_dict(model)
        except Exception as error:  # whatever PEFT finds wrong
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"expert {expert.name!r} is not written: PEFT cannot read it back ({reason:.300})"
            ) from error
        for name, value in written.items():
            if name not in read or not torch.equal(read[name].cpu().float(), value.cpu().float()):
                problem = "drops" if name not in read else "reads otherwise"
                raise InputError(f"expert {expert.name!r}: not written, PEFT {problem} {name!r:.200}")
        if expected is None:
            return Checked(len(written), None)
        merged = model.merge_and_unload()
    return Checked(len(written), _error(backbone.module, merged, expected, expert))


def _error(before: nn.Module, merged: nn.Module, expected: dict[str, Tensor], expert: Expert) -> float:
    found = dict(merged.named_parameters(remove_duplicate=False))
    worst = 0.0
    for name, value in before.named_parameters(remove_duplicate=False):
        change = expected.get(name, value).float() - value.float()
        off = float((found[name].float() - value.float() - change).norm())
        rounding = 4 * torch.finfo(value.dtype).eps * float(value.float().norm() + change.norm())
        if not off <= _ERROR * float(change.norm()) + rounding:
            raise InputError(
                f"expert {expert.name!r}: not written, with PEFT {name!r:.200} would be {off:.3g} off what it is here"
            )
        worst = max(worst, off / float(change.norm())) if change.any() else worst
    return worst
