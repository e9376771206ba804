"""Arrays and pictures as text that a page can hold: base64 of PNG, JPEG, or zlib's deflate."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segflow.hardware import usable_cores
from segflow.report.schema import ClassReport

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")

NOTHING = 255
"""Position of a cell that has no class, in arrays that a page holds."""


def on_all_cores(make: Callable[[_Item], _Made], items: Iterable[_Item]) -> list[_Made]:
    """Return what is made of each item, in order, by as many threads as there are cores.

    For what zlib and Pillow do, which let other threads run: no network does any more when a page is made.
    """
    with ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(make, items))


def text_of(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def packed(values: NDArray[np.uint8], level: int = 6) -> str:
    """Return bytes in C order, deflated with zlib's header, as base64; a browser's DecompressionStream reads it."""
    return text_of(zlib.compress(np.ascontiguousarray(values).tobytes(), level))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return an image as a file's bytes."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """Return (y, x, 3) or (y, x) uint8 as a JPEG; full colour resolution from quality 90 on."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return saved(image, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return (y, x, 3) or (y, x) uint8 as a PNG."""
    return saved(Image.fromarray(np.ascontiguousarray(pixels)), "PNG")


def uri(data: bytes, kind: str) -> str:
    """Return a file's bytes as a data URI of an image of that kind."""
    return f"data:image/{kind};base64,{text_of(data)}"


def positions(
    labels: NDArray[Any], valid: NDArray[np.bool_] | None, classes: Sequence[ClassReport]
) -> NDArray[np.uint8]:
    """Return uint8 positions in `classes`; `NOTHING` where there is no label, or one beyond the 255th class.

    Args:
        labels: class ids, of any shape and integer dtype.
        valid: of the same shape, True = there is a label; there is everywhere when None.
        classes: in the order that positions count.
    """
    found = np.full(labels.shape, NOTHING, np.uint8)
    if labels.dtype == np.uint8:
        table = np.full(256, NOTHING, np.uint8)
        for place, item in enumerate(classes[:NOTHING]):
            if item.id < 256:
                table[item.id] = place
        found = table[labels]
    else:
        for place, item in enumerate(classes[:NOTHING]):
            found[labels == item.id] = place
    if valid is not None:
        found[~valid] = NOTHING
    return found
