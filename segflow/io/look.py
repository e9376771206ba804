"""A first look at an input, before there is a recipe: what its bands are called, and what values it holds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp

from segflow.errors import InputError
from segflow.grid import Kind
from segflow.io.dicom.scenes import is_dicom_file
from segflow.io.names import VOLUME_SUFFIXES
from segflow.io.raster_header import open_file
from segflow.io.source import Source
from tiling import Box

_SIDE = {"raster": 256, "volume": 64}
_COLOURS = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue", ColorInterp.gray: "grey"}


@dataclass(frozen=True, slots=True)
class Band:
    """One band of a raster.

    Attributes:
        number: 1-based, as recipes count.
        name: what the file calls it, or its colour; "" where it says neither.
        alpha: whether it is a mask.
    """

    number: int
    name: str
    alpha: bool


def bands_of(path: str) -> tuple[tuple[Band, ...], float | None]:
    """Return a raster's bands, and the first one's nodata value; None where it has none.

    Raises:
        InputError: the file is missing or is no raster.
    """
    file = open_file(path)
    try:
        bands = tuple(
            Band(number, (text or _COLOURS.get(colour, "")).strip(), colour == ColorInterp.alpha)
            for number, text, colour in zip(file.indexes, file.descriptions, file.colorinterp, strict=True)
        )
        nodata = file.nodatavals[0]
        return bands, None if nodata is None else float(nodata)
    finally:
        file.close()


def kind_of_path(path: str) -> Kind:
    """Tell volumes from rasters by the extension; DICOM by the content of a file, or of the first in a folder."""
    place = Path(path)
    if path.lower().endswith(VOLUME_SUFFIXES) or (place.is_file() and is_dicom_file(place)):
        return "volume"
    if not place.is_dir():
        return "raster"
    files = (child for child in sorted(place.rglob("*")) if child.is_file() and not child.name.startswith("."))
    first = next(files, None)
    return "volume" if first is not None and kind_of_path(str(first)) == "volume" else "raster"


def sample_values(source: Source) -> NDArray[Any]:
    """Return valid values of a scene as (channel, n): all of a small one, else of boxes spread evenly over it.

    Raises:
        InputError: the file is broken there, or none of these cells is valid.
    """
    grid = source.grid
    side = _SIDE[grid.kind]
    places = [_spread(n, side) for n in grid.shape]
    found = []
    for starts in product(*places):
        box = Box(starts, tuple(min(a + side, n) for a, n in zip(starts, grid.shape, strict=True)))
        pixels = source.read(box)
        found.append(pixels.values[:, pixels.valid])
    values = np.concatenate(found, axis=1)
    if not values.shape[1]:
        raise InputError(
            f"{source.name} has no valid cell in {len(found)} places that were looked at",
            "some valid cells there",
            "check its nodata value, or set inputs.nodata",
        )
    return values


def _spread(length: int, side: int) -> tuple[int, ...]:
    """Return where up to three boxes begin on an axis: all of it where that is little more than three."""
    if length <= 3 * side:
        return tuple(range(0, length, side))
    return 0, (length - side) // 2, length - side
