"""Named polygons: features of one name are one region, and what lies beside the raster has no cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rasterio.features import geometry_mask
from rasterio.transform import Affine

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.regions import read_regions
from tiling import Box

GRID = Grid("raster", (40, 50), affine=(1.0, 0.0, 0.0, 0.0, -1.0, 40.0))


def ring(left: float, low: float, right: float, high: float) -> dict[str, Any]:
    corners = [[left, low], [right, low], [right, high], [left, high], [left, low]]
    return {"type": "Polygon", "coordinates": [corners]}


def write(path: Path, *features: tuple[str | None, dict[str, Any]]) -> str:
    items = [{"type": "Feature", "properties": {"name": name}, "geometry": shape} for name, shape in features]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return str(path)


def test_a_region_holds_the_cells_that_rasterio_burns(tmp_path: Path) -> None:
    one, two = ring(3.2, 4.1, 20.7, 18.4), ring(30.1, 30.2, 45.3, 39.1)
    (found,) = read_regions(write(tmp_path / "a.geojson", ("park", one), ("park", two)), "name", GRID)
    theirs = geometry_mask([one, two], GRID.shape, Affine(*(GRID.affine or ())), invert=True)
    assert np.array_equal(found.inside(Box.whole(GRID.shape)), theirs)
    assert found.bounds is not None
    assert theirs[found.bounds.slices].sum() == theirs.sum()


def test_a_region_beside_the_raster_has_no_cells_and_one_without_a_name_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", ("far", ring(500, 500, 510, 510)), (None, ring(1, 1, 5, 5)))
    far, nameless = read_regions(path, "name", GRID)
    assert (far.name, far.bounds) == ("far", None)
    assert nameless.name == "feature 2"


def test_a_file_without_polygons_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", ("spot", {"type": "Point", "coordinates": [1, 1]}))
    with pytest.raises(InputError, match="0 regions"):
        read_regions(path, "name", GRID)
