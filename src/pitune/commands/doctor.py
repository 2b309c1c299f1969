"""`pitune doctor`: what is installed and where, and whether an expert, a pool or a task is what it says."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from pitune import __version__
from pitune.commands import options, tasks
from pitune.commands.data import Data
from pitune.commands.output import note, report, shown, table
from pitune.commands.set_up import quieten, usable_cores
from pitune.errors import InputError

if TYPE_CHECKING:
    from pitune.experts import Examined

_LIBRARIES = ("torch", "transformers", "peft", "safetensors", "numpy", "pydantic", "huggingface-hub")


def doctor(
    what: Annotated[
        str | None, Argument(metavar="[EXPERT|POOL|TASK]", help="An expert's or a pool's folder, or a task.")
    ] = None,
    *,
    backbone: Annotated[
        str | None, Option(help="Where the experts' backbone is, if not under its own name.", show_default=False)
    ] = None,
    common: options.Common,
) -> None:
    """Tell of versions, device, cache and extras; of experts whether they do anything; of a task what is in it."""
    if what is None:
        _surroundings(common)
    elif folders := _experts(Path(what)):
        _examine(folders, backbone, common)
    else:
        tasks.check(what, data=Data(), common=common)


def _experts(folder: Path) -> list[Path]:
    """Return the folders of experts that a path means: itself, or those of a pool; none if it is neither."""
    if (folder / "expert.json").exists():
        return [folder]
    return sorted(path.parent for path in folder.glob("*/expert.json") if not path.parent.name.startswith("."))


@dataclass(frozen=True)
class Extra:
    """Libraries that are installed on request; `missing` are those that are not."""

    name: str
    missing: tuple[str, ...]

    @property
    def command(self) -> str:
        """What installs it."""
        return f'pip install "pitune[{self.name}]"'


def _surroundings(common: options.Common) -> None:
    quieten()
    from pitune.compat import missing
    from pitune.files import home

    versions = {
        "pitune": __version__,
        "python": platform.python_version(),
        **{one: _version(one) for one in _LIBRARIES},
    }
    cache = home()
    place = next(one for one in (cache, *cache.absolute().parents) if one.exists())
    kept = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
    free = shutil.disk_usage(place).free
    extras, plugins, problems = _extras(), _plugins(), missing()
    problems += [one for one in plugins.values() if isinstance(one, str)]
    told = {
        "versions": versions,
        "device": _device(common.device),
        "cache": {"folder": str(cache), "bytes": kept, "free": free},
        "extras": [{**asdict(one), "command": one.command} for one in extras],
        "registered": {name: one for name, one in plugins.items() if not isinstance(one, str)},
        "problems": problems,
    }
    rows = [*versions.items(), ("device", told["device"])]
    rows.append(("cache", f"{cache}, {kept / 1e6:.0f} MB kept, {free / 1e9:.0f} GB free"))
    for one in extras:
        absent = f"{', '.join(one.missing)} missing: {one.command}" if one.missing else "installed"
        rows.append((f"extra {one.name}", absent))
    rows += [(name, ", ".join(one)) for name, one in plugins.items() if not isinstance(one, str)]
    _end(common, told, [table(("what", "found"), rows)], problems)


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device(asked: str | None) -> str:
    import torch

    from pitune.backbones.loading import read_device

    place = read_device(asked)
    if place.type == "cuda":
        return f"{place}, {torch.cuda.get_device_name(place)}, CUDA {torch.version.cuda}"
    return f"{place}, {usable_cores()} cores"


def _extras() -> list[Extra]:
    """Return what the package's metadata lists as extras, without that of its developers."""
    wanted: dict[str, list[str]] = {}
    for line in importlib.metadata.requires("pitune") or ():
        if found := re.fullmatch(r"([\w.-]+)[^;]*;.*extra == ['\"](\w+)['\"].*", line):
            wanted.setdefault(found[2], []).append(found[1])
    return [
        Extra(name, tuple(one for one in libraries if _version(one) is None))
        for name, libraries in wanted.items()
        if name != "dev"
    ]


def _plugins() -> dict[str, tuple[str, ...] | str]:
    """Return what is registered, by the word for it; a line in its place where a package cannot be imported."""
    import pitune.api  # noqa: F401  # what it imports has the registries
    from pitune.registry import registries

    found: dict[str, tuple[str, ...] | str] = {}
    for registry in registries():
        try:
            registry.all()
        except InputError as error:
            found[registry.what] = str(error)
        else:
            packages = {name: registry.package(name) for name in registry.names()}
            found[registry.what] = tuple(f"{name} ({of})" if of else name for name, of in packages.items())
    return found


def _examine(folders: Iterable[Path], backbone: str | None, common: options.Common) -> None:
    quieten()
    problems: list[str] = []
    found = list(_examined(folders, backbone, common.device, problems))
    rows = [(one.name, one.method, one.sites, len(one.idle), one.change) for one in found]
    told = {"experts": [asdict(one) for one in found], "problems": problems}
    _end(
        common, told, [table(("expert", "method", "sites", "of them idle", "‖Δ‖/‖W‖"), rows)] if rows else [], problems
    )


def _examined(
    folders: Iterable[Path], backbone: str | None, device: str | None, problems: list[str]
) -> Iterator[Examined]:
    """Yield what each expert does in its backbone, which is loaded once; what is wrong joins the `problems`."""
    from pitune.backbones import load_backbone
    from pitune.experts import examine, load_expert

    load = functools.cache(load_backbone)
    for folder in folders:
        try:
            expert = load_expert(folder)
            seen = examine(expert, load(backbone or expert.card.base_model, device))
        except InputError as error:
            problems.append(f"{folder}: {str(error).removeprefix(f'{folder}: ')}")
            continue
        if seen.idle:
            note(f"{expert.name}: changes nothing at {len(seen.idle)} of {seen.sites} sites, such as {seen.idle[0]}")
        yield seen


def _end(common: options.Common, told: dict[str, Any], lines: list[Any], problems: list[str]) -> None:
    """Print what was found, and end with the first problem if there is one."""
    report(common.as_json, told, [*lines, *(f"problem: {one}" for one in problems), *([] if problems else ["sound"])])
    if problems:
        more = f" (and {shown(len(problems) - 1)} more)" if len(problems) > 1 else ""
        raise InputError(f"{problems[0]}{more}")
