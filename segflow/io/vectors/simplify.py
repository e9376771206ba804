"""Borders with fewer corners, the same from both sides.

A strip's regions, nodata included, are a coverage of a rectangle, which GEOS simplifies as a whole: each border
once, for both of its regions, with no two borders crossing and none lost (Visvalingam and Whyatt 1993, on
coverages). Only the corners that stay are taken from it, so that borders go on exactly from strip to strip. The
strip's own sides are not simplified: the points at which borders cross from one strip to the next stay, and the
edges that run along there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.corners import corners
from segflow.io.vectors.geometry import geometries
from segflow.io.vectors.parts import Features, finished
from segflow.io.vectors.rings import Rings
from segflow.io.vectors.walks import walks


@dataclass(frozen=True, slots=True)
class Coverage:
    """Simplifies a strip. A `segflow.io.vectors.sweep.Simplifier`.

    Attributes:
        tolerance: the side of a square with the area of the largest triangle that may be cut off or filled, roughly.
        spacing: a cell's extent (y, x), in the same units.
    """

    tolerance: float
    spacing: tuple[float, float]

    def __call__(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which points borders pass, (rows + 1, columns + 1)."""
        import shapely

        height, width = values.shape
        regions = _regions(values)
        if len(regions) == 0:
            return np.ones((height + 1, width + 1), bool)
        scale = np.array(self.spacing[::-1])
        simple = shapely.coverage_simplify(geometries(regions, scale), self.tolerance, simplify_boundary=False)
        left = np.rint(shapely.get_coordinates(simple) / scale).astype(np.int64)
        kept = np.zeros((height + 1, width + 1), bool)
        kept[left[:, 1], left[:, 0]] = True
        kept[[0, -1]] = True
        return kept


def _regions(values: NDArray[Any]) -> Features:
    """Return all regions of a strip for itself, with every point at which three or four of them meet in all of them."""
    import cc3d

    window = np.zeros((values.shape[0] + 2, values.shape[1] + 2), np.uint16)
    window[1:-1, 1:-1] = values
    window[1:-1, 1:-1] += 1
    numbers, count = cc3d.connected_components(window, connectivity=4, return_N=True)
    wanted = np.ones(count + 1, bool)
    wanted[0] = False
    everywhere = np.ones((values.shape[0] + 1, values.shape[1] + 1), bool)
    found = corners(window, numbers, wanted, 0, False, everywhere)
    lists = walks(found.following)
    owner = found.region[lists.order[lists.starts[:-1]]] - 1
    rings = Rings(found.points[lists.order], lists.starts, owner, np.zeros(len(owner), bool))
    nothing = np.zeros(count, np.int64)
    return Features(finished(nothing, nothing, np.zeros(count), rings), np.arange(count))
