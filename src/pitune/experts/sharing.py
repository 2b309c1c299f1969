"""Experts to and from other places: a repository of the hub, or a folder that fsspec reaches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fsspec
from huggingface_hub import CommitOperationAdd, HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from pitune.errors import InputError
from pitune.experts.expert import RECORD, Expert, encode
from pitune.experts.storage import files_of, load_expert

_LARGEST_RECORD, _LARGEST = 1 << 24, 1 << 32  # bytes


def push_expert(expert: Expert, to: str, readme: bytes, *, private: bool = False) -> None:
    """Write an expert to a repository `OWNER/NAME` of the hub, made if it is not there, or to a folder by its URL.

    A repository gets all in one commit. In a folder the record comes last, and what was there before is no expert from
    the moment that it changes. The record does not hold the README's hash, so that a card may be mended where it is.
    Raise `InputError` if the place cannot be written to.
    """
    files = encode(expert, readme)
    with _reached(to, "written to"):
        if "://" not in to:
            api = HfApi()
            api.create_repo(to, private=private, exist_ok=True)
            added = [CommitOperationAdd(name, data) for name, data in files.items()]
            api.create_commit(to, added, commit_message=f"Add {expert.name}")
            return
        files_at, root = _folder(to)
        files_at.makedirs(root, exist_ok=True)
        if files_at.exists(f"{root}/{RECORD}"):
            files_at.rm(f"{root}/{RECORD}")
        for name, data in sorted(files.items(), key=lambda one: one[0] == RECORD):
            files_at.pipe_file(f"{root}/{name}", data)


def pull_expert(source: str) -> Expert:
    """Return an expert from a repository `OWNER/NAME` of the hub, or `OWNER/NAME@REVISION`, or a folder by its URL.

    It is checked as any expert is that is loaded, and no more is read than its record and what that lists. Raise
    `InputError` if it is none, too large, or cannot be fetched.
    """
    with TemporaryDirectory(prefix="pitune-") as folder:
        try:
            with _reached(source, "fetched"):
                (_copy if "://" in source else _download)(source, Path(folder))
            return load_expert(folder)
        except InputError as error:
            raise InputError(str(error).replace(folder, source)) from error


def _copy(source: str, folder: Path) -> None:
    files_at, root = _folder(source)

    def fetch(name: str) -> None:
        found = files_at.info(f"{root}/{name}")
        if found["type"] != "file" or found.get("islink"):
            raise InputError(f"{source}/{name}: is no regular file; expected a file of an expert")
        _check_size(source, name, found["size"])
        (folder / name).write_bytes(files_at.cat_file(f"{root}/{name}", end=found["size"]))

    fetch(RECORD)
    for name in files_of(folder):
        fetch(name)


def _download(source: str, folder: Path) -> None:
    repository, _, revision = source.partition("@")

    def fetch(name: str, revision: str | None) -> str | None:
        found = get_hf_file_metadata(hf_hub_url(repository, name, revision=revision))
        _check_size(source, name, found.size)
        hf_hub_download(repository, name, revision=found.commit_hash, local_dir=folder)
        return found.commit_hash

    commit = fetch(RECORD, revision or None)
    for name in files_of(folder):
        fetch(name, commit)


def _check_size(source: str, name: str, size: int | None) -> None:
    most = _LARGEST_RECORD if name == RECORD else _LARGEST
    if size is None or size > most:
        found = "of an unknown size" if size is None else f"has {size >> 20} MB"
        raise InputError(f"{source}/{name}: {found}; expected at most {most >> 20} MB")


def _folder(url: str) -> tuple[Any, str]:
    """Return a file system and a path in it; of one kind alone, since chained ones rewrite what they read."""
    if "::" in url:
        raise InputError(f"{url}: a chain of file systems is not followed; expected SCHEME://PATH")
    files_at, root = fsspec.core.url_to_fs(url)
    return files_at, root.rstrip("/")


@contextmanager
def _reached(place: str, done: str) -> Iterator[None]:
    """Say in one line why a place could not be reached, or what there is wrong."""
    try:
        yield
    except InputError:
        raise
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, ImportError, OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(
            f"{place}: cannot be {done} ({reason:.300}); expected OWNER/NAME of the hub, or SCHEME://PATH"
        ) from error
