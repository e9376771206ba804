"""Claims about reading rasters: boxes, formats, places, broken files."""

from __future__ import annotations

import math
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import Affine

from segflow.errors import GridMismatchError, InputError, RecipeError
from segflow.grid import Grid
from segflow.io.content import file_identity
from segflow.io.place import bbox_window, cell_metres, compare_rasters
from segflow.io.raster import RasterSpec, open_labels, open_raster
from segflow.io.source import Source
from tiling.box import Box

WriteRaster = Callable[..., Path]


def picture(bands: int, height: int, width: int, dtype: str = "uint8", seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(1, 250, (bands, height, width)).astype(dtype)


def boxes(height: int, width: int) -> st.SearchStrategy[Box]:
    def pair(n: int) -> st.SearchStrategy[tuple[int, int]]:
        return st.integers(0, n - 1).flatmap(lambda a: st.tuples(st.just(a), st.integers(a + 1, n)))

    return st.tuples(pair(height), pair(width)).map(lambda p: Box((p[0][0], p[1][0]), (p[0][1], p[1][1])))


@pytest.fixture(scope="module")
def tiled(write_raster: WriteRaster) -> Path:
    return write_raster(picture(4, 70, 90, "uint16"), tiled=True, blockxsize=32, blockysize=16, nodata=7)


# A file server that knows ranges, as stores do.
SERVER = """
import functools, http.server, pathlib, sys

class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        path, asked = pathlib.Path(self.translate_path(self.path)), self.headers.get("Range")
        if not path.is_file() or asked is None:
            return super().do_GET()
        data = path.read_bytes()
        low, _, high = asked.removeprefix("bytes=").partition("-")
        part = data[int(low) : int(high or len(data)) + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {low}-{int(low) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=sys.argv[1]))
print(host.server_port, flush=True)
host.serve_forever()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve a folder over HTTP on the loopback, in a process of its own: rasterio.open holds the GIL while it waits."""
    folder = tmp_path_factory.mktemp("served")
    command = [sys.executable, "-c", SERVER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        yield f"http://127.0.0.1:{host.stdout.readline().strip()}", folder
        host.kill()


@given(box=boxes(70, 90), bands=st.none() | st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_a_box_is_the_whole_read_sliced(tiled: Path, box: Box, bands: list[int] | None) -> None:
    chosen = None if bands is None else tuple(bands)
    with open_raster(RasterSpec(str(tiled), bands=chosen)) as source, rasterio.open(tiled) as file:
        pixels = source.read(box)
        whole = source.read(Box.whole(source.grid.shape))
        truth = file.read(bands or [1, 2, 3, 4])
    assert pixels.values.dtype == np.uint16
    np.testing.assert_array_equal(pixels.values, truth[(slice(None), *box.slices)])
    np.testing.assert_array_equal(pixels.valid, ~(truth == 7).all(axis=0)[box.slices])
    np.testing.assert_array_equal(pixels.valid, whole.valid[box.slices])


def test_the_source_is_a_source_and_its_spec_travels(tiled: Path) -> None:
    spec = RasterSpec(str(tiled), bands=(3, 1), nodata=7, collar=True)
    again = pickle.loads(pickle.dumps(spec))
    assert again == spec
    with open_raster(again) as source:
        assert isinstance(source, Source)
        assert (source.name, source.channels, source.dtype, source.unit_shape) == (
            "scene",
            2,
            np.dtype("uint16"),
            (16, 32),
        )
        assert source.wanted(Box((0, 0), (3, 3))) is None
        with pytest.raises(ValueError, match="leaves the raster"):
            source.read(Box((0, 0), (71, 5)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
def test_every_type_comes_as_it_is(write_raster: WriteRaster, dtype: str) -> None:
    values = picture(2, 9, 11, dtype)
    with open_raster(RasterSpec(str(write_raster(values)))) as source:
        pixels = source.read(Box.whole((9, 11)))
    assert pixels.values.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(pixels.values, values)
    assert pixels.valid.all()


@pytest.mark.parametrize(
    ("driver", "name", "bands", "options"),
    [
        ("PNG", "a.png", 3, {}),
        ("PNG", "a.png", 1, {}),
        ("JP2OpenJPEG", "a.jp2", 3, {"QUALITY": "100", "REVERSIBLE": "YES"}),
        ("COG", "a.tif", 3, {}),
    ],
)
def test_formats_without_georeference_are_kept_without_and_say_so(
    write_raster: WriteRaster,
    driver: str,
    name: str,
    bands: int,
    options: dict[str, str],
) -> None:
    values = picture(bands, 40, 50)
    path = write_raster(values, name, driver=driver, crs=None, transform=None, **options)
    with open_raster(RasterSpec(str(path))) as source:
        assert source.grid == Grid("raster", (40, 50))
        np.testing.assert_array_equal(source.read(Box((3, 4), (30, 41))).values, values[:, 3:30, 4:41])
        assert [text.count("has no georeference") for text in source.notices] == [1]


def test_a_palette_is_one_band_of_indices(write_raster: WriteRaster) -> None:
    values = picture(1, 8, 9) % 4
    path = write_raster(values, colormap={0: (1, 2, 3), 3: (9, 9, 9)}, photometric="palette")
    with open_raster(RasterSpec(str(path))) as source:
        assert source.channels == 1
        np.testing.assert_array_equal(source.read(Box.whole((8, 9))).values, values)


def test_a_vrt_reads_as_its_sources(write_raster: WriteRaster) -> None:
    values = picture(1, 20, 30)
    path = write_raster(values)
    vrt = path.with_suffix(".vrt")
    vrt.write_text(
        '<VRTDataset rasterXSize="30" rasterYSize="40"><VRTRasterBand dataType="Byte" band="1">'
        + "".join(
            f'<SimpleSource><SourceFilename relativeToVRT="1">scene.tif</SourceFilename><SourceBand>1</SourceBand>'
            f'<SrcRect xOff="0" yOff="0" xSize="30" ySize="20"/><DstRect xOff="0" yOff="{top}" xSize="30" ySize="20"/>'
            "</SimpleSource>"
            for top in (0, 20)
        )
        + "</VRTRasterBand></VRTDataset>"
    )
    with open_raster(RasterSpec(str(vrt))) as source:
        before = source.identity()
        np.testing.assert_array_equal(source.read(Box((15, 0), (25, 30))).values[0], np.vstack([values[0]] * 2)[15:25])
    moved = path.parent / "elsewhere"
    moved.mkdir()
    for item in (path, vrt):
        shutil.copy(item, moved)
    with open_raster(RasterSpec(str(moved / vrt.name))) as source:
        assert source.identity() == before
    with rasterio.open(moved / "scene.tif", "r+") as file:
        file.write(np.full((1, 1), 251, dtype=np.uint8), 1, window=((5, 6), (5, 6)))
    with open_raster(RasterSpec(str(moved / vrt.name))) as source:
        assert source.identity() != before
    (moved / "scene.tif").unlink()
    with (
        open_raster(RasterSpec(str(moved / vrt.name))) as source,
        pytest.raises(InputError, match=r"rows 3-4, columns 0-29.*scene\.tif"),
    ):
        source.read(Box((3, 0), (5, 30)))


def test_archives_and_servers_give_the_same_pixels(tiled: Path, server: tuple[str, Path]) -> None:
    url, folder = server
    shutil.copy(tiled, folder / "b.tif")
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tiled, "inner/b.tif")
    with open_raster(RasterSpec(str(tiled))) as source:
        truth = source.read(Box((5, 6), (60, 70)))
    for path in (
        f"/vsizip/{folder}/a.zip/inner/b.tif",
        f"zip://{folder}/a.zip!inner/b.tif",
        f"{url}/b.tif",
        f"{url}/b.tif?token=secret",
        f"/vsicurl/{url}/b.tif",
        f"/vsizip/vsicurl/{url}/a.zip/inner/b.tif",
    ):
        with open_raster(RasterSpec(path)) as source:
            pixels = source.read(Box((5, 6), (60, 70)))
            assert source.name == "b"
            assert source.identity() == source.identity()
        np.testing.assert_array_equal(pixels.values, truth.values)
        np.testing.assert_array_equal(pixels.valid, truth.valid)


def test_s3_paths_are_read(tiled: Path, server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    url, folder = server
    (folder / "bucket").mkdir(exist_ok=True)
    shutil.copy(tiled, folder / "bucket" / "key.tif")
    for key, value in {
        "AWS_S3_ENDPOINT": url.removeprefix("http://"),
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
        "AWS_NO_SIGN_REQUEST": "YES",
    }.items():
        monkeypatch.setenv(key, value)
    with open_raster(RasterSpec("s3://bucket/key.tif")) as source, open_raster(RasterSpec(str(tiled))) as truth:
        assert source.name == "key"
        box = Box((0, 0), (70, 90))
        np.testing.assert_array_equal(source.read(box).values, truth.read(box).values)


def test_a_remote_mask_beside_the_file_counts(write_raster: WriteRaster, server: tuple[str, Path]) -> None:
    url, folder = server
    mask = np.zeros((20, 20), dtype=np.uint8)
    mask[5:, :] = 255
    path = write_raster(picture(3, 20, 20), mask=mask, env={"GDAL_TIFF_INTERNAL_MASK": "NO"})
    shutil.copy(path, folder / "m.tif")
    shutil.copy(f"{path}.msk", folder / "m.tif.msk")
    with open_raster(RasterSpec(f"{url}/m.tif")) as source:
        np.testing.assert_array_equal(source.read(Box.whole((20, 20))).valid, mask > 0)


def test_a_secret_in_a_url_is_not_shown(server: tuple[str, Path]) -> None:
    with pytest.raises(InputError) as caught:
        open_raster(RasterSpec(f"{server[0]}/none.tif?signature=hush"))
    assert "none.tif" in caught.value.found
    assert "hush" not in str(caught.value)


def test_identity_follows_content_and_not_the_place(write_raster: WriteRaster, tmp_path: Path) -> None:
    values = picture(2, 30, 30)
    path = write_raster(values, nodata=0)
    copy = tmp_path / "renamed.tif"
    shutil.copy(path, copy)

    def identity(spec: RasterSpec) -> str:
        with open_raster(spec) as source:
            return source.identity()

    first = identity(RasterSpec(str(path)))
    assert identity(RasterSpec(str(copy))) == first
    (tmp_path / "renamed.tif.aux.xml").write_text("<PAMDataset><Metadata><MDI key='a'>b</MDI></Metadata></PAMDataset>")
    assert identity(RasterSpec(str(copy))) == first
    others = {
        identity(RasterSpec(str(path), bands=(1,))),
        identity(RasterSpec(str(path), nodata=5)),
        identity(RasterSpec(str(path), collar=True)),
    }
    with rasterio.open(copy, "r+") as file:
        file.write(values[:, :1, :1] + np.uint8(1), window=((0, 1), (0, 1)))
    others.add(identity(RasterSpec(str(copy))))
    assert len(others - {first}) == 4


def test_large_files_count_by_pieces_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(200 << 10))
    os.utime(path, ns=(1, 1))
    first = file_identity(path, whole_bytes=1)
    assert file_identity(path, whole_bytes=1) == first
    os.utime(path, ns=(1, 2))
    assert file_identity(path, whole_bytes=1) != first
    assert file_identity(path) == file_identity(path)


@pytest.mark.parametrize("layout", [{"tiled": True, "blockxsize": 64, "blockysize": 64}, {"blockysize": 10}])
def test_a_truncated_tiff_is_refused_when_it_is_opened(write_raster: WriteRaster, layout: dict[str, Any]) -> None:
    path = write_raster(picture(3, 300, 300), compress="deflate", **layout)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match="cut short") as caught:
        open_raster(RasterSpec(str(path)))
    assert "scene.tif" in caught.value.found
    assert "rows from" in caught.value.found
    assert caught.value.remedy


def test_a_damaged_block_is_named_with_its_place(write_raster: WriteRaster) -> None:
    path = write_raster(picture(1, 300, 300), compress="deflate", tiled=True, blockxsize=64, blockysize=64)
    with rasterio.open(path) as file:
        offset = int(file.get_tag_item("BLOCK_OFFSET_2_3", "TIFF", bidx=1))
    data = bytearray(path.read_bytes())
    data[offset : offset + 400] = b"\xff" * 400
    path.write_bytes(data)
    with open_raster(RasterSpec(str(path))) as source:
        source.read(Box((0, 0), (192, 300)))
        with pytest.raises(InputError, match=r"scene\.tif cannot be read at rows 150-249, columns 100-259"):
            source.read(Box((150, 100), (250, 260)))


@pytest.mark.parametrize(("driver", "name"), [("JPEG", "a.jpg"), ("PNG", "a.png"), ("JP2OpenJPEG", "a.jp2")])
def test_truncated_pictures_are_errors_and_never_grey(write_raster: WriteRaster, driver: str, name: str) -> None:
    path = write_raster(picture(3, 300, 300), name, driver=driver, crs=None, transform=None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    def attempt() -> None:
        with open_raster(RasterSpec(str(path))) as source:
            source.read(Box((0, 0), (300, 300)))

    with pytest.raises(InputError, match=name):
        attempt()


def test_bad_input_says_found_expected_and_remedy(write_raster: WriteRaster, tmp_path: Path) -> None:
    text = tmp_path / "a.tif"
    text.write_text("no raster")
    complex_raster = write_raster(np.ones((1, 4, 4), dtype=np.complex64))
    three = write_raster(picture(3, 4, 4))
    for spec, words in (
        (RasterSpec(str(tmp_path / "none.tif")), "does not exist"),
        (RasterSpec(str(text)), "cannot be opened"),
        (RasterSpec(str(complex_raster)), "complex"),
        (RasterSpec(str(three), bands=(1, 9)), "has 3 bands, asked for 9"),
        (RasterSpec(str(three), bands=(0,)), "has 3 bands, asked for 0"),
        (RasterSpec(str(three), bands=()), "asked for none"),
        (RasterSpec(str(three), collar=True), "no nodata value"),
    ):
        with pytest.raises(InputError, match=words) as caught:
            open_raster(spec)
        assert caught.value.expected
        assert caught.value.remedy


def test_a_container_without_bands_names_its_subdatasets(write_raster: WriteRaster) -> None:
    path = write_raster(picture(1, 4, 4), "a.gpkg", driver="GPKG", RASTER_TABLE="one")
    write_two = {"driver": "GPKG", "RASTER_TABLE": "two", "APPEND_SUBDATASET": "YES"}
    profile = {"count": 1, "height": 4, "width": 4, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", transform=Affine(1, 0, 5e5, 0, -1, 5e6), **profile, **write_two) as file:
        file.write(picture(1, 4, 4))
    with pytest.raises(InputError, match="holds no bands but subdatasets: GPKG:"):
        open_raster(RasterSpec(str(path)))
    with open_raster(RasterSpec(f"GPKG:{path}:two", bands=(1,))) as source:
        np.testing.assert_array_equal(source.read(Box.whole((4, 4))).values, picture(1, 4, 4))
        assert source.identity() == source.identity()


def test_gdals_cache_does_not_grow_with_the_machine(tiled: Path) -> None:
    with open_raster(RasterSpec(str(tiled))), rasterio.Env():
        assert rasterio.env.get_gdal_config("GDAL_CACHEMAX") >= int(os.environ.get("GDAL_CACHEMAX", 64 << 20))


@pytest.mark.parametrize("degrees", [0.0, 30.0, 135.0])
def test_rotated_transforms_survive(write_raster: WriteRaster, degrees: float) -> None:
    affine = Affine.translation(5e5, 5.6e6) @ Affine.rotation(degrees) @ Affine.scale(2.0, -3.0)
    with open_raster(RasterSpec(str(write_raster(picture(1, 6, 7), transform=affine)))) as source:
        assert source.grid.affine == pytest.approx(affine[:6])
        assert source.grid.spacing == pytest.approx((3.0, 2.0))


# Oracle: degree lengths at 36 and 60 N and on the equator, from tables of the WGS 84 ellipsoid (NGA TR8350.2).
@pytest.mark.parametrize(
    ("latitude", "per_lat", "per_lon"),
    [(0.0, 110574.3, 111319.5), (36.0, 110959.0, 90164.0), (60.0, 111412.3, 55800.2), (-60.0, 111412.3, 55800.2)],
)
def test_degrees_become_metres_at_the_centre(
    write_raster: WriteRaster, latitude: float, per_lat: float, per_lon: float
) -> None:
    affine = Affine(0.001, 0, 20.0, 0, -0.002, latitude + 0.01)
    with open_raster(RasterSpec(str(write_raster(picture(1, 10, 8), crs="EPSG:4326", transform=affine)))) as source:
        assert source.grid.spacing == pytest.approx((per_lat * 0.002, per_lon * 0.001), rel=1e-5)


@pytest.mark.parametrize(
    ("crs", "unit"), [("EPSG:2264", 0.3048006096012192), ("EPSG:32633", 1.0), ("EPSG:2222", 0.3048)]
)
def test_feet_become_metres(write_raster: WriteRaster, crs: str, unit: float) -> None:
    affine = Affine(100.0, 0, 600000.0, 0, -50.0, 600000.0)
    with open_raster(RasterSpec(str(write_raster(picture(1, 10, 8), crs=crs, transform=affine)))) as source:
        assert source.grid.spacing == pytest.approx((50.0 * unit, 100.0 * unit), rel=1e-12)


@given(
    longitude=st.floats(-170, 170),
    latitude=st.floats(-80, 80),
    turn=st.floats(0, 360),
    crs=st.sampled_from(["EPSG:4326", "EPSG:4269", "EPSG:3857"]),
)
def test_spacing_is_the_geodesic_of_a_cell(longitude: float, latitude: float, turn: float, crs: str) -> None:
    to_crs = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = to_crs.transform(longitude, latitude)
    size = 1e-5 if crs != "EPSG:3857" else 1.0
    affine = Affine.translation(x, y) @ Affine.rotation(turn) @ Affine.scale(size, -2 * size)
    affine = affine @ Affine.translation(-3.5, -2.0)
    spacing = cell_metres(affine, (4, 7), rasterio.crs.CRS.from_user_input(crs))
    assert spacing is not None
    back = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    geod = pyproj.Geod(ellps="WGS84")
    for metres, (column, row) in zip(spacing, [(0, 1), (1, 0)], strict=True):
        lon, lat = back.transform(
            *zip(*((affine @ (3.5 + s * column, 2.0 + s * row)) for s in (-0.5, 0.5)), strict=True)
        )
        truth = geod.inv(lon[0], lat[0], lon[1], lat[1])[2]
        tolerance = 1e-4 if crs != "EPSG:3857" or abs(truth / (size * (1 + row)) - 1) > 0.02 else 0.021
        assert metres == pytest.approx(truth, rel=tolerance)


def grid(crs: str | None, affine: Affine | None = None, shape: tuple[int, int] = (10, 12)) -> Grid:
    wkt = None if crs is None else rasterio.crs.CRS.from_user_input(crs).to_wkt()
    return Grid("raster", shape, tuple((affine or Affine(10, 0, 5e5, 0, -10, 5e6))[:6]), wkt)


def test_two_spellings_of_a_crs_are_accepted_with_a_notice() -> None:
    assert compare_rasters(grid("EPSG:32119"), grid("EPSG:32119")) is None
    notice = compare_rasters(grid("EPSG:32119"), grid("EPSG:3358"), "image.tif", "labels.tif")
    assert notice is not None
    assert "labels.tif" in notice
    assert "EPSG:3358" in notice
    assert "has no CRS" in (compare_rasters(grid("EPSG:32119"), grid(None)) or "")
    assert "no georeference" in (compare_rasters(grid("EPSG:32119"), Grid("raster", (10, 12))) or "")
    assert compare_rasters(Grid("raster", (10, 12)), Grid("raster", (10, 12))) is None


@pytest.mark.parametrize(
    "other",
    [
        grid("EPSG:4326"),
        grid("EPSG:2264"),
        grid("EPSG:32633", Affine(10, 0, 500001.0, 0, -10, 5e6)),
        grid("EPSG:32633", Affine(10.1, 0, 5e5, 0, -10, 5e6)),
        grid("EPSG:32633", shape=(10, 13)),
    ],
)
def test_other_places_kinds_and_units_are_refused(other: Grid) -> None:
    with pytest.raises(GridMismatchError, match="the reference"):
        compare_rasters(grid("EPSG:32633"), other)


def test_a_world_box_becomes_the_cells_it_touches() -> None:
    place = grid("EPSG:32633")
    assert bbox_window(place, (500010, 4999950, 500030, 4999980)) == Box((2, 1), (5, 3))
    assert bbox_window(place, (500011, 4999951, 500029, 4999979)) == Box((2, 1), (5, 3))
    assert bbox_window(place, (400000, 4999985, 500015, 6000000)) == Box((0, 0), (2, 2))
    turned = grid("EPSG:32633", Affine.translation(5e5, 5e6) @ Affine.rotation(45) @ Affine.scale(10, -10))
    box = bbox_window(turned, (500040, 4999990, 500060, 5000010))
    middle = ~Affine(*(turned.affine or ())) @ (500050, 5000000)
    assert box.start[1] <= middle[0] <= box.stop[1]
    assert box.start[0] <= middle[1] <= box.stop[0]
    for bbox in ((0, 0, 10, 10), (500010, 4999950, 500010, 4999980), (500030, 4999950, 500010, 4999980)):
        with pytest.raises(RecipeError):
            bbox_window(place, bbox)
    with pytest.raises(RecipeError, match="without georeference"):
        bbox_window(Grid("raster", (4, 4)), (0, 0, 1, 1))


def test_labels_come_from_one_band(write_raster: WriteRaster) -> None:
    ids = np.array([[[1.0, 2.0, math.nan]]], dtype=np.float32)
    with open_labels(str(write_raster(ids))) as source:
        pixels = source.read(Box((0, 0), (1, 3)))
    np.testing.assert_array_equal(pixels.values, ids)
    assert pixels.valid.tolist() == [[True, True, False]]
    with pytest.raises(InputError, match="one band"):
        open_labels(str(write_raster(picture(3, 4, 4))))


@pytest.mark.real
def test_the_landsat_pair_lies_on_one_grid_with_a_notice(shared_data: Path) -> None:
    folder = shared_data / "landsat-nc"
    with (
        open_raster(RasterSpec(str(folder / "landsat7_b12345_epsg32119.tif"))) as image,
        open_labels(str(folder / "landclass96_full_7class.tif")) as labels,
    ):
        assert image.grid.spacing == (28.5, 28.5)
        assert image.channels == 5
        notice = compare_rasters(image.grid, labels.grid)
        assert notice is not None
        assert "accepted" in notice
        pixels = image.read(Box.whole(image.grid.shape))
        truth = rasterio.open(folder / "landsat7_b12345_epsg32119.tif")
        np.testing.assert_array_equal(pixels.valid, truth.dataset_mask() > 0)
        truth.close()
        ids = labels.read(Box.whole(labels.grid.shape))
    assert set(np.unique(ids.values[0][ids.valid])) == {1, 2, 3, 4, 5, 6, 7}


@pytest.mark.real
def test_a_box_of_the_dubai_mosaic_is_the_whole_sliced(shared_data: Path) -> None:
    path = shared_data / "aerial-dubai" / "mosaic" / "tile7.tif"
    box = Box((3000, 2500), (3700, 5450))
    with open_raster(RasterSpec(str(path))) as source:
        assert source.grid == Grid("raster", (6184, 5450))
        assert source.unit_shape == (512, 512)
        pixels = source.read(box)
        band = source.read(Box((2900, 0), (3800, 5450)))
    assert pixels.valid.all()
    np.testing.assert_array_equal(pixels.values, band.values[:, 100:800, 2500:])
    assert pixels.values.std() > 10
