"""Claims about the files of polygons, as their readers open them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pyogrio
import pytest
import rasterio
import rasterio.features
import shapely
from numpy.typing import NDArray
from pyproj import CRS
from rasterio.transform import Affine

from segflow.errors import OutputError
from segflow.io.exports.polygons import Polygons
from segflow.io.vectors import make, table
from segflow.io.vectors.files import FORMATS
from tests.segflow.io.vectors.scenes import NAMES, ROTATED, labels, publish

COLUMNS = ["class_id", "class_name", "area_m2", "confidence"]


@pytest.fixture(autouse=True)
def many_strips_and_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small scenes have several of each."""
    monkeypatch.setattr(make, "_STRIP_CELLS", 1)
    monkeypatch.setattr(table, "_BATCH_ROWS", 20)


def write(published: Any, *to: str, **options: Any) -> tuple[Path, ...]:
    exporter = Polygons(to, **options)
    exporter.require(published)
    exporter.write(published)
    return exporter.files(published.scene, published.folder)


def opened(path: Path) -> geopandas.GeoDataFrame:
    return geopandas.read_parquet(path) if path.suffix == ".parquet" else geopandas.read_file(path)


def burnt(frame: geopandas.GeoDataFrame, published: Any) -> NDArray[np.uint8]:
    with rasterio.open(published.labels) as file:
        pairs = zip(frame.geometry, frame["class_id"], strict=True)
        found: NDArray[np.uint8] = rasterio.features.rasterize(
            pairs, out_shape=file.shape, transform=file.transform, fill=255, dtype="uint8"
        )
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_label_map_back_with_names_areas_and_confidence(tmp_path: Path, form: str) -> None:
    values = labels()
    confidence = np.random.default_rng(0).integers(1, 256, values.shape).astype(np.uint8)
    published = publish(tmp_path, values, confidence=confidence)
    (path,) = write(published, form)
    frame = opened(path)
    assert [name for name in frame.columns if name not in ("geometry", "bbox")] == COLUMNS
    assert frame.crs == CRS.from_epsg(4326 if form == "geojson" else 32633)
    flat = frame.to_crs(32633)
    assert frame.is_valid.all()
    assert set(frame.geom_type) == {"Polygon"}
    np.testing.assert_array_equal(burnt(flat, published), values)
    assert [NAMES[number] for number in frame["class_id"]] == frame["class_name"].tolist()
    if form != "geojson":  # whose coordinates are rounded to a centimetre
        earth = CRS.from_epsg(4326).get_geod()
        geodesic = [abs(earth.geometry_area_perimeter(item)[0]) for item in frame.to_crs(4326).geometry]
        np.testing.assert_allclose(frame["area_m2"], geodesic, rtol=1e-6, atol=1e-5)
    for item, mean in zip(flat.geometry, frame["confidence"], strict=True):
        with rasterio.open(published.labels) as file:
            inside = rasterio.features.rasterize([item], out_shape=values.shape, transform=file.transform) > 0
        assert mean == pytest.approx(confidence[inside].mean() / 255, abs=1e-4)


def test_all_formats_hold_the_same_polygons(tmp_path: Path) -> None:
    frames = [opened(path) for path in write(publish(tmp_path, labels()), "gpkg", "parquet", "fgb")]
    shapes = [sorted(shapely.to_wkb(frame.geometry.to_numpy())) for frame in frames]
    assert shapes[0] == shapes[1] == shapes[2]
    assert all(frame["confidence"].isna().all() for frame in frames)
    assert sorted(item.name for item in tmp_path.iterdir()) == [
        "scene.fgb",
        "scene.gpkg",
        "scene.parquet",
        "scene_labels.tif",
    ]


def test_a_rotated_raster_has_rotated_polygons(tmp_path: Path) -> None:
    values = labels()
    published = publish(tmp_path, values, transform=ROTATED)
    frame = opened(write(published, "gpkg")[0])
    np.testing.assert_array_equal(burnt(frame, published), values)
    assert frame["area_m2"].sum() == pytest.approx((values != 255).sum() * 0.25, rel=1e-3)


def test_outer_rings_run_counter_clockwise(tmp_path: Path) -> None:
    published = publish(tmp_path, labels())
    for path in write(published, "parquet", "geojson"):
        frame = opened(path)
        assert all(item.exterior.is_ccw for item in frame.geometry)
        assert not any(hole.is_ccw for item in frame.geometry for hole in item.interiors)


