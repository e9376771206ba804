"""Where a raster lies: grid from a GDAL data set, metres whatever the CRS, comparison of two grids, windows."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from affine import Affine
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from segflow.errors import GridMismatchError, RecipeError
from segflow.grid import Grid
from segflow.io.gdalenv import GDAL_ERRORS
from tiling.box import Box

_WGS84 = (6378137.0, 298.257223563)
_LONGLAT = CRS.from_epsg(4326)
_DISTORTION = 0.02


def grid_of(dataset: Any) -> Grid:
    """Return the grid of an open rasterio data set. An identity transform means that it has no georeference."""
    shape = (int(dataset.height), int(dataset.width))
    affine: Affine = dataset.transform
    if affine.is_identity or affine.is_degenerate:
        return Grid("raster", shape)
    crs: CRS | None = dataset.crs or None
    return Grid(
        "raster",
        shape,
        affine=tuple(float(value) for value in affine[:6]),
        crs=crs.to_wkt() if crs is not None else None,
        spacing=cell_metres(affine, shape, crs) if crs is not None else None,
    )


def mercator_of(grid: Grid) -> tuple[float, ...] | None:
    """Return the six numbers (a, b, c, d, e, f) that take a cell's corner (column, row) to Web Mercator (EPSG:3857).

    Fitted by least squares to 25 points of the raster; for a picture, not for measuring. None where the raster has no
    CRS, or the fit is off by more than a hundredth of its longer side.
    """
    if grid.crs is None or grid.affine is None:
        return None
    rows, columns = grid.shape
    cells = np.array([(columns * i / 4, rows * j / 4) for i in range(5) for j in range(5)])
    a, b, c, d, e, f = grid.affine
    xs, ys = a * cells[:, 0] + b * cells[:, 1] + c, d * cells[:, 0] + e * cells[:, 1] + f
    try:
        found = np.array(transform(CRS.from_wkt(grid.crs), CRS.from_epsg(3857), xs.tolist(), ys.tolist()))
    except (CRSError, *GDAL_ERRORS):
        return None
    if not np.isfinite(found).all():
        return None
    known = np.column_stack([cells, np.ones(len(cells))])
    fit = np.linalg.lstsq(known, found.T, rcond=None)[0]
    off = np.abs(known @ fit - found.T).max() / np.hypot(*fit[0])
    return tuple(float(value) for value in fit.T.reshape(-1)) if off <= max(rows, columns) / 100 else None


def cell_metres(affine: Affine, shape: tuple[int, int], crs: CRS) -> tuple[float, float] | None:
    """Return a cell's extent (y, x) in metres.

    Geographic CRS: at the scene's centre, by the ellipsoid's radii of curvature in the meridian and the prime
    vertical (Snyder 1987, Map Projections, eq. 4-20 and 4-19 onwards). Projected CRS: by its linear unit, unless the
    projection stretches the ground at the scene's centre by more than 2 % (Web Mercator: by 1 / cos of latitude);
    then by the ground itself. None where the CRS is neither (a local one).
    """
    rows, columns = shape
    x, y = _apply(affine, (columns / 2, rows / 2))
    if crs.is_geographic:
        to_degrees = math.degrees(float(crs.units_factor[1]))
        per_x, per_y = _degree_metres(y * to_degrees, crs)
        return (
            math.hypot(affine.b * to_degrees * per_x, affine.e * to_degrees * per_y),
            math.hypot(affine.a * to_degrees * per_x, affine.d * to_degrees * per_y),
        )
    if not crs.is_projected:
        return None
    unit = float(crs.linear_units_factor[1])
    nominal = (math.hypot(affine.b, affine.e) * unit, math.hypot(affine.a, affine.d) * unit)
    ground = _ground(affine, (x, y), crs)
    if ground is None or all(abs(g / n - 1) <= _DISTORTION for g, n in zip(ground, nominal, strict=True)):
        return nominal
    return ground


def _ground(affine: Affine, centre: tuple[float, float], crs: CRS) -> tuple[float, float] | None:
    """Measure a cell at the centre on the ellipsoid; None where the projection cannot be undone there."""
    x, y = centre
    try:
        lon, lat = transform(crs, _LONGLAT, [x, x + affine.b, x + affine.a], [y, y + affine.e, y + affine.d])
    except (CRSError, *GDAL_ERRORS, ValueError):
        return None
    if not all(map(math.isfinite, (*lon, *lat))):
        return None
    per_x, per_y = _degree_metres(lat[0], _LONGLAT)
    down, right = (math.hypot(((lon[i] - lon[0] + 180) % 360 - 180) * per_x, (lat[i] - lat[0]) * per_y) for i in (1, 2))
    return (down, right) if down > 0 and right > 0 else None


def _degree_metres(latitude: float, crs: CRS) -> tuple[float, float]:
    """Return the metres of one degree of longitude and of latitude, on the CRS's own ellipsoid."""
    match = re.search(r'(?:SPHEROID|ELLIPSOID)\["[^"]*",\s*([\d.eE+]+),\s*([\d.eE+]+)', crs.to_wkt())
    radius, inverse = (float(match[1]), float(match[2])) if match else _WGS84
    flattening = 1.0 / inverse if inverse else 0.0
    squared = flattening * (2.0 - flattening)
    phi = math.radians(max(-90.0, min(90.0, latitude)))
    root = math.sqrt(1.0 - squared * math.sin(phi) ** 2)
    meridian, vertical = radius * (1.0 - squared) / root**3, radius / root
    return math.radians(1.0) * vertical * max(math.cos(phi), 1e-9), math.radians(1.0) * meridian


