"""Features as well-known binary (OGC 06-103r4), laid out in one buffer: a polygon of a gigabyte exists once.

A polygon is a byte that tells the order of bytes, then its type and how many rings it has, in four bytes each, and for
each ring how many points, in four bytes, and x and y of each, in eight; the first point comes again at the end. A
multipolygon is such a byte, its type, how many polygons, and these.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.parts import Features
from segflow.io.vectors.rings import blocks, spans, starts_of
from segflow.io.vectors.walks import Ints

_POLYGON, _MULTIPOLYGON = 3, 6
_HEAD = 9
_POINT = 16


def well_known(features: Features, affine: tuple[float, ...], many: bool) -> tuple[NDArray[np.uint8], Ints]:
    """Return geometries in little-endian WKB; outer rings run counter-clockwise in the CRS, holes clockwise.

    Args:
        features: of one part each, unless `many`.
        affine: GDAL's six, from column and row to the CRS.
        many: whether each is a multipolygon.

    Returns:
        The bytes, and (features + 1,) where each geometry begins in them, and their number.
    """
    parts, rings = features.parts, features.parts.rings
    ring_bytes = 4 + _POINT * (rings.lengths + 1)
    part_bytes = _HEAD + np.bincount(rings.owner, ring_bytes, len(parts)).astype(np.int64)
    whole_bytes = np.bincount(features.feature, part_bytes, len(features)).astype(np.int64)
    ends = starts_of(whole_bytes + _HEAD * many)
    out = np.empty(ends[-1], np.uint8)
    first = np.searchsorted(features.feature, np.arange(len(features) + 1))
    if many:
        _heads(out, ends[:-1], _MULTIPOLYGON, np.diff(first))
    place = starts_of(part_bytes)[:-1] + _HEAD * many * (features.feature + 1)
    counts = np.bincount(rings.owner, minlength=len(parts))
    _heads(out, place, _POLYGON, counts)
    before = starts_of(ring_bytes)
    leading = before[np.searchsorted(rings.owner, rings.owner)]
    _rings(out, place[rings.owner] + _HEAD + before[:-1] - leading, features, affine)
    return out, ends


def _heads(out: NDArray[np.uint8], place: Ints, kind: int, counts: Ints) -> None:
    """Write the byte order, the type and the number of what follows."""
    head = np.zeros(len(place), np.dtype([("order", "u1"), ("kind", "<u4"), ("count", "<u4")]))
    head["order"], head["kind"], head["count"] = 1, kind, counts
    _scatter(out, place, head.view(np.uint8).reshape(len(place), _HEAD))


def _rings(out: NDArray[np.uint8], place: Ints, features: Features, affine: tuple[float, ...]) -> None:
    """Write the number of points of each ring and the points, some at a time."""
    a, b, c, d, e, f = affine
    mirrored = a * e - b * d < 0
    rings = features.parts.rings
    for start, end in blocks(rings.starts):
        some = rings.cut(start, end)
        sizes = some.lengths + 1
        at = spans(np.zeros(len(sizes), np.int64), sizes)
        length, ring_start = np.repeat(some.lengths, sizes), np.repeat(some.starts[:-1], sizes)
        # Rings run clockwise on the screen, and so they do in a CRS whose second axis points up.
        x, y = some.points[ring_start + (length - at if mirrored else at) % length].T.astype(np.float64)
        points = np.column_stack((a * x + b * y + c, d * x + e * y + f)).astype("<f8")
        _scatter(out, place[start:end], sizes.astype("<u4").view(np.uint8).reshape(-1, 4))
        target = np.repeat(place[start:end] + 4, sizes) + _POINT * at
        _scatter(out, target, points.view(np.uint8).reshape(-1, _POINT))


def _scatter(out: NDArray[np.uint8], place: Ints, rows: NDArray[np.uint8]) -> None:
    """Put rows of bytes at their places."""
    for column in range(rows.shape[1]):
        out[place + column] = rows[:, column]
