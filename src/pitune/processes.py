"""Processes that train one expert together, each on its part of every batch.

`torchrun` or `accelerate launch` starts them, all with one command. All do the same, but that every step learns from
the sum of their gradients; so they hold the same values at any moment. The first alone writes and prints.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pitune.errors import InputError

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

T = TypeVar("T")
_LOST = "another process of this run ended"


@dataclass(frozen=True)
class Team:
    """How many processes share a run, and which of them this is, from 0 on.

    Its methods, `part` apart, are called by all of them at the same place; they raise `ConnectionAbortedError` where
    one has ended.
    """

    index: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and prints."""
        return self.index == 0

    def part(self, batch: Sequence[T]) -> tuple[Sequence[T], float]:
        """Return this process's items of a batch, and which share of it they are; one at a share of 0 if it has none.

        The shares sum to 1 over the processes, and means over the parts, each times its share, to the batch's mean.
        """
        own = batch[self.index :: self.size]
        return (own, len(own) / len(batch)) if own else (batch[:1], 0.0)

    def device(self, wanted: torch.device) -> torch.device:
        """Return this process's own device of the kind that is wanted."""
        return wanted if self.size == 1 else _state(wanted.type == "cpu").device

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Put into each tensor its sum over the processes."""
        if self.size == 1:
            return
        import torch
        from accelerate.utils import reduce

        _state()
        with _linked():
            whole = reduce(torch.cat([one.detach().flatten().to(tensors[0].device) for one in tensors]), "sum")
        for one, total in zip(tensors, whole.split([one.numel() for one in tensors]), strict=True):
            one.copy_(total.view_as(one))

    def of_first(self, value: T) -> T:
        """Return the first process's value, which decides where the last bit of others' might differ."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        _state()
        with _linked():
            found: T = broadcast_object_list([value])[0]
        return found

    def agree(self, value: object) -> None:
        """Raise `InputError` unless all processes have the same value."""
        if self.of_first(value) != value:
            raise InputError(
                "the processes of this run do not train the same; start all by one command, with the same files and "
                "one folder of runs that all of them see"
            )

    def wait(self) -> None:
        """Wait until all processes have come to this place."""
        self.of_first(None)


ALONE = Team()


def team() -> Team:
    """Return the processes of this run as `torchrun` numbers them, or this one alone."""
    size = _number("WORLD_SIZE", 1)
    return Team(_number("RANK", 0), size) if size > 1 else ALONE


def _number(name: str, usual: int) -> int:
    value = os.environ.get(name) or str(usual)
    if not value.isdecimal():
        raise InputError(f"{name} is {value!r}; expected a number, as torchrun sets it, or no such variable")
    return int(value)


def _state(cpu: bool | None = None) -> PartialState:
    """Return what links the processes, begun by the first call."""
    import torch
    from accelerate import PartialState

    with _linked():
        return PartialState(cpu=not torch.cuda.is_available() if cpu is None else cpu)


@contextmanager
def _linked() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # as gloo and NCCL say it
        raise ConnectionAbortedError(errno.ECONNABORTED, _LOST) from error
