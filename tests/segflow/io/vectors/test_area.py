"""Claims about areas in square metres; the oracle is geodesic: GeographicLib in `pyproj.Geod`."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from segflow.errors import OutputError
from segflow.io.vectors.area import cell_areas
from segflow.io.vectors.rings import Rings

Affine = tuple[float, ...]
SCENES: dict[str, tuple[str, Affine, tuple[int, int]]] = {
    "UTM": ("EPSG:32633", (0.5, 0, 500000, 0, -0.5, 5400000), (30000, 30000)),
    "UTM, far from its meridian": ("EPSG:32633", (10, 0, 100000, 0, -10, 7400000), (12000, 9000)),
    "UTM, across the antimeridian": ("EPSG:32601", (10, 0, 300000, 0, -10, 5400000), (10980, 10980)),
    "rotated": ("EPSG:32633", (0.4, 0.3, 500000, 0.3, -0.4, 5400000), (30000, 30000)),
    "degrees": ("EPSG:4326", (0.0001, 0, 10, 0, -0.0001, 60), (20000, 30000)),
    "the world in degrees": ("EPSG:4326", (0.1, 0, -180, 0, -0.1, 90), (1800, 3600)),
    "Web Mercator": ("EPSG:3857", (10, 0, 1e6, 0, -10, 6e6), (10000, 10000)),
    "feet": ("EPSG:2264", (3, 0, 2e6, 0, -3, 7e5), (10000, 10000)),
    "around the pole": ("EPSG:3413", (1000, 0, -3e6, 0, -1000, 3e6), (6000, 6000)),
    "with heights": ("EPSG:32633+5773", (1, 0, 500000, 0, -1, 5400000), (5000, 5000)),
}


def ring(points: list[tuple[float, float]], shape: tuple[int, int]) -> Rings:
    placed = np.rint(np.array(points) * shape[::-1]).astype(np.int32)
    return table(placed, len(placed))


def table(points: NDArray[np.int32], size: int) -> Rings:
    """Rings of so many points each."""
    starts = np.arange(0, len(points) + 1, size)
    return Rings(points, starts, np.arange(len(starts) - 1), np.zeros(len(starts) - 1, bool))


def geodesic(name: str, points: NDArray[np.float64]) -> float:
    """The area of a polygon with edges straight in the CRS, by a geodesic one with many more corners."""
    code, (a, b, c, d, e, f), _ = SCENES[name]
    crs = CRS.from_user_input(code)
    far = np.roll(points, -1, axis=0)
    edges = zip(points, far, strict=True)
    dense = np.concatenate([np.linspace(here, there, 3000, endpoint=False) for here, there in edges])
    x, y = dense.T
    flat = crs.sub_crs_list[0] if crs.is_compound else crs
    to_degrees = Transformer.from_crs(flat, flat.geodetic_crs, always_xy=True)
    lon, lat = to_degrees.transform(a * x + b * y + c, d * x + e * y + f)
    return abs(float(crs.get_geod().polygon_area_perimeter(lon, lat)[0]))


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize(
    "points",
    [
        [(0.01, 0.01), (0.48, 0.01), (0.48, 0.99), (0.01, 0.99)],
        [(0.2, 0.1), (0.7, 0.3), (0.9, 0.8), (0.5, 0.6), (0.1, 0.9)],
        [(0.31, 0.12), (0.34, 0.12), (0.34, 0.15)],
    ],
)
def test_areas_are_geodesic_ones(name: str, points: list[tuple[float, float]]) -> None:
    code, affine, shape = SCENES[name]
    cells = cell_areas(CRS.from_user_input(code).to_wkt(), affine, shape)
    assert cells is not None
    placed = ring(points, shape)
    assert cells.of_rings(placed)[0] == pytest.approx(geodesic(name, placed.points.astype(float)), rel=1e-6)
    other_way = table(placed.points[::-1].copy(), len(points))
    assert cells.of_rings(other_way)[0] == pytest.approx(-cells.of_rings(placed)[0])


def test_a_single_cell_has_its_share_of_the_whole() -> None:
    code, affine, shape = SCENES["degrees"]
    cells = cell_areas(CRS.from_user_input(code).to_wkt(), affine, shape)
    assert cells is not None
    columns = np.arange(0, 30000, 3000)
    squares = np.concatenate([[(x, 9), (x + 1, 9), (x + 1, 10), (x, 10)] for x in columns]).astype(np.int32)
    areas = cells.of_rings(table(squares, 4))
    assert areas == pytest.approx(areas[0], rel=1e-9)
    strip = np.array([(0, 9), (30000, 9), (30000, 10), (0, 10)], np.int32)
    whole = cells.of_rings(table(strip, 4))[0]
    assert 30000 * areas[0] == pytest.approx(whole, rel=1e-9)


def test_a_local_crs_has_no_known_areas() -> None:
    local = 'LOCAL_CS["site",UNIT["metre",1]]'
    assert cell_areas(CRS.from_wkt(local).to_wkt(), (1, 0, 0, 0, -1, 0), (10, 10)) is None


def test_a_raster_that_lies_outside_of_what_its_crs_can_do_is_refused() -> None:
    with pytest.raises(OutputError, match="gdalwarp"):
        cell_areas(CRS.from_epsg(4326).to_wkt(), (0.1, 0, -180, 0, -0.1, 190), (3000, 3600))
