"""What an expert puts into a backbone, small modules and hooks, and how all of it comes out again."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch import Size, Tensor, nn

from pitune.errors import InputError
from pitune.experts.kind import Attachment

Arguments = dict[str, Any]


class Values(nn.Module):
    """Parameters by name, with nothing to compute."""

    def __init__(self, **shapes: tuple[int, ...] | Size) -> None:
        super().__init__()
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape)))

    def get(self, name: str) -> Tensor:
        """Return a value as it is now, which an expert's tensor may stand in for."""
        value: Tensor = getattr(self, name)
        return value


class Insertion:
    """Collects what is put into a module; if anything fails on the way, the module is as it was."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._undo: list[Callable[[], None]] = []
        self._paths: dict[str, str] = {}

    def __enter__(self) -> Insertion:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        if kind is not None:
            self._detach()

    def find(self, name: str) -> nn.Module:
        """Return a submodule; raise `InputError` if the backbone has none of this name."""
        try:
            return self._module.get_submodule(name)
        except AttributeError as error:
            raise InputError(
                f"the backbone has no submodule {name!r}; check where this kind of expert attaches"
            ) from error

    def add(self, site: str, label: str, child: nn.Module, like: Tensor) -> None:
        """Give the submodule `site` a child whose parameters become the tensors `<site>.<label>.<parameter>`."""
        parent, name = self.find(site), f"pitune_{label}"
        parent.add_module(name, child.to(like))
        self._undo.append(lambda: delattr(parent, name))
        inside = f"{site}." if site else ""
        for parameter, _ in child.named_parameters():
            self._paths[f"{inside}{label}.{parameter}"] = f"{inside}{name}.{parameter}"

    def replace(self, site: str, label: str, wrapper: nn.Module) -> None:
        """Put a wrapper, which holds the module it replaces as `base`, in its place."""
        base = self.find(site)
        self._module.set_submodule(site, wrapper)
        self._undo.append(lambda: self._module.set_submodule(site, base))
        for parameter, _ in wrapper.named_parameters():
            if not parameter.startswith("base."):
                self._paths[f"{site}.{label}.{parameter}"] = f"{site}.{parameter}"

    def set(self, owner: object, name: str, value: object) -> None:
        """Set an attribute for as long as the expert is in place."""
        before = getattr(owner, name)
        setattr(owner, name, value)
        self._undo.append(lambda: setattr(owner, name, before))

    def before(self, module: nn.Module, change: Callable[[Arguments], None]) -> None:
        """Let `change` alter a module's arguments, all by name, before each call."""
        signature = inspect.signature(module.forward)

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Arguments) -> tuple[tuple[Any, ...], Arguments]:
            named: Arguments = {}
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
                    named |= value
                else:
                    named[name] = value
            change(named)
            return (), named

        self._undo.append(module.register_forward_pre_hook(hook, with_kwargs=True).remove)

    def after(self, module: nn.Module, change: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Let `change(input, output)` replace a module's output, or the first of its outputs, after each call."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: Arguments, output: Any) -> Any:
            given = args[0] if args else next(iter(kwargs.values()))
            if isinstance(output, tuple):
                return (change(given, output[0]), *output[1:])
            return change(given, output)

        self._undo.append(module.register_forward_hook(hook, with_kwargs=True).remove)

    def finish(self) -> Attachment:
        """Return the attachment, which takes everything out when detached."""
        return Attachment(self._paths, self._detach)

    def _detach(self) -> None:
        while self._undo:
            self._undo.pop()()


def width_of(layer: nn.Module) -> int:
    """Return the width of the hidden states that a transformer layer reads."""
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            return module.in_features
    raise InputError(f"a {type(layer).__name__} has no linear layer; expected a transformer layer")
