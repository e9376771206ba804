"""Label arrays and what GDAL and shapely make of them: the oracles of the polygon tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import rasterio.features
import shapely
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.io.vectors.geometry import geometries
from segflow.io.vectors.parts import Features
from segflow.io.vectors.sweep import Simplifier, Strip, polygons

ALL = np.ones(256, bool)


@st.composite
def label_arrays(draw: st.DrawFn, most: int = 14) -> NDArray[np.uint8]:
    """Noise or blobs of up to four labels."""
    shape = draw(st.tuples(st.integers(1, most), st.integers(1, most)))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    coarse = draw(st.integers(1, 3))
    values = random.integers(0, draw(st.integers(1, 4)), shape).astype(np.uint8)
    return np.kron(values, np.ones((coarse, coarse), np.uint8))[: shape[0], : shape[1]]


def strips(labels: NDArray[Any], height: int, weights: NDArray[Any] | None = None) -> Iterator[Strip]:
    """An array in strips."""
    for first in range(0, len(labels), height):
        rows = slice(first, first + height)
        yield Strip(labels[rows], None if weights is None else weights[rows], first + height >= len(labels))


def swept(
    labels: NDArray[Any], height: int, connectivity: int = 4, simplifier: Simplifier | None = None, **more: Any
) -> list[Features]:
    """All batches of an array's polygons that hold any."""
    made = polygons(
        strips(labels, height, more.get("weights")), more.get("wanted", ALL), connectivity, simplifier=simplifier
    )
    return [batch for batch in made if len(batch)]


def ours(labels: NDArray[Any], height: int, connectivity: int = 4, **more: Any) -> list[tuple[int, Any]]:
    """Label and geometry of each feature."""
    return [
        item
        for batch in swept(labels, height, connectivity, **more)
        for item in zip(batch.values.tolist(), geometries(batch, many=True), strict=True)
    ]


def theirs(labels: NDArray[Any], connectivity: int, mask: NDArray[Any] | None = None) -> list[tuple[int, Any]]:
    """Label and geometry of each polygon that GDAL makes of the whole array, self-touching ones mended by GEOS."""
    return [
        (int(value), shapely.make_valid(shapely.geometry.shape(shape), method="structure"))
        for shape, value in rasterio.features.shapes(labels, mask=mask, connectivity=connectivity)
    ]


def comparable(found: list[tuple[int, Any]]) -> list[tuple[int, str]]:
    """The same for equal sets of points, however they are written."""
    return sorted((value, shapely.normalize(shapely.union_all(shape)).wkt) for value, shape in found)
