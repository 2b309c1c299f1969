"""Dropout of what a LoRA reads, while it learns (PEFT's `lora_dropout`); it is never there when answers count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from pitune.errors import InputError
from pitune.experts import Attached
from pitune.files import sha256_bytes


def check_dropout(share: float, there: object) -> None:
    """Raise `InputError` where something is to be dropped out, and there is no LoRA that reads it."""
    if share and not there:
        raise InputError("dropout is of what a LoRA reads, and this kind of expert has none; leave it out")


@contextmanager
def dropping(place: Attached, share: float, *at: object) -> Iterator[None]:
    """Within it, the inputs of an expert's readers lose a share of their numbers, the others made so much larger.

    Which ones follows from `at`, such as a step's number, so that a run goes on as if it had not been stopped. Raise
    `InputError` where the kind of expert has no such input.
    """
    if not share:
        yield
        return
    check_dropout(share, place.readers)

    def drop(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (F.dropout(args[0], share), *args[1:])

    hooks = [reader.register_forward_pre_hook(drop) for reader in place.readers]
    try:
        with torch.random.fork_rng():
            torch.manual_seed(int(sha256_bytes(repr(at).encode())[:15], 16))
            yield
    finally:
        for hook in hooks:
            hook.remove()