def compare_rasters(one: Grid, two: Grid, mine: str = "the input", theirs: str = "the reference") -> str | None:
    """Check that two rasters lie cell for cell on each other.

    Shape and transform must agree. A CRS that is only spelt otherwise, or another datum's version of the same
    projection, is accepted with a notice; another kind or unit of CRS is refused, since equal numbers then mean
    other places.

    Returns:
        A notice to show, or None where nothing is to be said.

    Raises:
        GridMismatchError: shape, transform, or the kind or unit of the CRS differ.
    """
    one.require_same_place(two, mine, theirs)
    if (one.affine is None) != (two.affine is None):
        which, other = (theirs, mine) if two.affine is None else (mine, theirs)
        return f"{which} has no georeference: taken to lie cell for cell on {other}"
    if one.crs == two.crs:
        return None
    if one.crs is None or two.crs is None:
        which, other = (theirs, mine) if two.crs is None else (mine, theirs)
        return f"{which} has no CRS: taken to be that of {other}"
    first, second = CRS.from_wkt(one.crs), CRS.from_wkt(two.crs)
    if first == second and _title(first) == _title(second):
        return None
    if _kind(first) != _kind(second):
        raise GridMismatchError(
            f"{theirs} is in {_title(second)}, {mine} in {_title(first)}",
            "both in one CRS: the same kind and the same unit",
            "reproject one onto the other's grid (gdalwarp), or correct the CRS with gdal_edit.py -a_srs",
        )
    return f"{theirs} names its CRS {_title(second)}, {mine} {_title(first)}; the transforms agree, so it is accepted"


def bbox_window(grid: Grid, bbox: tuple[float, float, float, float]) -> Box:
    """Return the cells that a box of the world touches.

    Args:
        grid: the raster's grid.
        bbox: xmin, ymin, xmax, ymax in the raster's CRS.

    Raises:
        RecipeError: the raster has no georeference, the box is empty, or it lies outside the raster.
    """
    low_x, low_y, high_x, high_y = bbox
    if grid.affine is None:
        raise RecipeError("--bbox on a raster without georeference", "a georeferenced raster", "use --window x,y,w,h")
    if not (low_x < high_x and low_y < high_y):
        raise RecipeError(f"the box {bbox} is empty", "xmin,ymin,xmax,ymax with min < max", "swap the numbers")
    back = ~Affine(*grid.affine)
    corners = [_apply(back, corner) for corner in ((low_x, low_y), (low_x, high_y), (high_x, low_y), (high_x, high_y))]
    rows, columns = grid.shape
    hair = 1e-6
    left, right = min(c for c, _ in corners), max(c for c, _ in corners)
    top, bottom = min(r for _, r in corners), max(r for _, r in corners)
    start = (max(0, math.floor(top + hair)), max(0, math.floor(left + hair)))
    stop = (min(rows, math.ceil(bottom - hair)), min(columns, math.ceil(right - hair)))
    if start[0] >= stop[0] or start[1] >= stop[1]:
        world = [_apply(Affine(*grid.affine), corner) for corner in ((0, 0), (0, rows), (columns, 0), (columns, rows))]
        xs, ys = [x for x, _ in world], [y for _, y in world]
        raise RecipeError(
            f"the box {bbox} lies outside the raster",
            f"a box within {min(xs):.8g},{min(ys):.8g},{max(xs):.8g},{max(ys):.8g}",
            "give it in the raster's CRS",
        )
    return Box(start, stop)


def _apply(affine: Affine, point: tuple[float, float]) -> tuple[float, float]:
    """Transform a point (affine 2 and 3 disagree on the operator)."""
    x, y = point
    return affine.a * x + affine.b * y + affine.c, affine.d * x + affine.e * y + affine.f


def _kind(crs: CRS) -> tuple[bool, bool, float]:
    return crs.is_geographic, crs.is_projected, round(float(crs.units_factor[1]), 9)


def _title(crs: CRS) -> str:
    match = re.match(r'\w+\["([^"]*)"', crs.to_wkt())
    code = crs.to_epsg()
    return f"{match[1] if match else 'an unnamed CRS'}" + (f" (EPSG:{code})" if code else "")
