"""Areas of interest: polygons of a vector file, burnt into any box of a raster.

A cell is inside when its centre is (even-odd rule on the union of all polygons). Crossings are computed in the cells of
the whole raster, never in those of the box, so the answer for a cell is the same whatever box asks for it.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform_geom

from segflow.errors import InputError
from segflow.grid import Grid
from tiling.box import Box

_LOG = logging.getLogger(__name__)
_PIECES = 256


@dataclass(frozen=True, slots=True)
class Aoi:
    """Edges of polygons in cells of the raster: column and row, the origin at the corner of the first cell.

    Attributes:
        edges: (edge, 4) float64: x, y of the upper end, x, y of the lower end; none is horizontal.
    """

    edges: NDArray[np.float64]

    def identity(self) -> str:
        """Return the sha256 of the edges, whatever their order: of the polygons as they are used on this raster.

        So a file counts with all that changes where its polygons lie (.prj, a folder's parts), and with nothing else.
        """
        edges = self.edges + 0.0  # -0.0 is 0.0
        return hashlib.sha256(np.ascontiguousarray(edges[np.lexsort(edges.T)], "<f8").tobytes()).hexdigest()

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Tell which cells of a box have their centre inside: (y, x) bool."""
        (top, left), (bottom, right) = box.start, box.stop
        height, width = box.shape
        x0, y0, x1, y1 = self.edges.T
        near = (y1 > top) & (y0 < bottom)
        x0, y0, x1, y1 = x0[near], y0[near], x1[near], y1[near]
        first = np.clip(np.ceil(y0 - 0.5), top, bottom).astype(np.int64)
        count = np.clip(np.ceil(y1 - 0.5), top, bottom).astype(np.int64) - first
        edge = np.repeat(np.arange(count.size), count)
        row = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (x1 - x0) / (y1 - y0)
        x = x0[edge] + (row + 0.5 - y0[edge]) * slope[edge]
        column = np.clip(np.ceil(x - 0.5), left, right).astype(np.int64)
        toggles = np.zeros((height, width + 1), dtype=np.uint8)
        np.bitwise_xor.at(toggles, (row - top, column - left), np.uint8(1))
        return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].view(np.bool_)


def aoi_of(polygons: Any, grid: Grid) -> Aoi:
    """Take a shapely geometry in the raster's world (or in cells, where the raster has no georeference)."""
    back = ~Affine(*grid.affine) if grid.affine is not None else Affine.identity()
    shape = shapely.union_all(shapely.make_valid(shapely.get_parts(polygons)))
    rings = [ring for part in polygons_in(shape) for ring in (part.exterior, *part.interiors)]
    pieces = [np.zeros((0, 4))]
    for ring in rings:
        x, y = shapely.get_coordinates(ring).T
        columns, rows = back.a * x + back.b * y + back.c, back.d * x + back.e * y + back.f
        pieces.append(np.stack([columns[:-1], rows[:-1], columns[1:], rows[1:]], axis=1))
    edges = np.concatenate(pieces)
    edges = np.where((edges[:, 1] > edges[:, 3])[:, None], edges[:, [2, 3, 0, 1]], edges)
    return Aoi(np.ascontiguousarray(edges[edges[:, 1] < edges[:, 3]]))


def read_aoi(path: str, grid: Grid, raster: str) -> Aoi:
    """Read the polygons of a vector file (GeoJSON, GeoPackage, Shapefile, FlatGeobuf, ...) onto a raster's grid.

    All layers and features count. Where the CRS differ, the polygons are put into the raster's, long edges in
    pieces; where the file or the raster has none, coordinates are taken as they are, with a notice.

    Raises:
        InputError: the file is missing or no vector file, holds no polygon, or lies beside the raster.
    """
    # pyogrio brings pandas along, where that is installed: a second that only those should wait who have an area.
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    polygons = []
    try:
        for layer, _ in pyogrio.list_layers(path):
            meta, _, shapes, _ = pyogrio.raw.read(path, layer=layer, columns=[], force_2d=True)
            polygons += put_on_grid(polygons_in(shapely.from_wkb(shapes)), meta["crs"], grid, path)
    except (DataSourceError, DataLayerError, shapely.errors.GEOSException, CRSError) as error:
        raise InputError(
            f"the area of interest {path} cannot be read: {error}",
            "a vector file with polygons, such as GeoJSON or GeoPackage",
            "check the path and the file; drop inputs.aoi to take the whole raster",
        ) from error
    if not polygons:
        raise InputError(
            f"the area of interest {path} holds no polygon",
            "polygons; lines and points enclose nothing",
            "draw polygons, or buffer what is there",
        )
    area = aoi_of(shapely.multipolygons(polygons) if len(polygons) > 1 else polygons[0], grid)
    rows, columns = grid.shape
    x, y = area.edges[:, [0, 2]], area.edges[:, [1, 3]]
    if not area.edges.size or x.max() <= 0 or y.max() <= 0 or x.min() >= columns or y.min() >= rows:
        raise InputError(
            f"the area of interest {path} does not touch the raster {raster}",
            "polygons over the raster",
            "check the CRS of both files; GeoJSON is longitude, latitude in WGS 84",
        )
    return area


def put_on_grid(polygons: list[Any], crs: str | None, grid: Grid, path: str) -> list[Any]:
    """Put polygons into the raster's CRS."""
    if crs is None or grid.crs is None:
        if polygons and (crs is None) != (grid.crs is None):
            which = f"{path} has" if crs is None else "the raster has"
            _LOG.warning("%s no CRS: coordinates of the area of interest are taken as the raster's own", which)
        return polygons
    theirs, ours = CRS.from_user_input(crs), CRS.from_wkt(grid.crs)
    if theirs == ours:
        return polygons
    moved = []
    for polygon in polygons:
        low_x, low_y, high_x, high_y = polygon.bounds
        fine = shapely.segmentize(polygon, max(high_x - low_x, high_y - low_y) / _PIECES)
        moved.append(shapely.geometry.shape(transform_geom(theirs, ours, shapely.geometry.mapping(fine))))
    return moved


def polygons_in(shapes: Any) -> list[Any]:
    """Take geometries apart down to their polygons."""
    parts = shapely.get_parts(shapely.get_parts(np.atleast_1d(shapes)))
    return [part for part in parts if part is not None and part.geom_type == "Polygon" and not part.is_empty]
