"""Pictures of strangers: of a fixed list of formats, of a bounded size, and no program is ever started for one."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from tests.attacks.answers import answered, refused


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">L", len(data)) + kind + data + struct.pack(">L", zlib.crc32(kind + data))


def picture(width: int, height: int, *more: bytes, data: bytes = b"\0\0\0\0") -> bytes:
    head = chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def saved(kind: str, **how: object) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(sink, kind, **how)
    return sink.getvalue()


def _gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + saved("GIF")[10:]


def _tiff() -> bytes:
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 65535) + struct.pack("<HHLL", 256, 4, 1, 1 << 31) * 40


PICTURES = {
    "empty": b"",
    "text": b"not a picture",
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/tmp/made) (w) file closefile showpage\n%%EOF\n",
    "EPS with a preview": struct.pack("<LLLLLLLH", 0xC6D3D0C5, 30, 60, 0, 0, 0, 0, 0xFFFF)
    + b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "PDF": b"%PDF-1.7\n1 0 obj<</OpenAction<</S/Launch/F(made)>>>>endobj",
    "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>made()</script><image href="file:///etc/passwd"/></svg>',
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "MPEG": b"\0\0\x01\xb3" + bytes(60),
    "PCD": bytes(2048) + b"PCD_" + bytes(2000),
    "pickle": b"\x80\x04cos\nsystem\n(S'touch made'\ntR.",
    "wide bomb": picture(100_000, 100_000),
    "widest bomb": picture((1 << 31) - 1, (1 << 31) - 1),
    "no pixels": picture(0, 0),
    "bomb of text": picture(1, 1, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(80 << 20)))),
    "bomb of colours": picture(1, 1, chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(80 << 20)))),
    "long chunk": b"\x89PNG\r\n\x1a\n" + struct.pack(">L", (1 << 31) - 1) + b"IHDR",
    "cut": picture(1000, 1000)[:60],
    "cut JPEG": saved("JPEG")[:200],
    "cut WEBP": saved("WEBP")[:20],
    "large GIF": _gif(65_535, 65_535),
    "large BMP": saved("BMP")[:18] + struct.pack("<ll", 1 << 30, 1 << 30) + saved("BMP")[26:],
    "negative BMP": saved("BMP")[:18] + struct.pack("<ll", -8, -(1 << 31)) + saved("BMP")[26:],
    "TIFF of many tags": _tiff(),
    "TIFF in a circle": b"II*\0\x08\0\0\0" + struct.pack("<H", 0) + struct.pack("<L", 8),
    "PPM of many digits": b"P6 " + b"9" * 5000 + b" 1 255\n",
    "large PPM": b"P6 99999 99999 255\n",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40),
    "icons": b"\0\0\1\0\xff\xff" + bytes(16) * 40,
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("name", PICTURES)
def test_what_is_no_picture_to_us_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    def started(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(os, "system", started)
    monkeypatch.chdir(tmp_path)
    for i in range(8):
        place = tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (i, 2, 3)).save(place)
    (tmp_path / "pets" / "cat" / f"odd{suffix}").write_bytes(PICTURES[name])
    said = answered(tmp_path / "pets")
    assert f"odd{suffix}" in said or name in READ
    assert not (tmp_path / "made").exists()


READ = ("TIFF of many tags", "bomb of colours")  # what Pillow may read: no harm in them


@pytest.mark.parametrize("what", ["pipe", "folder", "loop", "away"])
def test_a_picture_that_is_no_file(tmp_path: Path, png: Callable[[int], bytes], what: str) -> None:
    for i in range(8):
        place = tmp_path / "pets" / ("cat", "dog")[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(i))
    odd = tmp_path / "pets" / "cat" / "odd.png"
    if what == "pipe":
        os.mkfifo(odd)
    elif what == "folder":
        odd.mkdir()
    else:
        odd.symlink_to(odd if what == "loop" else "/dev/zero")
    if what in ("pipe", "away"):
        refused(tmp_path / "pets")
    else:
        answered(tmp_path / "pets")