def test_geoparquet_says_where_it_lies_and_readers_skip_row_groups_by_it(tmp_path: Path) -> None:
    published = publish(tmp_path, labels())
    (path,) = write(published, "parquet")
    file = pq.ParquetFile(path)
    geo = json.loads(file.schema_arrow.metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    frame = opened(path)
    assert (geo["version"], column["encoding"], column["geometry_types"]) == ("1.1.0", "WKB", ["Polygon"])
    assert CRS.from_json_dict(column["crs"]) == CRS.from_epsg(32633)
    assert column["bbox"] == pytest.approx(frame.total_bounds)
    assert file.num_row_groups > 2
    told = {
        column["path_in_schema"]
        for column in file.metadata.row_group(0).to_dict()["columns"]
        if column["statistics"] is not None
    }
    assert {"bbox.xmin", "bbox.ymax", "class_id"} <= told
    assert "geometry" not in told
    x, y = frame.total_bounds[0], frame.total_bounds[3]
    some = geopandas.read_parquet(path, bbox=(x, y - 10, x + 20, y))
    box = shapely.box(x, y - 10, x + 20, y)
    inside = shapely.box(*frame.bounds.to_numpy().T).astype(object)
    assert 0 < len(some) == int(shapely.intersects(inside, box).sum()) < len(frame)


def test_geopackage_and_flatgeobuf_have_a_spatial_index(tmp_path: Path) -> None:
    published = publish(tmp_path, labels())
    for path in write(published, "gpkg", "fgb"):
        assert pyogrio.read_info(path)["capabilities"]["fast_spatial_filter"]


def test_geojson_is_in_longitude_and_latitude(tmp_path: Path) -> None:
    (path,) = write(publish(tmp_path, labels()), "geojson")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert "crs" not in data
    lon, lat = data["features"][0]["geometry"]["coordinates"][0][0]
    assert (lon, lat) == pytest.approx((15, 48.75), abs=0.1)


def test_options_change_what_is_written(tmp_path: Path) -> None:
    values = labels()
    published = publish(tmp_path, values)
    every = opened(write(published, "fgb")[0])
    large = opened(write(published, "fgb", min_area=20.0)[0])
    assert large["area_m2"].min() >= 20
    assert len(large) == (every["area_m2"] >= 20).sum()
    roofs = opened(write(published, "fgb", classes=("café & roof", 3))[0])
    assert set(roofs["class_id"]) == {1, 3}
    many = opened(write(published, "fgb", connectivity=8)[0])
    assert set(many.geom_type) == {"MultiPolygon"}
    assert len(many) <= len(every)
    simple = opened(write(published, "fgb", simplify=1.0)[0])
    assert (
        shapely.get_num_coordinates(simple.geometry.to_numpy()).sum()
        < 0.6 * shapely.get_num_coordinates(every.geometry.to_numpy()).sum()
    )
    assert shapely.coverage_is_valid(simple.geometry.to_numpy())
    sieved = opened(write(published, "fgb", sieve=40)[0])
    expected = rasterio.features.sieve(values, 40, mask=values != 255)
    np.testing.assert_array_equal(burnt(sieved, published), expected)


def test_without_a_crs_only_formats_that_can_say_so_are_written_in_pixel_coordinates(tmp_path: Path) -> None:
    values = labels()
    published = publish(tmp_path, values, crs=None, transform=None)
    for form in ("gpkg", "geojson", "postgresql://x@h/d#t"):
        with pytest.raises(OutputError, match="no CRS"):
            Polygons((form,)).require(published)
    for path in write(published, "fgb", "parquet"):
        frame = opened(path)
        assert frame.crs is None
        assert frame["area_m2"].isna().all()
        assert frame.total_bounds.tolist() == [0, -180, 140, 0]
        turned = shapely.transform(frame.geometry.to_numpy(), lambda xy: xy * (1, -1))
        pairs = zip(turned, frame["class_id"], strict=True)
        np.testing.assert_array_equal(
            rasterio.features.rasterize(pairs, out_shape=values.shape, fill=255, dtype="uint8"), values
        )


@pytest.mark.parametrize(("options", "words"), [({"min_area": 3.0}, "sieve"), ({"simplify": 3.0}, "metres")])
def test_metres_need_a_raster_of_known_size(tmp_path: Path, options: dict[str, float], words: str) -> None:
    published = publish(tmp_path, labels(), crs=None, transform=None)
    with pytest.raises(OutputError, match=words):
        Polygons(("fgb",), **options).require(published)  # type: ignore[arg-type]


def test_a_class_that_the_model_lacks_is_refused_with_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="2 road"):
        Polygons(("fgb",), classes=("roads",)).require(publish(tmp_path, labels()))


