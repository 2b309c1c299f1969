"""Decode an example's image."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from pitune.errors import InputError
from pitune.files import sha256_bytes
from pitune.tasks.task import Example


def image_bytes(example: Example) -> bytes:
    """Return the encoded image of `example`; raise `InputError` if its file cannot be read."""
    if example.image is None:
        raise InputError(f"example {example.id!r} has no image")
    if isinstance(example.image, bytes):
        return example.image
    try:
        return Path(example.image).read_bytes()
    except OSError as error:
        raise InputError(f"{example.image}: cannot be read ({error.strerror}); example {example.id!r}") from error


def image_hash(example: Example) -> str:
    """Return the SHA-256 of the encoded image, the key under which its features are cached."""
    return sha256_bytes(image_bytes(example))


def open_image(example: Example) -> Image.Image:
    """Return the image as RGB; transparency is laid on white. Raise `InputError` if it is corrupt."""
    where = example.image if isinstance(example.image, Path) else f"example {example.id!r}"
    try:
        with Image.open(io.BytesIO(image_bytes(example))) as image:
            image.load()
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                layered = image.convert("RGBA")
                ground = Image.new("RGBA", layered.size, "white")
                return Image.alpha_composite(ground, layered).convert("RGB")
            return image.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        why = "of no known format" if isinstance(error, UnidentifiedImageError) else error
        raise InputError(f"{where}: not a readable image ({why}); expected PNG, JPEG or the like") from error
