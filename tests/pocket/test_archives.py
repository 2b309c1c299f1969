"""Archives are fetched once, checked always, and never half there."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tenacity import wait_none

import pitune
from pitune.archives import Archive, fetch
from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.pocket import ARCHIVES

CONTENT = b"an archive\n" * 1000
ARCHIVE = Archive("toy", "npm", "@scope/toy", "1.0.0", "scope-toy-1.0.0.tgz", sha256_bytes(CONTENT))
FETCH = (
    "from pitune.archives import Archive, fetch; "
    f"fetch(Archive('toy', 'npm', '@scope/toy', '1.0.0', {ARCHIVE.filename!r}, {ARCHIVE.sha256!r}))"
)


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script called `npm` on the path; it runs `behaviour` after noting its arguments in `calls`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "content").write_bytes(CONTENT)
    (folder / "behaviour").write_text(f'cat "$0-folder/content" > "$5/{ARCHIVE.filename}"')
    (folder / "npm-folder").symlink_to(folder)
    script = folder / "npm"
    script.write_text('#!/bin/sh\necho "$@" >> "$0-folder/calls"\n. "$0-folder/behaviour"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(Path(pitune.__file__).parents[1]))
    monkeypatch.setattr("pitune.archives.wait_exponential", lambda **_: wait_none())
    return folder


def kept(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "archives").iterdir() if not path.name.endswith(".lock"))


def test_downloads_once(npm: Path, pitune_home: Path) -> None:
    first, second = fetch(ARCHIVE), fetch(ARCHIVE)
    assert first == second == pitune_home / "archives" / ARCHIVE.filename
    assert first.read_bytes() == CONTENT
    assert (npm / "calls").read_text().count("\n") == 1
    assert "@scope/toy@1.0.0" in (npm / "calls").read_text()
    assert kept(pitune_home) == [ARCHIVE.filename]


def test_a_file_with_another_hash_is_reported_and_left_alone(npm: Path, pitune_home: Path) -> None:
    path = fetch(ARCHIVE)
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(InputError) as caught:
        fetch(ARCHIVE)
    message = str(caught.value)
    assert str(path) in message
    assert sha256_bytes(CONTENT[:-1]) in message
    assert ARCHIVE.sha256 in message
    assert "delete the file" in message
    assert "\n" not in message
    assert path.read_bytes() == CONTENT[:-1]


def test_a_download_with_another_hash_is_not_kept(npm: Path, pitune_home: Path) -> None:
    (npm / "content").write_bytes(b"something else")
    with pytest.raises(InputError, match="nothing was kept"):
        fetch(ARCHIVE)
    assert kept(pitune_home) == []


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [("echo noise >&2; echo 'npm ERR! no such host' >&2; exit 7", "no such host"), ("exit 7", "ended with status 7")],
)
def test_a_failing_client_is_tried_three_times_and_quoted(
    npm: Path, pitune_home: Path, behaviour: str, said: str
) -> None:
    (npm / "behaviour").write_text(behaviour)
    with pytest.raises(InputError, match=said) as caught:
        fetch(ARCHIVE)
    assert "noise" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (npm / "calls").read_text().count("\n") == 3
    assert kept(pitune_home) == []


def test_a_passing_failure_is_forgiven(npm: Path) -> None:
    good = (npm / "behaviour").read_text()
    (npm / "behaviour").write_text(f'if [ $(wc -l < "$0-folder/calls") -lt 3 ]; then exit 1; fi\n{good}')
    assert fetch(ARCHIVE).read_bytes() == CONTENT


def test_a_client_that_delivers_another_file_is_an_error(npm: Path) -> None:
    (npm / "behaviour").write_text('echo > "$5/toy-2.0.0.tgz"')
    with pytest.raises(InputError, match=r"delivered toy-2\.0\.0\.tgz instead of scope-toy-1\.0\.0\.tgz"):
        fetch(ARCHIVE)


def test_an_absent_client_is_named(npm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="npm is not installed"):
        fetch(ARCHIVE)


def test_two_processes_download_once(npm: Path) -> None:
    good = (npm / "behaviour").read_text()
    (npm / "behaviour").write_text(f"sleep 0.3\n{good}")
    running = [subprocess.Popen([sys.executable, "-c", FETCH]) for _ in range(2)]
    assert [process.wait() for process in running] == [0, 0]
    assert (npm / "calls").read_text().count("\n") == 1


def test_a_killed_download_leaves_nothing_that_counts(npm: Path, pitune_home: Path) -> None:
    good = (npm / "behaviour").read_text()
    (npm / "behaviour").write_text(f'head -c 100 "$0-folder/content" > "$5/{ARCHIVE.filename}"; exec sleep 5')
    process = subprocess.Popen([sys.executable, "-c", FETCH])
    deadline = time.monotonic() + 60
    while not list(pitune_home.glob(f"archives/.toy.*.part/{ARCHIVE.filename}")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (pitune_home / "archives" / ARCHIVE.filename).exists()
    (npm / "behaviour").write_text(good)
    assert fetch(ARCHIVE).read_bytes() == CONTENT
    assert kept(pitune_home) == [ARCHIVE.filename]


@pytest.mark.parametrize("archive", ARCHIVES.values(), ids=lambda archive: archive.name)
def test_every_archive_is_pinned(archive: Archive) -> None:
    assert len(archive.sha256) == 64
    assert set(archive.sha256) <= set("0123456789abcdef")
    assert archive.version.replace(":", "%3a") in archive.filename
    assert "/" not in archive.filename
