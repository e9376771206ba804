"""`outputs.coverage`: nodata, low context, predicted; context is the scene's, not the window's or the sheet's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate
from scipy.ndimage import binary_erosion

from pipelines import run
from pipelines.planning.scenes import Selection
from segflow.io.exports import coverage
from segflow.io.rat import read_classes
from tests.making import make_model, write_raster
from tests.pipelines.test_mosaic import cut, recipe_of, require_windows_of


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hole = (slice(80, 130), slice(60, 140))
    return write_raster(tmp_path_factory.mktemp("raster") / "scene.tif", hole=hole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, raster: Path, model: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    recipe = recipe_of(folder, raster, model, mosaic=False, outputs={"coverage": True}, tiling={"overlap": "16px"})
    assert run(recipe).exit_code == 0
    return folder


def band(path: Path) -> np.ndarray:
    with rasterio.open(path) as file:
        return np.asarray(file.read(1))


def test_low_context_is_what_lies_within_half_the_overlap_of_a_border_or_a_hole(whole: Path) -> None:
    valid = band(whole / "scene_labels.tif") != 255
    inner = binary_erosion(valid, np.ones((17, 17), bool), border_value=0)
    np.testing.assert_array_equal(band(whole / "scene_coverage.tif"), np.where(valid, np.where(inner, 2, 1), 0))


def test_it_does_not_depend_on_the_columns_that_are_worked_on_at_once(
    tmp_path: Path, raster: Path, model: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "_COLUMNS", 37)
    run(recipe_of(tmp_path, raster, model, False, outputs={"coverage": True}, tiling={"overlap": "16px"}))
    name = "scene_coverage.tif"
    assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_it_is_a_cloud_optimised_geotiff_with_colours_and_names(whole: Path) -> None:
    path = whole / "scene_coverage.tif"
    assert cog_validate(path, quiet=True) == (True, [], [])
    with rasterio.open(path) as file:
        assert file.nodata == 0
        assert file.colormap(1)[1][:3] == (0xE6, 0x9F, 0x00)
        assert file.descriptions == ("coverage",)
    assert [(item.id, item.name) for item in read_classes(path)] == [(1, "low context"), (2, "predicted")]


def test_a_window_and_an_area_of_interest_take_their_context_from_outside(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    parts = {"outputs": {"coverage": True}, "tiling": {"overlap": "16px"}}
    run(recipe_of(tmp_path / "look", raster, model, False, **parts), Selection(window=(30, 40, 70, 60)))
    expected = band(whole / "scene_coverage.tif")
    np.testing.assert_array_equal(band(tmp_path / "look" / "scene_coverage.tif"), expected[40:100, 30:100])
    x, y = 500_000 + 0.5 * 100, 5_400_000 - 0.5 * 150
    ring = [[x, y], [x + 40, y], [x + 40, y - 40], [x, y - 40], [x, y]]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32633"}}
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}}
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": [feature]}))
    run(recipe_of(tmp_path / "area", raster, model, False, inputs={"aoi": str(area)}, **parts))
    found = band(tmp_path / "area" / "scene_coverage.tif")
    inside = band(tmp_path / "area" / "scene_labels.tif") != 255
    assert inside.sum() == 80 * 80
    np.testing.assert_array_equal(found[inside], expected[inside])
    assert (found[~inside] == 0).all()


def test_a_sheet_of_a_mosaic_has_no_low_context_along_its_neighbours(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    sheets = cut(raster, tmp_path / "sheets")
    run(recipe_of(tmp_path / "out", sheets, model, outputs={"coverage": True}, tiling={"overlap": "16px"}))
    require_windows_of(whole / "scene", tmp_path / "out", sheets, ("labels", "coverage"))


def test_where_the_overlap_is_measured_the_margin_is_what_the_network_sees(tmp_path: Path, raster: Path) -> None:
    model = make_model(tmp_path / "model", arguments={"width": 2, "depth": 1}, stride=2)
    recipe = recipe_of(
        tmp_path, raster, model, False, outputs={"coverage": True}, tiling={"overlap": "auto", "tolerance": 0}
    )
    report = run(recipe).report.scenes[0].report
    assert report is not None
    auto = report.run.tiling.auto
    assert auto is not None
    assert auto.reach is not None
    side = 2 * auto.reach + 1
    valid = band(tmp_path / "scene_labels.tif") != 255
    inner = binary_erosion(valid, np.ones((side, side), bool), border_value=0)
    np.testing.assert_array_equal(band(tmp_path / "scene_coverage.tif") == 2, inner)
