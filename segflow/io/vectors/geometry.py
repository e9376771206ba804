"""Features as shapely's geometries, by way of flat arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.parts import Features
from segflow.io.vectors.rings import Rings


def geometries(features: Features, scale: NDArray[Any] | None = None, many: bool = False) -> NDArray[Any]:
    """Return a polygon, or with `many` a multipolygon, for each feature.

    Args:
        features: of one part each, unless `many`.
        scale: (2,) what x and y are multiplied with; None for 1.
        many: whether features may have several parts.
    """
    points = features.parts.rings.points.astype(np.float64)
    if scale is not None:
        points *= scale
    return ragged(features, points, many)


def ragged(features: Features, points: NDArray[np.float64], many: bool) -> NDArray[Any]:
    """Return the geometries of features whose points lie elsewhere: (points, 2), in the order of the rings."""
    import shapely

    rings = features.parts.rings
    closed, starts = _closed(rings, points)
    parts = np.searchsorted(rings.owner, np.arange(len(features.parts) + 1))
    if not many:
        return np.asarray(shapely.from_ragged_array(shapely.GeometryType.POLYGON, closed, (starts, parts)))
    whole = np.searchsorted(features.feature, np.arange(len(features) + 1))
    return np.asarray(shapely.from_ragged_array(shapely.GeometryType.MULTIPOLYGON, closed, (starts, parts, whole)))


def _closed(rings: Rings, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the points with each ring's first one at its end again, and where rings begin."""
    starts = rings.starts + np.arange(len(rings.starts))
    closed = np.empty((len(points) + len(rings), 2))
    last = np.zeros(len(closed), bool)
    last[starts[1:] - 1] = True
    closed[~last] = points
    closed[last] = points[rings.starts[:-1]]
    return closed, starts
