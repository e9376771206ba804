"""Claims about which cells are valid."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image
from rasterio.features import geometry_mask
from rasterio.transform import Affine
from scipy import ndimage

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.aoi import aoi_of
from segflow.io.mask import nodata_range
from segflow.io.raster import RasterSpec, open_raster
from tiling.box import Box

WriteRaster = Callable[..., Path]
SHAPE = (12, 15)
LOWEST = -3.4028234663852886e38  # of float32
UTM = Affine(10.0, 0.0, 500000.0, 0.0, -10.0, 5600000.0)


def valid_of(path: Path, **options: Any) -> NDArray[np.bool_]:
    with open_raster(RasterSpec(str(path), **options)) as source:
        return source.read(Box.whole(source.grid.shape)).valid


def few(dtype: str, bands: int = 2) -> st.SearchStrategy[NDArray[Any]]:
    return arrays(np.dtype(dtype), (bands, *SHAPE), elements=st.sampled_from([0, 1, 7]))


FLAGS = arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 255]))


@settings(max_examples=30)
@given(values=few("uint16"), nodata=st.sampled_from([None, 0, 7]))
def test_without_mask_or_alpha_validity_is_gdals_own(
    write_raster: WriteRaster, values: NDArray[Any], nodata: int | None
) -> None:
    path = write_raster(values, nodata=nodata)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(valid_of(path), file.dataset_mask() > 0)


@settings(max_examples=40)
@given(
    values=few("uint8"),
    mask=st.none() | FLAGS,
    alpha=st.none() | FLAGS,
    nodata=st.sampled_from([None, 0, 7, -9999, 0.5, 300]),
    internal=st.booleans(),
)
def test_mask_alpha_and_nodata_all_have_their_say(
    write_raster: WriteRaster,
    values: NDArray[Any],
    mask: NDArray[np.uint8] | None,
    alpha: NDArray[np.uint8] | None,
    nodata: float | None,
    internal: bool,
) -> None:
    env = {"GDAL_TIFF_INTERNAL_MASK": "YES" if internal else "NO"}
    path = write_raster(values, mask=mask, alpha=alpha, env=env)
    truth = np.ones(SHAPE, dtype=np.bool_)
    if mask is not None:
        truth &= mask > 0
    if alpha is not None:
        truth &= alpha > 0
    if nodata is not None:
        truth &= ~(values == nodata).all(axis=0)
    np.testing.assert_array_equal(valid_of(path, nodata=nodata), truth)
    with open_raster(RasterSpec(str(path))) as source:
        assert source.bands == (1, 2)


@settings(max_examples=30)
@given(
    values=arrays(
        np.float32,
        (2, *SHAPE),
        elements=st.sampled_from([0.0, 1.5, -9999.0, math.nan, math.inf, -3.4028234663852886e38]),
    ),
    nodata=st.sampled_from([None, -9999.0, math.nan, LOWEST, -3.40282e38, -1.797693e308, 1e300]),
)
def test_what_is_not_finite_is_never_valid(
    write_raster: WriteRaster, values: NDArray[Any], nodata: float | None
) -> None:
    truth = np.isfinite(values).all(axis=0)
    if nodata == -9999.0:
        truth &= ~(values == -9999.0).all(axis=0)
    elif nodata is not None and nodata < -1e38:
        truth &= ~(values < -3e38).all(axis=0)
    np.testing.assert_array_equal(valid_of(write_raster(values), nodata=nodata), truth)


@pytest.mark.parametrize("nodata", [-9999, 300, 0.5, math.inf, -1e308, math.nan])
def test_a_nodata_value_beyond_the_type_masks_nothing_and_warns_of_nothing(
    write_raster: WriteRaster, nodata: float
) -> None:
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    path = write_raster(values)
    assert valid_of(path, nodata=nodata).all()
    vrt = path.with_suffix(".vrt")
    vrt.write_text(
        f'<VRTDataset rasterXSize="16" rasterYSize="16"><VRTRasterBand dataType="Byte" band="1"><NoDataValue>{nodata}'
        '</NoDataValue><SimpleSource><SourceFilename relativeToVRT="1">scene.tif</SourceFilename></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    assert valid_of(vrt).all()


def test_a_file_with_a_mask_and_a_nodata_value_obeys_both(write_raster: WriteRaster) -> None:
    values = np.array([[[0, 7, 0, 7]]], dtype=np.uint8)
    mask = np.array([[255, 255, 0, 0]], dtype=np.uint8)
    assert valid_of(write_raster(values, mask=mask, nodata=0)).tolist() == [[False, True, False, False]]


def test_the_users_nodata_replaces_the_files(write_raster: WriteRaster) -> None:
    values = np.array([[[0, 7, 9]]], dtype=np.uint8)
    path = write_raster(values, nodata=7)
    assert valid_of(path).tolist() == [[True, False, True]]
    assert valid_of(path, nodata=0).tolist() == [[False, True, True]]
    assert valid_of(path, nodata=-1).tolist() == [[True, True, True]]


def test_an_alpha_band_that_is_asked_for_is_an_input(write_raster: WriteRaster) -> None:
    values, alpha = np.full((3, *SHAPE), 9, dtype=np.uint8), np.zeros(SHAPE, dtype=np.uint8)
    path = write_raster(values, alpha=alpha)
    assert not valid_of(path).any()
    with open_raster(RasterSpec(str(path), bands=(4, 1))) as source:
        assert source.channels == 2
        assert source.read(Box.whole(SHAPE)).valid.all()


def test_the_transparent_colour_of_a_png_is_nodata_that_the_user_can_replace(tmp_path: Path) -> None:
    values = np.full((*SHAPE, 3), 9, dtype=np.uint8)
    values[:3] = (1, 2, 3)
    values[3, :, 0] = 1
    Image.fromarray(values).save(tmp_path / "a.png", transparency=(1, 2, 3))
    truth = np.ones(SHAPE, dtype=np.bool_)
    truth[:3] = False
    np.testing.assert_array_equal(valid_of(tmp_path / "a.png"), truth)
    np.testing.assert_array_equal(valid_of(tmp_path / "a.png", collar=True), truth)
    assert valid_of(tmp_path / "a.png", nodata=200).all()


@given(nodata=st.integers(-(2**64), 2**65), dtype=st.sampled_from(["uint8", "int16", "uint32", "int64", "uint64"]))
def test_whole_nodata_is_kept_to_the_bit_or_dropped(nodata: int, dtype: str) -> None:
    kind = np.dtype(dtype)
    limits, found = np.iinfo(kind), nodata_range(nodata, kind)
    if limits.min <= nodata <= limits.max:
        assert found is not None
        assert int(found[0]) == int(found[1]) == nodata
    else:
        assert found is None


@settings(max_examples=40)
@given(values=few("uint8", 1), tile=st.booleans(), data=st.data())
def test_the_collar_is_the_nodata_that_hangs_on_the_border(
    write_raster: WriteRaster, values: NDArray[Any], tile: bool, data: st.DataObject
) -> None:
    path = write_raster(values, nodata=0, **({"tiled": True, "blockxsize": 16, "blockysize": 16} if tile else {}))
    labels, _ = ndimage.label(values[0] == 0)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    truth = ~np.isin(labels, edge[edge > 0])
    top, left = data.draw(st.integers(0, 11)), data.draw(st.integers(0, 14))
    with open_raster(RasterSpec(str(path), collar=True)) as source:
        np.testing.assert_array_equal(source.read(Box((top, left), SHAPE)).valid, truth[top:, left:])
        np.testing.assert_array_equal(source.decimated(Box.whole(SHAPE), 1).valid, truth)


def test_the_collar_of_a_large_raster_is_found_across_strips(write_raster: WriteRaster) -> None:
    rng = np.random.default_rng(1)
    coarse = ndimage.gaussian_filter(rng.random((2200, 300)), 6)
    values = np.where(coarse < np.quantile(coarse, 0.45), 0, 9).astype(np.uint8)[None]
    path = write_raster(values, nodata=0, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    labels, _ = ndimage.label(values[0] == 0)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    truth = ~np.isin(labels, edge[edge > 0])
    assert (truth & (values[0] == 0)).mean() > 0.05
    np.testing.assert_array_equal(valid_of(path, collar=True), truth)


STARS = st.tuples(
    st.floats(-10, 60), st.floats(-10, 50), st.lists(st.floats(1, 40), min_size=3, max_size=9), st.floats(0, 6)
)


def star(spec: tuple[float, float, list[float], float]) -> Any:
    x, y, radii, turn = spec
    angles = turn + np.arange(len(radii)) * 2 * math.pi / len(radii)
    return shapely.Polygon([(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)])


@given(specs=st.lists(STARS, min_size=1, max_size=4), degrees=st.sampled_from([0.0, 33.0]))
def test_the_area_of_interest_is_what_rasterio_burns(
    specs: list[tuple[float, float, list[float], float]], degrees: float
) -> None:
    affine = Affine.translation(3.25, -7.5) @ Affine.rotation(degrees) @ Affine.scale(1.1, -0.9)
    shape = shapely.union_all([star(spec) for spec in specs])
    assume(shape.area > 0.1)
    place = Grid("raster", (40, 50), tuple(affine[:6]))
    truth = geometry_mask([shape], (40, 50), affine, invert=True)
    found = aoi_of(shape, place).inside(Box.whole((40, 50)))
    cells = np.argwhere(found != truth)
    for row, column in cells:  # only where the centre lies on an outline, to rounding
        assert shape.boundary.distance(shapely.Point(affine @ (column + 0.5, row + 0.5))) < 1e-6


@given(specs=st.lists(STARS, min_size=1, max_size=4), rounded=st.booleans(), data=st.data())
def test_the_area_of_interest_does_not_depend_on_the_box(
    specs: list[tuple[float, float, list[float], float]], rounded: bool, data: st.DataObject
) -> None:
    shape = shapely.union_all([star(spec) for spec in specs])
    if rounded:  # corners and outlines through centres of cells
        shape = shapely.set_precision(shape, 0.5)
    area = aoi_of(shape, Grid("raster", (40, 50), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)))
    whole = area.inside(Box.whole((40, 50)))
    top, left = data.draw(st.integers(0, 39)), data.draw(st.integers(0, 49))
    box = Box((top, left), (data.draw(st.integers(top + 1, 40)), data.draw(st.integers(left + 1, 50))))
    np.testing.assert_array_equal(area.inside(box), whole[box.slices])


@pytest.mark.parametrize("driver", ["GeoJSON", "GPKG", "ESRI Shapefile", "FlatGeobuf"])
def test_areas_in_another_crs_are_put_into_the_rasters(write_raster: WriteRaster, tmp_path: Path, driver: str) -> None:
    path = write_raster(np.ones((1, 400, 300), dtype=np.uint8), transform=UTM)
    ring = [(500500.0, 5599500.0), (502500.0, 5599000.0), (502000.0, 5596500.0), (500800.0, 5597000.0)]
    truth = geometry_mask([shapely.Polygon(ring)], (400, 300), UTM, invert=True)
    lon, lat = rasterio.warp.transform("EPSG:32633", "EPSG:4326", *zip(*ring, strict=True))
    extension = {"GeoJSON": "geojson", "GPKG": "gpkg", "ESRI Shapefile": "shp", "FlatGeobuf": "fgb"}[driver]
    file = tmp_path / f"area.{extension}"
    polygon = shapely.Polygon(list(zip(lon, lat, strict=True)))
    pyogrio.raw.write(
        file, shapely.to_wkb(np.array([polygon])), [], [], driver=driver, crs="EPSG:4326", geometry_type="Polygon"
    )
    with open_raster(RasterSpec(str(path), aoi=str(file))) as source:
        wanted = source.wanted(Box.whole((400, 300)))
        assert wanted is not None
        outline = shapely.Polygon(ring).boundary  # straight in UTM and straight in degrees part by decimetres
        for row, column in np.argwhere(wanted != truth):
            assert outline.distance(shapely.Point(UTM @ (column + 0.5, row + 0.5))) < 0.5
        part = Box((100, 37), (250, 260))
        np.testing.assert_array_equal(source.wanted(part), wanted[part.slices])
        assert source.read(part).valid.all()
        before = source.identity()
    moved = shapely.to_wkb(np.array([shapely.transform(polygon, lambda c: c + 0.001)]))
    file.unlink()
    pyogrio.raw.write(file, moved, [], [], driver=driver, crs="EPSG:4326", geometry_type="Polygon")
    with open_raster(RasterSpec(str(path), aoi=str(file))) as source:
        assert source.identity() != before


def _write_area(file: Path, driver: str, polygons: list[shapely.Polygon]) -> None:
    shapes = shapely.to_wkb(np.array(polygons))
    pyogrio.raw.write(file, shapes, [], [], driver=driver, crs="EPSG:32633", geometry_type="Polygon")


def _identity(path: Path, aoi: Path) -> str:
    with open_raster(RasterSpec(str(path), aoi=str(aoi))) as source:
        return source.identity()


def test_an_area_counts_by_where_its_polygons_lie_and_not_by_its_file(
    write_raster: WriteRaster, tmp_path: Path
) -> None:
    path = write_raster(np.ones((1, 400, 300), dtype=np.uint8), transform=UTM)
    one, two = shapely.box(500500, 5597000, 501000, 5598000), shapely.box(501500, 5597000, 502000, 5598000)
    _write_area(tmp_path / "area.shp", "ESRI Shapefile", [one, two])
    _write_area(tmp_path / "other.gpkg", "GPKG", [two, one])
    before = _identity(path, tmp_path / "area.shp")
    assert _identity(path, tmp_path / "other.gpkg") == before
    # The same .shp, but its .prj says another place: 500 m of false easting.
    prj = (tmp_path / "area.prj").read_text()
    assert '"False_Easting",500000.0' in prj
    (tmp_path / "area.prj").write_text(prj.replace('"False_Easting",500000.0', '"False_Easting",500500.0'))
    assert _identity(path, tmp_path / "area.shp") != before


def test_an_area_in_a_folder_counts_by_its_polygons(write_raster: WriteRaster, tmp_path: Path) -> None:
    path = write_raster(np.ones((1, 400, 300), dtype=np.uint8), transform=UTM)
    folder = tmp_path / "area.gdb"
    _write_area(folder, "OpenFileGDB", [shapely.box(500500, 5597000, 501000, 5598000)])
    assert folder.is_dir()
    before = _identity(path, folder)
    shutil.rmtree(folder)
    _write_area(folder, "OpenFileGDB", [shapely.box(500500, 5597000, 501010, 5598000)])
    assert _identity(path, folder) != before


def test_an_area_without_crs_is_taken_as_the_rasters_own_with_a_notice(
    write_raster: WriteRaster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_raster(np.ones((1, 20, 20), dtype=np.uint8), "a.png", driver="PNG", crs=None, transform=None)
    file = tmp_path / "area.geojson"
    ring = [[2, 3], [9, 3], [9, 11], [2, 11], [2, 3]]
    file.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    with caplog.at_level(logging.WARNING), open_raster(RasterSpec(str(path), aoi=str(file))) as source:
        wanted = source.wanted(Box.whole((20, 20)))
    truth = np.zeros((20, 20), dtype=np.bool_)
    truth[3:11, 2:9] = True
    np.testing.assert_array_equal(wanted, truth)
    assert any("no CRS" in record.message for record in caplog.records)


def test_areas_that_cannot_be_used_are_refused(write_raster: WriteRaster, tmp_path: Path) -> None:
    path = write_raster(np.ones((1, 20, 20), dtype=np.uint8))
    point = {"type": "Point", "coordinates": [15.0, 50.0]}
    far = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
    for name, content, words in (
        ("none.geojson", None, "cannot be read"),
        ("bad.geojson", "no json", "cannot be read"),
        ("point.geojson", json.dumps(point), "holds no polygon"),
        ("far.geojson", json.dumps(far), "does not touch"),
    ):
        if content is not None:
            (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=words) as caught:
            open_raster(RasterSpec(str(path), aoi=str(tmp_path / name)))
        assert name in caught.value.found


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.data())
def test_a_decimated_read_takes_the_middle_cell_of_every_step(
    write_raster: WriteRaster, step: int, data: st.DataObject
) -> None:
    values = np.arange(1, 61 * 47 + 1, dtype=np.uint16).reshape(1, 61, 47)
    values[0, 10:20] = 0
    top, left = data.draw(st.integers(0, 30)), data.draw(st.integers(0, 20))
    box = Box((top, left), (61, 47))
    with open_raster(RasterSpec(str(write_raster(values, nodata=0)))) as source:
        made = source.decimated(box, step)
    rows, columns = (n // step for n in box.shape)
    expected = values[0, top + step // 2 :: step, left + step // 2 :: step][:rows, :columns]
    np.testing.assert_array_equal(made.values[0], expected)
    np.testing.assert_array_equal(made.valid, expected != 0)
