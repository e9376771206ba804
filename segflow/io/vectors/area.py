"""Areas in square metres, whatever the CRS and the affine.

What a cell measures on the ellipsoid changes slowly over a scene: it is measured at Chebyshev points through an
equal-area projection of the CRS's own datum, and a polynomial is put through. The area of a polygon is the integral of
that over what it encloses, along its border by Green's theorem, with edges that are straight in the CRS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from segflow.errors import OutputError
from segflow.io.vectors.rings import Rings, blocks

_DEGREES = (2, 4, 8, 16, 32)
# How far apart the points of a difference lie, as a share of the scene, and how much of it they need to stay inside.
_STEP = 1e-3
_INSIDE = 1 - 5 * _STEP
_GOOD_ENOUGH = 1e-9
_USABLE = 1e-5
_FAR = np.deg2rad(60.0)
# Edges up to these shares of the scene take so many points of the quadrature.
_QUADRATURE = ((0.01, 2), (0.05, 3), (np.inf, 24))
# So few that they stay in a processor's cache.
_EDGES_AT_ONCE = 1 << 14


@dataclass(frozen=True, slots=True)
class CellAreas:
    """What the cells of a scene measure.

    Attributes:
        shape: of the scene, (y, x).
        integral: Chebyshev coefficients, (x, y), of a cell's area in m2 summed from the left border, over the scene
            scaled to -1..1 on each axis.
        error: the largest relative error that was found.
    """

    shape: tuple[int, int]
    integral: NDArray[np.float64]
    error: float

    def of_rings(self, rings: Rings) -> NDArray[np.float64]:
        """Return (rings,) the m2 that each ring encloses; positive for clockwise as seen on the screen."""
        areas = np.zeros(len(rings))
        scale = 2.0 / np.array(self.shape[::-1], np.float64)
        for first, end in blocks(rings.starts):
            some = rings.cut(first, end)
            points = some.points * scale - 1.0
            onward = np.arange(1, len(points) + 1)
            onward[some.starts[1:] - 1] = some.starts[:-1]
            total = np.zeros(len(points))
            rising = np.flatnonzero(some.points[:, 1] != some.points[onward, 1])
            for place in range(0, len(rising), _EDGES_AT_ONCE):
                edges = rising[place : place + _EDGES_AT_ONCE]
                total[edges] = self._of_edges(points[edges], points[onward[edges]])
            areas[first:end] = np.add.reduceat(total, some.starts[:-1])
        return areas

    def _of_edges(self, here: NDArray[np.float64], there: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the integral of the area to the left of each edge, along y, in m2."""
        made = np.zeros(len(here))
        size, done = np.abs(there - here).max(axis=1) / 2, -1.0
        for most, count in _QUADRATURE:
            chosen = np.flatnonzero((size > done) & (size <= most))
            done = most
            if not len(chosen):
                continue
            x, y = here[chosen].T
            wide, high = (there[chosen] - here[chosen]).T
            for node, weight in zip(*np.polynomial.legendre.leggauss(count), strict=True):
                part = (node + 1) / 2
                made[chosen] += weight / 2 * chebyshev.chebval2d(x + part * wide, y + part * high, self.integral)
        return made * (there[:, 1] - here[:, 1]) * self.shape[0] / 2


def cell_areas(crs: str, affine: tuple[float, ...], shape: tuple[int, int]) -> CellAreas | None:
    """Measure the cells of a scene.

    Args:
        crs: as WKT.
        affine: GDAL's six, to the CRS.
        shape: (y, x).

    Returns:
        None where the CRS is a local one, of which nobody knows where on Earth it lies.

    Raises:
        OutputError: the scene does not lie where the CRS can be used.
    """
    project = _equal_area(crs, affine, shape)
    if project is None:
        return None
    for degree in _DEGREES:
        nodes = _INSIDE * chebyshev.chebpts1(degree + 1)
        u, v = (side.ravel() for side in np.meshgrid(nodes, nodes, indexing="ij"))
        measured = _measured(project, affine, shape, u, v)
        if not np.isfinite(measured).all():
            error = np.inf
            break
        inverse = np.linalg.inv(chebyshev.chebvander(nodes, degree))
        found = inverse @ measured.reshape(degree + 1, degree + 1) @ inverse.T
        u, v = (side.ravel() for side in np.meshgrid(*2 * (_INSIDE * np.linspace(-1, 1, 13),), indexing="ij"))
        truth = _measured(project, affine, shape, u, v)
        error = float(np.abs(chebyshev.chebval2d(u, v, found) - truth).max() / np.abs(truth).max())
        if error <= _GOOD_ENOUGH:
            break
    if not error <= _USABLE:
        raise OutputError(
            "the areas of this raster's cells cannot be measured: it reaches out of where its CRS can be used",
            "a raster whose cells lie within the area of use of its CRS",
            "reproject it (gdalwarp -t_srs) to a CRS that fits, or cut it",
        )
    return CellAreas(
        shape, _trimmed(np.asarray(chebyshev.chebint(found, lbnd=-1, axis=0), np.float64)) * shape[1] / 2, error
    )


