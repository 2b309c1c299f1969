"""The private names of torch and transformers that are used here, in one place, and the release each was last seen in.

A private name may go with any release. Nothing else in the package names one; `missing` says which are gone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class PrivateName:
    """A name, and the dotted one of what has it: a module, or a class that is made without arguments."""

    library: str
    owner: str
    name: str
    seen: str


PRIVATE_NAMES = (
    PrivateName("torch", "torch.nn.Module", "_forward_hooks", "2.13.0"),
    PrivateName("torch", "torch.nn.Module", "_forward_pre_hooks", "2.13.0"),
    PrivateName("transformers", "transformers.PretrainedConfig", "_attn_implementation", "5.23.0"),
    PrivateName("transformers", "transformers.PretrainedConfig", "_attn_implementation_internal", "5.23.0"),
    PrivateName("transformers", "transformers.PretrainedConfig", "_name_or_path", "5.23.0"),
    PrivateName("transformers", "transformers.models.bert.modeling_bert", "eager_attention_forward", "5.23.0"),
    PrivateName("transformers", "transformers.models.clip.modeling_clip", "eager_attention_forward", "5.23.0"),
    PrivateName("transformers", "transformers.models.t5.modeling_t5", "eager_attention_forward", "5.23.0"),
)


def missing(names: Iterable[PrivateName] = PRIVATE_NAMES) -> list[str]:
    """Return one line for each name that the installed libraries no longer have."""
    return [
        f"{one.library} {version(one.library)} has no {one.owner}.{one.name}; it was last seen in {one.seen}"
        for one in names
        if not _is_there(one)
    ]


def _is_there(one: PrivateName) -> bool:
    try:
        owner: Any = import_module(one.owner)
    except ModuleNotFoundError:
        module, _, name = one.owner.rpartition(".")
        owner = getattr(import_module(module), name)()
    return hasattr(owner, one.name)


def hook_count(modules: Iterable[nn.Module]) -> int:
    """Return how many hooks run before and after the modules' `forward`."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in modules)


def attention_of(config: Any) -> str:
    """Return the name of the attention function that a model of transformers with this configuration runs."""
    return str(config._attn_implementation or "eager")


def set_attention(config: Any, name: str) -> Callable[[], None]:
    """Let a configuration name another attention function, and return what puts the old one back.

    The public setter would reach into nested configurations, and load what it does not know.
    """
    before = config._attn_implementation_internal
    config._attn_implementation_internal = name
    return lambda: setattr(config, "_attn_implementation_internal", before)


def eager_attention(attention: nn.Module) -> Callable[..., Any]:
    """Return the plain attention function that stands beside an attention module of transformers."""
    function: Callable[..., Any] = sys.modules[type(attention).__module__].eager_attention_forward
    return function


def checkpoint_of(module: nn.Module) -> str:
    """Return the name or folder that a model of transformers was loaded from, or nothing."""
    return str(getattr(getattr(module, "config", None), "_name_or_path", ""))
