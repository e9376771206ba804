"""A raster as tiles that a page holds: input, labels, reference, confidence, at several scales and in bounded bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.report.codec import jpeg, on_all_cores, packed, png, text_of

TILE = 512
LONGEST = 3072
"""Longest side of the finest level, in cells; larger scenes are thinned."""

BUDGET = 8_000_000
"""Bytes of base64 of all tiles of a page."""

_SMALL = 1 << 20
_PNG_LIMIT = 150_000


@dataclass(frozen=True, slots=True)
class Layers:
    """What is seen of a raster at one scale, all on the same (y, x) cells.

    Attributes:
        image: (y, x, 3) uint8, stretched.
        labels: (y, x) uint8, positions of classes, 255 = none.
        reference: likewise; None where there is none.
        confidence: (y, x) uint8, largest probability x 255; None where it was not written.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "reference", "confidence"):
            array = getattr(self, name)
            if array is not None and (array.shape != self.image.shape[:2] or array.dtype != np.uint8):
                raise ValueError(f"{name} is {array.shape} {array.dtype}, the image {self.image.shape}")

    def part(self, rows: slice, columns: slice) -> Layers:
        """Return a part of all layers."""

        def cut(array: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
            return None if array is None else array[rows, columns]

        return Layers(self.image[rows, columns], self.labels[rows, columns], cut(self.reference), cut(self.confidence))

    def halved(self) -> Layers:
        """Return every second cell; the image is the mean of what it stands for."""
        even = slice(None, None, 2)
        thin = self.part(even, even)
        height, width = (n // 2 * 2 for n in self.labels.shape)
        image = thin.image.copy()
        for top in range(0, height, TILE):
            four = self.image[top : min(top + TILE, height), :width].astype(np.uint16)
            mean = (four[0::2, 0::2] + four[1::2, 0::2] + four[0::2, 1::2] + four[1::2, 1::2] + 2) // 4
            image[top // 2 : top // 2 + len(mean), : width // 2] = mean
        return Layers(image, thin.labels, thin.reference, thin.confidence)


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Tiles of a raster.

    Attributes:
        width: cells across of the finest level.
        height: cells down.
        levels: how many scales there are; level 0 is the coarsest.
        step: cells of the scene for one of the finest level.
        tiles: by "level/column/row": "i" the input (JPEG or PNG, base64), "l" labels, "r" reference, "c" confidence
            (deflated bytes, base64).
    """

    width: int
    height: int
    levels: int
    step: int
    tiles: dict[str, dict[str, str]]

    @property
    def bytes(self) -> int:
        """Size of all tiles in the page."""
        return sum(len(text) for tile in self.tiles.values() for text in tile.values())

    def data(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "width": self.width,
            "height": self.height,
            "levels": self.levels,
            "step": self.step,
            "tile": TILE,
            "tiles": self.tiles,
        }


def pyramid(finest: Layers, step: int, budget: int = BUDGET) -> Pyramid:
    """Cut a raster into tiles at as many scales as it takes for the coarsest to fit one tile.

    Where the tiles do not fit the budget, the finest scales are left out. The same cells give the same text.

    Args:
        finest: all layers at the finest scale.
        step: cells of the scene for one of these.
        budget: bytes of base64.
    """
    scales = [finest]
    while max(scales[-1].labels.shape) > TILE:
        scales.append(scales[-1].halved())
    made: list[dict[str, dict[str, str]]] = []
    spent = 0
    for number, layers in enumerate(reversed(scales)):
        tiles = _tiles(layers, number)
        spent += sum(len(text) for tile in tiles.values() for text in tile.values())
        if made and spent > budget:
            break
        made.append(tiles)
    dropped = len(scales) - len(made)
    height, width = scales[dropped].labels.shape
    tiles = {key: tile for level in made for key, tile in level.items()}
    return Pyramid(width, height, len(made), step << dropped, tiles)


def _tiles(layers: Layers, level: int) -> dict[str, dict[str, str]]:
    height, width = layers.labels.shape
    exact = height * width <= _SMALL
    parts = {
        f"{level}/{column}/{row}": layers.part(slice(top, top + TILE), slice(left, left + TILE))
        for row, top in enumerate(range(0, height, TILE))
        for column, left in enumerate(range(0, width, TILE))
    }
    return dict(zip(parts, on_all_cores(lambda part: _tile(part, exact), parts.values()), strict=True))


def _tile(part: Layers, exact: bool) -> dict[str, str]:
    tile = {"i": text_of(_image(part.image, exact)), "l": packed(part.labels)}
    if part.reference is not None:
        tile["r"] = packed(part.reference)
    if part.confidence is not None:
        tile["c"] = packed(part.confidence & np.uint8(0xF8))
    return tile


def _image(pixels: NDArray[np.uint8], exact: bool) -> bytes:
    """Return a PNG where the raster is small and the PNG is too, else a JPEG."""
    grey = bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 0] == pixels[..., 2]).all())
    shown = pixels[..., 0] if grey else pixels
    if exact and shown.size <= _PNG_LIMIT:
        return png(shown)
    return jpeg(shown, 90 if exact else 80)
