"""Polygons of real label maps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import rasterio.features
import shapely

from segflow.io.exports.polygons import Polygons
from segflow.io.gdalenv import no_georeference_is_fine
from segflow.models.card import LabelClass
from tests.segflow.io.vectors.making import comparable, theirs
from tests.segflow.io.vectors.scenes import publish

pytestmark = pytest.mark.real


def test_land_cover_of_north_carolina_is_that_of_gdal_with_its_area(tmp_path: Path, shared_data: Path) -> None:
    with rasterio.open(shared_data / "landsat-nc" / "landclass96_full_7class.tif") as file:
        values = np.nan_to_num(file.read(1), nan=255).astype(np.uint8)
        published = publish(tmp_path, np.where(values > 7, 255, values), crs=file.crs, transform=file.transform)
        inverse = ~file.transform
    classes = tuple(LabelClass(id=number, name=f"class {number}", colour="#225588") for number in range(8))
    published = replace(published, card=published.card.model_copy(update={"classes": classes}))
    Polygons(("gpkg",)).write(published)
    frame = geopandas.read_file(tmp_path / "scene.gpkg")
    assert frame.is_valid.all()
    to_cells = [inverse.a, inverse.b, inverse.d, inverse.e, inverse.xoff, inverse.yoff]
    cells = shapely.set_precision(frame.geometry.affine_transform(to_cells).to_numpy(), 1.0)
    valid = np.where(values > 7, 255, values)
    found = list(zip(frame["class_id"].tolist(), cells, strict=True))
    assert comparable(found) == comparable(theirs(valid, 4, valid != 255))
    assert frame["area_m2"].sum() == pytest.approx((valid != 255).sum() * 28.5**2, rel=1e-3)


def test_streets_of_dubai_come_back_from_polygons_in_pixel_coordinates(tmp_path: Path, shared_data: Path) -> None:
    with no_georeference_is_fine(), rasterio.open(shared_data / "aerial-dubai" / "mosaic" / "tile7_label.tif") as file:
        values = file.read(1, window=rasterio.windows.Window(1500, 1500, 1600, 1600))
    published = publish(tmp_path, values, crs=None, transform=None)
    classes = tuple(LabelClass(id=number, name=f"class {number}", colour="#225588") for number in range(6))
    published = replace(published, card=published.card.model_copy(update={"classes": classes}))
    exporter = Polygons(("parquet",), connectivity=8)
    exporter.require(published)
    exporter.write(published)
    frame = geopandas.read_parquet(tmp_path / "scene.parquet")
    assert frame.is_valid.all()
    shapes = shapely.transform(frame.geometry.to_numpy(), lambda xy: xy * (1, -1))
    burnt = rasterio.features.rasterize(
        zip(shapes, frame["class_id"], strict=True), out_shape=values.shape, fill=255, dtype="uint8"
    )
    np.testing.assert_array_equal(burnt, values)
