"""What commands do before they compute: quieten the libraries, open the backbone, check what was asked for."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from pitune.commands.output import note
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.backbones import Backbone
    from pitune.experts import Expert, ExpertPool
    from pitune.tasks import Draw, Task
    from pitune.tasks.formats.reading import Conflicts

Settings = TypeVar("Settings", bound=BaseModel)


def quieten() -> None:
    """Keep the libraries from printing, and from starting more threads than there are cores to use."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.simplefilter("ignore")
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(torch.get_num_threads(), usable_cores())))


def usable_cores() -> int:
    """Return how many cores this process may keep busy; a container's share counts, not the machine's size."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file, or no limit ("max")
        return cores


def open_backbone(name: str, device: str | None, dtype: str | None = None) -> Backbone:
    """Load a backbone; raise `InputError` if its name, the device or the number format is unknown."""
    from pitune.backbones import load_backbone

    return load_backbone(name, device, dtype)


def open_task(
    name: str, columns: Sequence[str] | None, conflicts: Conflicts = "refuse", limit: int | None = None
) -> Task:
    """Load a task, telling on stderr what was guessed of a table; raise `InputError` if it cannot be used."""
    from pitune.tasks import load_task

    return load_task(name, read_columns(columns), note, conflicts=conflicts, limit=limit)


def tell_short(draw: Draw) -> None:
    """Tell on stderr which classes gave fewer examples than were asked for."""
    if draw.short:
        note(f"fewer than {draw.shots} examples to learn from: {', '.join(draw.short)}")


def read_columns(given: Sequence[str] | None) -> dict[str, str]:
    """Return columns by role; raise `InputError` at one that is not `ROLE=NAME`."""
    columns: dict[str, str] = {}
    for one in given or ():
        role, equals, name = one.partition("=")
        if not (role and equals and name):
            raise InputError(f"--column {one}: expected ROLE=NAME, such as label=stars")
        if role in columns:
            raise InputError(
                f"--column {one}: {role} is {columns[role]} already; name each role once, several columns of text as "
                f"--column {role}={columns[role]},{name}"
            )
        columns[role] = name
    return columns


def open_pool(folder: Path) -> ExpertPool:
    """Open a pool that exists; raise `InputError` if it does not."""
    from pitune.experts import ExpertPool

    return ExpertPool(folder, create=False)


def find_expert(name_or_folder: str, pool: Path | None) -> Expert:
    """Load an expert from its folder, or by name out of a pool."""
    from pitune.experts import load_expert

    return open_pool(pool).get(name_or_folder) if pool else load_expert(name_or_folder)


def find_start(name_or_folder: str | None, pool: Path | None) -> Expert | None:
    """Load the expert to start from, if one was named; a name without a folder of that name is one in the pool."""
    if name_or_folder is None:
        return None
    return find_expert(name_or_folder, None if Path(name_or_folder).is_dir() else pool)


def make_settings(kind: type[Settings], given: Mapping[str, Any], base: Settings | None = None) -> Settings:
    """Return settings with what was given, the rest as in `base`; raise `InputError` that names the flag."""
    rest = base.model_dump() if base else {}
    try:
        return kind(**rest | {name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        flag = f"--{'.'.join(str(part) for part in first['loc'])}".replace("_", "-")
        raise InputError(f"{flag}: {first['msg'].lower()} (found {first['input']!r})") from error


def method_config(method: str, rank: int | None, given: Sequence[str] | None = None) -> dict[str, Any]:
    """Return the settings of a kind of expert that the flags give; raise `InputError` if it has none of a name."""
    from pitune.experts import KINDS

    fields = KINDS.get(method).settings.model_fields
    found = _read_settings(method, given or (), sorted(fields))
    if rank is None:
        return found
    if "r" not in fields:
        raise InputError(f"--rank: {method} experts have none; leave it out")
    if rank < 1:
        raise InputError(f"--rank: expected 1 or more (found {rank})")
    if "r" in found:
        raise InputError("--rank and --set r=… say the same; leave one out")
    return {"r": rank, **found}


def _read_settings(method: str, given: Sequence[str], known: Sequence[str]) -> dict[str, Any]:
    """Read `NAME=VALUE`, where VALUE is YAML: a number, a word, true or false, [a, list], {a: mapping}."""
    import yaml

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
            found[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:
            raise InputError(f"--set {one}: the value is not YAML; put quotes around text") from error
    return found


def check_settings(model: Backbone, method: str, own: Mapping[str, Any]) -> None:
    """Raise `InputError` before anything is trained if a backbone cannot carry an expert of these settings."""
    from pitune.experts import KINDS, attached, make_settings

    kind = KINDS.get(method)
    with attached(model, kind, make_settings(kind, model, **own)):
        pass  # modules that are not there, or are of another kind, are found on the way in


def check_writable(folder: Path) -> None:
    """Raise `InputError` unless `folder` is a folder, or can be made."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file; expected a folder, or a name that is free")
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{parent}: cannot be written to; choose another folder than {folder}")


def check_out(folder: Path) -> None:
    """Raise `InputError` unless an expert may be saved as `folder`: free, empty, or an expert to replace."""
    check_writable(folder)
    if folder.exists() and not (folder / "expert.json").is_file() and any(folder.iterdir()):
        raise InputError(f"{folder}: exists and is not an expert; choose another folder")


def check_file(file: Path) -> None:
    """Raise `InputError` unless `file` can be written."""
    if file.is_dir():
        raise InputError(f"{file}: is a folder; expected the name of a file")
    check_writable(file.parent)
