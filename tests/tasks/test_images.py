"""Every mode that Pillow reads, by its pixels; every orientation; nothing that is no image."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks import Example, image_hash, open_image

RAMP = np.tile(np.linspace(0, 1, 256), (4, 1))
GREY = (RAMP * 255).round().astype(np.uint8)


def encoded(image: Image.Image, kind: str, **more: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **more)
    return sink.getvalue()


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(open_image(Example("one", "x", image=data)))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_of_grey_are_scaled_by_their_depth(kind: str) -> None:
    data = encoded(Image.fromarray((RAMP * 65535).astype(np.uint16)), kind)
    assert np.abs(pixels(data).astype(int) - GREY[..., None]).max() <= 1
    half = encoded(Image.fromarray((RAMP * 32767).astype(np.uint16)), kind)
    assert abs(int(pixels(half).max()) - 127) <= 1


def test_sixteen_bits_of_either_byte_order() -> None:
    values = (RAMP * 65535).astype(">u2")
    image = Image.frombytes("I;16B", (256, 4), values.tobytes())
    assert np.abs(pixels(encoded(image, "TIFF")).astype(int) - GREY[..., None]).max() <= 1


@pytest.mark.parametrize(("top", "shift"), [(1, 0), (255, 0), (65535, 0), (1e6, -5e5)])
def test_floats_and_long_integers_are_scaled_by_their_range(top: float, shift: float) -> None:
    kinds: list[Any] = [np.float32] if top == 1 else [np.float32, np.int32]
    for kind in kinds:
        data = encoded(Image.fromarray((RAMP * top + shift).astype(kind)), "TIFF")
        assert np.abs(pixels(data).astype(int) - GREY[..., None]).max() <= 1


def test_floats_that_are_no_numbers_are_refused() -> None:
    values = RAMP.astype(np.float32)
    values[0, 0] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        pixels(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("1", "PNG"), ("L", "PNG"), ("P", "GIF"), ("RGB", "PNG"), ("CMYK", "TIFF"), ("YCbCr", "TIFF"), ("LAB", "TIFF")],
)
def test_modes_of_eight_bits_are_read_as_pillow_converts_them(mode: str, kind: str) -> None:
    colours = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)).resize((28, 36))
    image = colours.convert("RGB").convert(mode) if mode != "LAB" else Image.new("LAB", (7, 9), (120, 30, 200))
    with Image.open(io.BytesIO(encoded(image, kind))) as again:
        assert np.array_equal(pixels(encoded(image, kind)), np.asarray(again.convert("RGB")))


def test_transparency_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (4, 4), (200, 0, 0, 0))
    flat = Image.new("LA", (4, 4), (10, 0))
    named = Image.new("RGB", (4, 4), "red").convert("P")
    clear_index = named.getpixel((0, 0))
    for data in (encoded(clear, "PNG"), encoded(flat, "PNG"), encoded(named, "PNG", transparency=clear_index)):
        assert (pixels(data) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_is_turned_upright(orientation: int, kind: str) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :16] = 255  # white at the top on the left
    turns: list[str | None] = [None, None, "fliplr", "rot180", "flipud", "transpose", "cw", "transverse", "ccw"]
    stored = {  # how the camera holds it, so that the turn of this number makes it upright
        None: upright,
        "fliplr": upright[:, ::-1],
        "rot180": upright[::-1, ::-1],
        "flipud": upright[::-1],
        "transpose": upright.transpose(1, 0, 2),
        "cw": np.rot90(upright, 1),
        "transverse": upright[::-1, ::-1].transpose(1, 0, 2),
        "ccw": np.rot90(upright, -1),
    }[turns[orientation]]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    assert np.abs(pixels(data).astype(int) - upright).mean() < 8


def test_what_is_decoded_otherwise_than_before_has_a_key_of_its_own() -> None:
    plain, deep = encoded(Image.fromarray(GREY), "PNG"), encoded(Image.fromarray((RAMP * 65535).astype("u2")), "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(Image.fromarray(GREY), "JPEG", exif=exif)
    assert image_hash(Example("a", "x", image=plain)) == sha256_bytes(plain)
    for data in (deep, turned):
        assert image_hash(Example("a", "x", image=data)) != sha256_bytes(data)


def test_only_listed_formats_are_opened(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(InputError, match="of no known format"):
        pixels(eps)


def test_an_image_too_large_is_refused_before_it_is_decoded() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 12000, 12000, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(InputError, match="not a readable image"):
        pixels(data)


def test_a_pipe_is_no_image(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(InputError, match="not a regular file"):
        open_image(Example("a", "x", image=tmp_path / "a.png"))
    with pytest.raises(InputError, match="cannot be read"):
        open_image(Example("a", "x", image=Path("x" * 5000 + ".png")))
