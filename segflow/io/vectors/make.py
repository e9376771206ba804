"""From a published label map to features on disk, in flat memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.io.opening import open_source
from segflow.io.raster import RasterSpec
from segflow.io.source import Source
from segflow.io.vectors.area import CellAreas, cell_areas
from segflow.io.vectors.simplify import Coverage
from segflow.io.vectors.spool import Spool, spooled
from segflow.io.vectors.sweep import Strip, polygons
from segflow.io.vectors.table import Attributes, tables
from segflow.models.card import LabelClass
from segflow.postprocess.sieve import sieve
from tiling.box import Box

ReadRows = Callable[[int, int], NDArray[Any]]
"""Gives the values from a row to before another."""

_STRIP_CELLS = 1 << 22
_FEWEST_ROWS, _MOST_ROWS = 32, 2048


@dataclass(frozen=True, slots=True)
class Ask:
    """Which polygons are wanted, and how they are changed.

    Attributes:
        connectivity: 4 or 8.
        classes: ids; None for all.
        sieve: cells that a region needs, smaller ones go to their largest neighbour; 0 for no sieve.
        min_area_m2: polygons of less are left out; 0 for none.
        simplify_m: tolerance; 0 for all corners.
    """

    connectivity: int = 4
    classes: tuple[int, ...] | None = None
    sieve: int = 0
    min_area_m2: float = 0.0
    simplify_m: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelMap:
    """A label map in files.

    Attributes:
        labels: the file of class ids.
        confidence: the file of confidences; None where there is none.
        grid: of both.
        nodata: the label of cells that are of no class.
        classes: of the other labels.
    """

    labels: Path
    confidence: Path | None
    grid: Grid
    nodata: int
    classes: Sequence[LabelClass]


def placed(grid: Grid) -> tuple[float, ...]:
    """Return the affine to world coordinates; without one, columns and negative rows, as QGIS shows such rasters."""
    return grid.affine or (1.0, 0.0, 0.0, 0.0, -1.0, 0.0)


def areas_of(grid: Grid) -> CellAreas | None:
    """Return what a raster's cells measure; None where that is unknown.

    Raises:
        OutputError: the raster does not lie where its CRS can be used.
    """
    if grid.affine is None or grid.crs is None:
        return None
    return cell_areas(grid.crs, grid.affine, (grid.shape[0], grid.shape[1]))


def strips_of(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return first row and end of each strip. They depend on the shape alone, as simplified borders depend on them."""
    rows = min(_MOST_ROWS, max(_FEWEST_ROWS, _STRIP_CELLS // shape[1]))
    return [(first, min(first + rows, shape[0])) for first in range(0, shape[0], rows)]


def make_features(path: Path, source: LabelMap, ask: Ask) -> Spool:
    """Write a label map's polygons to a file from which formats take them.

    Raises:
        InputError: a file is missing or broken.
        OutputError: a polygon is too large for any format, or the raster does not lie where its CRS can be used.
    """
    with ExitStack() as stack:
        labels = _rows(stack.enter_context(_opened(source.labels)), source.nodata)
        confidence = None
        if source.confidence is not None:
            confidence = _rows(stack.enter_context(_opened(source.confidence)), 0)
        wanted = np.zeros(1 << 16, bool)
        names = {item.id: item.name for item in source.classes}
        wanted[[number for number in names if ask.classes is None or number in ask.classes]] = True
        wanted[source.nodata] = False
        attributes = Attributes(
            names=names,
            affine=placed(source.grid),
            areas=areas_of(source.grid),
            confidence=confidence is not None,
            smallest_m2=ask.min_area_m2,
            many=ask.connectivity == 8,
        )
        found = polygons(
            _strips(labels, confidence, source, ask), wanted, ask.connectivity, _simplifier(source.grid, ask)
        )
        return spooled(path, tables(found, attributes))


def _simplifier(grid: Grid, ask: Ask) -> Coverage | None:
    if not ask.simplify_m or grid.spacing is None:
        return None
    return Coverage(ask.simplify_m, (grid.spacing[0], grid.spacing[1]))


def _opened(path: Path) -> closing[Source]:
    return closing(open_source(RasterSpec(str(path), (1,))))


def _rows(source: Source, nodata: int) -> ReadRows:
    """Return a function that reads rows, with this value where nothing is valid."""
    width = source.grid.shape[1]

    def read(first: int, end: int) -> NDArray[Any]:
        found = source.read(Box((first, 0), (end, width)))
        return np.where(found.valid, found.values[0], nodata)

    return read


def _strips(labels: ReadRows, confidence: ReadRows | None, source: LabelMap, ask: Ask) -> Iterator[Strip]:
    height = source.grid.shape[0]
    for first, values in _values(labels, source, ask):
        end = first + len(values)
        yield Strip(values, None if confidence is None else confidence(first, end), end == height)


def _values(labels: ReadRows, source: LabelMap, ask: Ask) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the first row and the labels of each strip."""
    height, width = source.grid.shape
    places = strips_of((height, width))
    if ask.sieve <= 1:
        yield from ((first, labels(first, end)) for first, end in places)
        return
    sieved = sieve(
        lambda box: labels(box.start[0], box.stop[0]),
        (height, width),
        ask.sieve,
        "faces" if ask.connectivity == 4 else "corners",
        source.nodata,
        rows=places[0][1],
    )
    yield from ((box.start[0], values) for box, values in sieved.strips())
