"""Backbone families: which backbones there are, and what loads each; one file and one registration a family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from transformers import PretrainedConfig

from pitune.backbones.base import Backbone
from pitune.backbones.checkpoint import Checkpoint
from pitune.registry import Registry


def _reads_none(_: PretrainedConfig) -> bool:
    return False


@dataclass(frozen=True)
class Family:
    """Backbones that are loaded and called alike.

    `named` loads those that need no checkpoint, by name, onto a device in a number format. `load` does the same with
    a checkpoint of transformers whose `model_type` is among `types`, the commonest first; where no family lists it,
    with one of which `reads` says yes. Both raise `InputError` if what they load cannot be used.
    """

    named: Mapping[str, Callable[[torch.device, torch.dtype], Backbone]] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    load: Callable[[Checkpoint, torch.device, torch.dtype], Backbone] | None = None
    reads: Callable[[PretrainedConfig], bool] = _reads_none


FAMILIES: Registry[Family] = Registry(
    "backbone family",
    group="pitune.backbones",
    known={
        "dual encoder": "pitune.backbones.dual_encoder:FAMILY",
        "sequence to sequence": "pitune.backbones.seq2seq:FAMILY",
        "causal language model": "pitune.backbones.causal_lm:FAMILY",
        "vision-language": "pitune.backbones.vision_language:FAMILY",
        "BLIP-2": "pitune.backbones.blip_2:FAMILY",
        "sentence encoder": "pitune.backbones.sentence_encoder:FAMILY",
    },
)
