"""What commands do before they compute: quieten the libraries, read what was given, check what was asked for."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pitune.commands.output import is_verbose, note
from pitune.errors import InputError, first_problem

if TYPE_CHECKING:
    from pitune.experts import Expert, ExpertPool
    from pitune.tasks import Task
    from pitune.training import TrainingSettings


def quieten() -> None:
    """Keep the libraries from printing, and from starting more threads than there are cores to use."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not is_verbose():
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        warnings.simplefilter("ignore")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # which warns at each load and at each product
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


def tell_templates(expert: Expert, task: Task) -> None:
    """Tell on stderr if an expert of one's own data learned answers in other words than they are matched as now."""
    from pitune.tasks import asked_task, told_templates

    own, _ = asked_task(expert.card.task, expert.card.hyperparameters.get("asked")) or (None, None)
    if own is not None and own.name == task.name and own.answer_templates != task.answer_templates:
        note(f"{expert.name} learned in other words: its {told_templates(own.answer_templates)} (--template says so)")


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


def training_settings(given: Mapping[str, Any], base: TrainingSettings | None = None) -> TrainingSettings:
    """Return settings with what was given, the rest as in `base`; raise `InputError` that names the flag."""
    from pydantic import ValidationError

    from pitune.training import TrainingSettings

    rest = base.model_dump() if base else {}
    try:
        return TrainingSettings(**rest | {name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        field, _, problem = first_problem(error).partition(":")
        raise InputError(f"--{field.replace('_', '-')}:{problem}") from error


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
