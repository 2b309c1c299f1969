"""The settings of a kind of expert as flags say them, and the expert that training starts from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from pitune.commands.set_up import find_expert
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.backbones import Backbone
    from pitune.experts import Expert


@dataclass(frozen=True)
class OfKind:
    """What a kind of expert can be told, and which of this kind to start from."""

    own_settings: Annotated[
        list[str] | None,
        Option("--set", metavar="NAME=VALUE", help="A setting of this kind of expert, the value in YAML; repeatable."),
    ] = None
    start: Annotated[
        str | None, Option(metavar="EXPERT", help="Start from this expert: its folder, or its name in the pool.")
    ] = None

    def find_start(
        self, backbone: Backbone, method: str, settings: Mapping[str, Any], pool: Path | None
    ) -> Expert | None:
        """Load the expert to start from, if one was named; a name without a folder of that name is one in the pool.

        Raise `InputError` before anything is trained if the backbone cannot carry an expert of these settings.
        """
        from pitune.experts import KINDS, attached, make_settings
        from pitune.training import continued

        found = None
        if self.start is not None:
            found = find_expert(self.start, None if Path(self.start).is_dir() else pool)
        kind = KINDS.get(method)
        with attached(backbone, kind, make_settings(kind, backbone, **continued(found, backbone, method, settings))):
            return found  # modules that are not there, or are of another kind, are found on the way in


def read_settings(method: str, rank: int | None, given: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the settings of a kind of expert that the flags give; raise `InputError` if it has none of a name."""
    from pitune.experts import KINDS

    fields = KINDS.get(method).settings.model_fields
    found = _read(method, given or (), sorted(fields))
    if rank is None:
        return found
    if "r" not in fields:
        raise InputError(f"--rank: {method} experts have none; leave it out")
    if rank < 1:
        raise InputError(f"--rank: expected 1 or more (found {rank})")
    if "r" in found:
        raise InputError("--rank and --set r=… say the same; leave one out")
    return {"r": rank, **found}


def _read(method: str, given: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=VALUE`, where VALUE is YAML: a number, a word, true or false, [a, list], {a: mapping}."""
    from pitune.tasks.formats.parsing import yaml_text

    found: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise InputError(f"--set {one}: expected NAME=VALUE, such as {known[0]}=…")
        if name not in known:
            raise InputError(
                f"--set {one}: {method} experts have no setting {name!r}; expected one of: {', '.join(known)}"
            )
        if name in found:
            raise InputError(f"--set {one}: {name} is set already; leave one out")
        try:
            found[name] = yaml_text(value)
        except ValueError as error:
            raise InputError(f"--set {one}: the value is not YAML; put quotes around text") from error
    return found
