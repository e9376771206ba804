"""Named polygons of a vector file on the grid of a raster: what is scored one by one."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.errors import CRSError

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.aoi import Aoi, aoi_of, polygons_in, put_on_grid
from tiling.box import Box

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class NamedArea:
    """The polygons of one name.

    Attributes:
        name: as the file has it.
        area: their edges, in cells of the raster.
        bounds: a box that holds all of it on the raster; None where it lies beside.
    """

    name: str
    area: Aoi
    bounds: Box | None

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Tell which cells of a box have their centre inside: (y, x) bool."""
        return self.area.inside(box)


def read_regions(path: str, field: str, grid: Grid) -> tuple[NamedArea, ...]:
    """Read the polygons of a vector file, by name, onto a raster's grid. Features of one name are one region.

    A feature without a name is called after its number. CRS are treated as those of an area of interest.

    Raises:
        InputError: the file is missing or no vector file, has no such field, holds no polygon or too many regions.
    """
    named: dict[str, list[Any]] = {}
    for number, (name, shapes) in enumerate(_features(path, field, grid), 1):
        named.setdefault(name or f"feature {number}", []).extend(shapes)
    found = {name: shapes for name, shapes in named.items() if shapes}
    if not found or len(found) > _MOST:
        raise InputError(
            f"{path} holds {len(found)} regions",
            f"1 to {_MOST:,} named polygons",
            "draw polygons, or dissolve what belongs together; correct report.regions",
        )
    return tuple(_area(name, shapes, grid) for name, shapes in found.items())


def _features(path: str, field: str, grid: Grid) -> list[tuple[str, list[Any]]]:
    import pyogrio
    from pyogrio.errors import DataLayerError, DataSourceError

    found = []
    try:
        for layer, _ in pyogrio.list_layers(path):
            fields = list(pyogrio.read_info(path, layer=layer)["fields"])
            if field not in fields:
                raise InputError(
                    f"{path} has no field {field!r}",
                    f"a field that names its polygons; it has {', '.join(fields) or 'none'}",
                    "set report.region_name to one of them",
                )
            meta, _, shapes, values = pyogrio.raw.read(path, layer=layer, columns=[field], force_2d=True)
            for shape, value in zip(shapes, values[0], strict=True):
                polygons = polygons_in(shapely.from_wkb(shape))
                name = "" if value is None else str(value).strip()
                found.append((name, put_on_grid(polygons, meta["crs"], grid, path)))
    except (DataSourceError, DataLayerError, shapely.errors.GEOSException, CRSError) as error:
        raise InputError(
            f"the regions {path} cannot be read: {error}",
            "a vector file with named polygons, such as GeoJSON or GeoPackage",
            "check the path and the file; drop report.regions to score the whole only",
        ) from error
    return found


def _area(name: str, shapes: list[Any], grid: Grid) -> NamedArea:
    area = aoi_of(shapely.multipolygons(shapes) if len(shapes) > 1 else shapes[0], grid)
    if not area.edges.size:
        return NamedArea(name, area, None)
    x, y = area.edges[:, [0, 2]], area.edges[:, [1, 3]]
    (low_y, high_y), (low_x, high_x) = ((floor(v.min()), ceil(v.max())) for v in (y, x))
    if high_x <= low_x or high_y <= low_y:
        return NamedArea(name, area, None)
    return NamedArea(name, area, Box((low_y, low_x), (high_y, high_x)).intersect(Box.whole(grid.shape)))
