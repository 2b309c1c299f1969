"""Decode an example's image."""

from __future__ import annotations

import io
import stat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks.task import Example

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "TGA", "ICO")
MOST_PIXELS = 89_478_485  # Pillow's own line, past which it warns of a bomb
MOST_BYTES = 1 << 28
DEEP_MODES = ("I", "F")  # beside those that begin with I;16: more than eight bits a pixel
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    OverflowError,
    MemoryError,
    ZeroDivisionError,
)


def image_bytes(example: Example) -> bytes:
    """Return the encoded image of `example`; raise `InputError` if its file cannot be read, or is none or too large."""
    if example.image is None:
        raise InputError(f"example {example.id!r} has no image")
    if isinstance(example.image, bytes):
        return example.image
    try:
        found = Path(example.image).stat()
        if not stat.S_ISREG(found.st_mode):  # a pipe or a device would be waited for without end
            raise InputError(f"{example.image}: not a regular file; expected an image")
        if found.st_size > MOST_BYTES:
            raise InputError(f"{example.image}: {found.st_size >> 20:,} MiB, expected an image of at most 256 MiB")
        return Path(example.image).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        why = getattr(error, "strerror", None) or error
        raise InputError(f"{example.image}: cannot be read ({why}); example {example.id!r}") from error


def image_hash(example: Example) -> str:
    """Return the SHA-256 of the encoded image, the key under which its features are cached.

    That of an image that is scaled or turned upright has a mark of its own, since it was once decoded otherwise.
    """
    data = image_bytes(example)
    return sha256_bytes(data + b"\npixels 2" if _is_adapted(data) else data)


def open_image(example: Example) -> Image.Image:
    """Return the image upright and as RGB; transparency is laid on white. Raise `InputError` if it is corrupt.

    Integers of 16 bits are scaled by their bit depth. Longer ones and floats are taken as they are, or as 0 to 1 or
    0 to 65,535, where they fit the range, and are scaled by the least and the largest value of the image otherwise.
    """
    where = example.image if isinstance(example.image, Path) else f"example {example.id!r}"
    try:
        with Image.open(io.BytesIO(image_bytes(example)), formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"{image.width} by {image.height} pixels, at most {MOST_PIXELS:,} are read")
            image.load()
            return _upright(image, _as_rgb(image))
    except _BROKEN as error:
        if isinstance(error, InputError):
            raise
        why = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{where}: not a readable image ({why}); expected PNG, JPEG or the like") from error


def is_deep(mode: str) -> bool:
    """Return whether an image of this mode has more than eight bits a pixel."""
    return mode in DEEP_MODES or mode.startswith("I;16")


def _is_adapted(data: bytes) -> bool:
    if data.startswith(b"\x89PNG") and b"eXIf" not in data and b"Raw profile type exif" not in data:
        return data[24:26] == b"\x10\0"  # 16 bits of grey; to ask Pillow for EXIF would decode the whole
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return is_deep(image.mode) or image.getexif().get(_ORIENTATION, 1) in _UPRIGHT
    except _BROKEN:
        return False


def _upright(image: Image.Image, rgb: Image.Image) -> Image.Image:
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:  # what is said beside the pixels may be damaged while they are not
        turn = None
    return rgb if turn is None else rgb.transpose(turn)


def _as_rgb(image: Image.Image) -> Image.Image:
    if is_deep(image.mode):
        return Image.fromarray(_eight_bits(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        straight = {"RGBa": "RGBA", "La": "LA"}.get(image.mode)
        layered = (image.convert(straight) if straight else image).convert("RGBA")
        ground = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    """Return the grey values (height, width) as 0 to 255."""
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("holds NaN or infinity")
    low, high = 0.0, _most(image, values)
    if values.min() < low or values.max() > high:
        low, high = values.min(), values.max()
    return ((values - low) / (high - low or 1.0) * 255).round().astype(np.uint8)


def _most(image: Image.Image, values: NDArray[np.float64]) -> float:
    """Return the value that is white, from 0 as black, by what the file says of its depth or what the values fit."""
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", None)
        bits = tags.get(258, (16,)) if tags is not None else (16,)
        return float(2 ** (bits[0] if isinstance(bits, tuple) else bits) - 1)
    if image.format in ("PNG", "PPM", "JPEG2000"):
        return 65535.0
    limits = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
    return next((one for one in limits if values.max() <= one), limits[-1])