def test_a_map_without_any_polygon_gives_an_empty_layer(tmp_path: Path) -> None:
    published = publish(tmp_path, np.full((40, 30), 255, np.uint8))
    for path in write(published, *FORMATS):
        assert len(opened(path)) == 0


def test_a_polygon_too_large_for_any_format_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "LARGEST_BYTES", 1000)
    published = publish(tmp_path, labels())
    with pytest.raises(OutputError, match=r"polygons\.simplify"):
        Polygons(("fgb",)).write(published)
    assert [item.name for item in tmp_path.iterdir()] == ["scene_labels.tif"]


def test_one_format_that_fails_does_not_keep_the_others_from_being_written(tmp_path: Path) -> None:
    published = publish(tmp_path, labels())
    (tmp_path / "scene.gpkg").mkdir()
    with pytest.raises(OutputError, match=r"scene\.gpkg"):
        Polygons(("gpkg", "fgb", "postgresql://nobody:secret@127.0.0.1:9/none#t")).write(published)
    assert len(opened(tmp_path / "scene.fgb"))


def test_a_plan_tells_what_one_region_may_take_where_nothing_bounds_it(tmp_path: Path) -> None:
    small = publish(tmp_path, labels())
    large = replace(small, grid=replace(small.grid, shape=(8192, 8192)))
    (told,) = Polygons(("gpkg",)).remarks(large)
    assert "polygons.classes" in told
    for quiet in (Polygons(("gpkg",), classes=(1,)), Polygons(("gpkg",), sieve=9)):
        assert not list(quiet.remarks(large))
    assert not list(Polygons(("gpkg",)).remarks(small))


@pytest.mark.parametrize("name", ["gpkg_a", "SQLite_a", "ogr_empty_table", "#5", "a.b 'c' \"d\" |e", "-1", "straße"])
def test_any_name_of_a_scene_gives_a_geopackage(tmp_path: Path, name: str) -> None:
    """GDAL and SQLite keep some names for themselves, and told that the disk may be full."""
    (path,) = write(publish(tmp_path, labels(), scene=name), "gpkg")
    (layer, kind), *others = pyogrio.list_layers(path)
    assert not others
    assert layer.endswith(name)
    assert kind == "Polygon"
    assert len(opened(path))


@pytest.mark.parametrize("mark", ["!", ";"])
def test_a_path_that_would_be_taken_for_another_is_refused(tmp_path: Path, mark: str) -> None:
    for published in (publish(tmp_path, labels(), scene=f"a{mark}b"), publish(tmp_path / f"c{mark}d", labels())):
        with pytest.raises(OutputError, match="archive") as refused:
            write(published, "fgb", "parquet")
        assert "parquet alone" in refused.value.remedy
        assert len(opened(*write(published, "parquet")))


@pytest.mark.parametrize("west", [-180.0, 0.0, -1.25])
def test_a_grid_of_the_whole_world_is_measured_wherever_it_begins(tmp_path: Path, west: float) -> None:
    """Weather's grids go from 0 to 360: their outermost points of measure fell off the projection's end."""
    values = np.zeros((60, 144), np.uint8)
    values[:, 72:] = 1
    world = publish(tmp_path, values, crs="EPSG:4326", transform=Affine(2.5, 0, west, 0, -2.5, 75))
    frame = opened(*write(world, "gpkg"))
    zone = 2 * np.pi * 6371007.2**2 * 2 * np.sin(np.deg2rad(75))  # of a sphere as large as the Earth
    assert frame["area_m2"].sum() == pytest.approx(zone, rel=1e-3)


@pytest.mark.parametrize("west", [359.95, 370.0, -360.05])
def test_longitudes_beyond_a_turn_are_refused_for_geojson_alone(tmp_path: Path, west: float) -> None:
    """GDAL cuts them off without a word: polygons were there, and empty."""
    published = publish(tmp_path, labels(), crs="EPSG:4326", transform=Affine(1e-3, 0, west, 0, -1e-3, 75))
    with pytest.raises(OutputError, match="360"):
        write(published, "geojson")
    assert not opened(*write(published, "gpkg")).is_empty.any()