def _trimmed(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coefficients without the last rows and columns that add nothing."""
    counts = np.abs(coefficients) > np.abs(coefficients).max() * _GOOD_ENOUGH / 100
    rows, columns = np.flatnonzero(counts.any(axis=1)), np.flatnonzero(counts.any(axis=0))
    return coefficients[: rows[-1] + 1, : columns[-1] + 1]


def _measured(
    project: Any, affine: tuple[float, ...], shape: tuple[int, int], u: NDArray[np.float64], v: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what a cell measures at points of the scene scaled to -1..1, in m2: fourth-order central differences."""
    x, y = (u + 1) / 2 * shape[1], (v + 1) / 2 * shape[0]
    wide, high = _STEP * shape[1], _STEP * shape[0]

    def at(right: float, down: float) -> NDArray[np.float64]:
        columns, rows = x + right * wide, y + down * high
        a, b, c, d, e, f = affine
        return np.array(project(a * columns + b * rows + c, d * columns + e * rows + f))

    if not all(np.isfinite(at(k, 0)).all() and np.isfinite(at(0, k)).all() for k in (-2, 2)):
        return np.full(x.shape, np.inf)
    across = (8 * (at(1, 0) - at(-1, 0)) - (at(2, 0) - at(-2, 0))) / (12 * wide)
    down = (8 * (at(0, 1) - at(0, -1)) - (at(0, 2) - at(0, -2))) / (12 * high)
    return np.asarray(np.abs(across[0] * down[1] - across[1] * down[0]))


def _equal_area(crs: str, affine: tuple[float, ...], shape: tuple[int, int]) -> Any:
    """Return what takes (x, y) of the CRS to an equal-area projection of its datum, in metres; None if it has none.

    Lambert's azimuthal projection around the scene's middle; where the scene reaches farther than 60 degrees from
    there, Lambert's cylindrical one.
    """
    from pyproj import CRS, Transformer
    from pyproj.crs import ProjectedCRS
    from pyproj.crs.coordinate_operation import (
        LambertAzimuthalEqualAreaConversion,
        LambertCylindricalEqualAreaConversion,
    )

    known = CRS.from_wkt(crs)
    geodetic = known.geodetic_crs
    if geodetic is None:
        return None
    a, b, c, d, e, f = affine
    rows, columns = np.array([0, 0, 1, 1, 0.5, 0, 1, 0.5, 0.5]), np.array([0, 1, 0, 1, 0.5, 0.5, 0.5, 0, 1])
    rows, columns = rows * shape[0], columns * shape[1]
    flat = _flat(known)
    to_degrees = Transformer.from_crs(flat, geodetic, always_xy=True)
    lon, lat = to_degrees.transform(a * columns + b * rows + c, d * columns + e * rows + f)
    if not np.isfinite(lon[4] + lat[4]):
        return None
    middle = float(lat[4]), float(lon[4])
    far = not np.isfinite(lon).all() or _angles(lon, lat, middle).max() > _FAR
    conversion = (
        LambertCylindricalEqualAreaConversion(0.0, middle[1])
        if far
        else LambertAzimuthalEqualAreaConversion(latitude_natural_origin=middle[0], longitude_natural_origin=middle[1])
    )
    target = ProjectedCRS(conversion, name="equal area", geodetic_crs=geodetic)
    return Transformer.from_crs(flat, target, always_xy=True).transform


def _flat(known: Any) -> Any:
    """Return the horizontal part of a CRS that has heights too."""
    return next((part for part in known.sub_crs_list if not part.is_vertical), known) if known.is_compound else known


def _angles(lon: NDArray[np.float64], lat: NDArray[np.float64], middle: tuple[float, float]) -> NDArray[np.float64]:
    """Return how far points in degrees are from the middle, (lat, lon), as seen from the Earth's centre, in radians."""
    here = np.deg2rad(middle[0])
    phi, away = np.deg2rad(lat), np.deg2rad(lon - middle[1])
    cosine = np.sin(here) * np.sin(phi) + np.cos(here) * np.cos(phi) * np.cos(away)
    return np.asarray(np.arccos(np.clip(cosine, -1, 1)))
