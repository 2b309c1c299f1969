"""Zips and tars of strangers: nothing lands elsewhere, links away, or fills the disk."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.answers import answered, refused

from pitune.tasks.formats import unpack

OUT = [
    "../out.png",
    "a/../../out.png",
    "/tmp/out.png",
    "..\\out.png",
    "C:\\out.png",
    "//host/out.png",
    "a/..",
    "..",
    ".",
]
LINKS = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def taken(path: Path, *members: tuple[tarfile.TarInfo | str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return path


def around(path: Path) -> list[Path]:
    return sorted(one for one in path.rglob("*") if "pitune-home" not in one.parts)


@pytest.mark.parametrize("make", [zipped, taken])
@pytest.mark.parametrize("name", OUT)
def test_nothing_climbs_out(tmp_path: Path, png: Callable[[int], bytes], make: Callable[..., Path], name: str) -> None:
    (tmp_path / "data").mkdir()
    path = make(tmp_path / "data" / f"a.{'zip' if make is zipped else 'tar'}", ("cat/1.png", png(1)), (name, png(2)))
    before = around(tmp_path)
    assert "archive" in refused(path)
    assert around(tmp_path) == before
    assert not Path("/tmp/out.png").exists()


@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("target", ["/etc/hostname", "../../..", "cat/1.png"])
def test_links_and_devices_are_refused(tmp_path: Path, png: Callable[[int], bytes], kind: bytes, target: str) -> None:
    info = tarfile.TarInfo("cat/2.png")
    info.type, info.linkname = kind, target
    assert "is a link or device" in refused(taken(tmp_path / "a.tar", ("cat/1.png", png(1)), (info, b"")))


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("cat/1.png")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    assert "is a link" in refused(zipped(tmp_path / "a.zip", (info, b"/etc/hostname")))


def test_a_bomb_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pitune_home: Path) -> None:
    monkeypatch.setattr(unpack, "_FREE_RATIO", 1 << 20)
    path = zipped(tmp_path / "a.zip", ("cat/1.png", bytes(4 << 20)), method=zipfile.ZIP_DEFLATED)
    assert "unpacks to more than 1 MiB at 'cat/1.png'" in refused(path)
    assert not [one for one in (pitune_home / "unpacked").rglob("*") if one.is_dir()]


def test_a_sparse_tar_is_as_large_as_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "_FREE_RATIO", 1 << 20)
    header = bytearray(tarfile.TarInfo("cat/1.png").tobuf(tarfile.GNU_FORMAT))
    header[156:157] = b"S"  # an old GNU sparse file: one hole of a terabyte
    header[386:398], header[398:410], header[483:495] = b"%011o\0" % (1 << 32), b"%011o\0" % 0, b"%011o\0" % (1 << 32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "a.tar").write_bytes(bytes(header) + bytes(1024))
    assert answered(tmp_path / "a.tar")


def test_many_members_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_MEMBERS", 5)
    assert "more than 5 files" in refused(zipped(tmp_path / "a.zip", *((f"cat/{i}.png", b"x") for i in range(9))))


def _encrypted(data: bytes) -> bytes:
    at = data.index(b"PK\1\2")
    return data[:6] + b"\1\0" + data[8 : at + 8] + b"\1\0" + data[at + 10 :]


def _promised(data: bytes) -> bytes:
    at = data.index(b"PK\1\2")
    return data[: at + 24] + struct.pack("<L", 1 << 31) + data[at + 28 :]


@pytest.mark.parametrize(
    "harm",
    [
        _encrypted,
        _promised,
        lambda data: data[: len(data) // 2],
        lambda data: data[:-9],
        lambda data: data + data,
        lambda data: b"MZ" + data,
        lambda data: data.replace(b"1.png", b"\x1b[2J."),
        lambda data: data.replace(b"1.png", b"1\0png"),
        lambda data: data.replace(b"1.png", b"\xff\xfe\xfd\xfc\xfb"),
        lambda data: b"",
        lambda data: b"\x1f\x8b" + data,
        lambda data: data.replace(b"PK\3\4", b"PK\3\5"),
        lambda data: bytes(2000),
    ],
)
@pytest.mark.parametrize("make", [zipped, taken])
def test_a_harmed_archive_is_one_line_or_read(
    tmp_path: Path, png: Callable[[int], bytes], make: Callable[..., Path], harm: Callable[[bytes], bytes]
) -> None:
    members = [(f"{name}/{i}.png", png(20 * i + n)) for n, name in enumerate(("cat", "dog")) for i in range(1, 4)]
    path = make(tmp_path / f"a.{'zip' if make is zipped else 'tar'}", *members)
    try:
        path.write_bytes(harm(path.read_bytes()))
    except ValueError:
        pytest.skip("this harm is for zips")
    answered(path)
