"""A pool: a folder of experts, one sub-folder each."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from pitune.errors import InputError
from pitune.experts.expert import RECORD, Expert, digest
from pitune.experts.storage import check_name, load_expert
from pitune.files import beside, recover


class ExpertPool:
    """A folder of experts by name. Adding is atomic; several processes may add at once.

    Opening it puts in order what killed processes have left; `recovered` names it.
    """

    def __init__(self, folder: str | Path, create: bool = True) -> None:
        """Open a pool; raise `InputError` if `folder` is a file, or is missing and not to be created."""
        self.folder = Path(folder)
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError(f"{self.folder}: is a file; expected the folder of a pool")
        if not self.folder.exists() and not create:
            raise InputError(f"{self.folder}: no such pool; expected a folder of experts (`pitune pool add` makes one)")
        self.recovered: list[Path] = []
        with suppress(OSError):  # a pool that may only be read
            self.recovered = recover(self.folder)

    def names(self) -> list[str]:
        """Return the names of all experts, sorted."""
        if not self.folder.is_dir():
            return []
        with os.scandir(self.folder) as found:
            there = [one.name for one in found if os.path.exists(os.path.join(one.path, RECORD))]
        return sorted(name for name in there if not name.startswith("."))

    def __len__(self) -> int:
        return len(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __iter__(self) -> Iterator[Expert]:
        return (self.get(name) for name in self.names())

    def path(self, name: str) -> Path:
        """Return the folder of the expert with this name, which need not exist yet."""
        return self.folder / check_name(name)

    def get(self, name: str) -> Expert:
        """Load an expert; raise `InputError` if there is none of this name, its files were altered or it is another's.

        A linked folder and a copied one, whose card says another name, would each stand for one expert twice.
        """
        path = self.path(name)
        self._check_there(name)
        if path.is_symlink():
            raise InputError(f"{path}: is a link; copy the expert with `pitune pool add` instead")
        expert = load_expert(path)
        if expert.name != name:
            again = f"`pitune pool add {path} --name {name}` into another pool names it so"
            raise InputError(f"{path}: holds the expert {expert.name!r}, not {name!r}; remove the copy, or {again}")
        return expert

    def add(self, expert: Expert, replace: bool = False) -> Path:
        """Save an expert under its name; to add it again is no error, and of several processes at once one wins.

        Raise `InputError` if another expert has the name and is not to be replaced.
        """
        path = self.path(expert.name)
        try:
            expert.save(path, replace=replace)
        except FileExistsError as error:
            there = self.get(expert.name)
            if (there.method, there.settings, digest(there)) != (expert.method, expert.settings, digest(expert)):
                raise InputError(
                    f"{path}: the pool has an expert of this name that is another; remove it, or choose another name"
                ) from error
        return path

    def remove(self, name: str) -> None:
        """Delete an expert, an altered one too; raise `InputError` if there is none of this name."""
        path = self.path(name)
        self._check_there(name)
        if path.is_symlink():
            path.unlink()
            return
        aside = beside(path)
        os.replace(path, aside)
        shutil.rmtree(aside)

    def _check_there(self, name: str) -> None:
        if not os.path.lexists(self.path(name) / RECORD):
            raise InputError(f"{self.folder}: has no expert {name!r}; it has: {', '.join(self.names()) or 'none'}")
