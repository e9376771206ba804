"""Claims about the GeoTIFFs that come out."""

from __future__ import annotations

import itertools
import logging
import xml.etree.ElementTree as Xml
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate

from segflow.errors import OutputError
from segflow.grid import Grid
from segflow.io import cog
from segflow.io.cog import write_bands_cog, write_byte_cog, write_label_cog
from segflow.io.raster import RasterSpec, open_raster
from segflow.io.rat import read_classes, sidecar_of
from segflow.models.card import LabelClass
from tiling.box import Box

CLASSES = (
    LabelClass(id=1, name="building & roof", colour="#ff0000"),
    LabelClass(id=2, name="land", colour="#00aa10"),
    LabelClass(id=0, name="water", colour="#0000ff"),
)
UTM = rasterio.crs.CRS.from_epsg(32633).to_wkt()


def grid(height: int, width: int, placed: bool = True) -> Grid:
    affine = (10.0, 0.0, 500000.0, 0.0, -10.0, 5600000.0)
    return Grid("raster", (height, width), affine, UTM, (10.0, 10.0)) if placed else Grid("raster", (height, width))


def reader(values: NDArray[Any], seen: list[Box] | None = None) -> Callable[[Box], NDArray[Any]]:
    def read(box: Box) -> NDArray[Any]:
        if seen is not None:
            seen.append(box)
        return values[box.slices]

    return read


def labels(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Patches of labels with a corner of nodata."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 3, (height // 8 + 1, width // 8 + 1))
    values = np.kron(coarse, np.ones((8, 8)))[:height, :width].astype(np.uint8)
    values[: height // 5, : width // 5] = 255
    return values


def test_a_label_map_is_a_valid_cog_with_names_colours_and_nodata(tmp_path: Path) -> None:
    values, path = labels(1100, 1300), tmp_path / "out" / "a_labels.tif"
    write_label_cog(path, reader(values), grid(1100, 1300), CLASSES, tags={"SEGFLOW": "x"})
    assert sorted(item.name for item in path.parent.iterdir()) == ["a_labels.tif", "a_labels.tif.aux.xml"]
    valid, errors, warnings = cog_validate(path, strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), values)
        np.testing.assert_array_equal(file.dataset_mask() > 0, values != 255)
        assert (file.nodata, file.dtypes, file.crs.to_epsg()) == (255, ("uint8",), 32633)
        assert file.transform[:6] == grid(1100, 1300).affine
        colours = file.colormap(1)
        assert {k: colours[k] for k in (0, 1, 2)} == {0: (0, 0, 255, 255), 1: (255, 0, 0, 255), 2: (0, 170, 16, 255)}
        assert colours[255][3] == 0
        assert file.tags()["SEGFLOW"] == "x"
        assert file.overviews(1) == [2, 4]
        assert file.compression.name in ("zstd", "deflate")
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.colorinterp[0].name == "palette"
    assert read_classes(path) == tuple(sorted(CLASSES, key=lambda item: item.id))


def test_the_attribute_table_is_what_gdal_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_label_cog(path, reader(labels(20, 30)), grid(20, 30), CLASSES, tags={})
    table = Xml.parse(sidecar_of(path)).getroot().find("PAMRasterBand/GDALRasterAttributeTable")
    assert table is not None
    fields = [(f.findtext("Name"), f.findtext("Type"), f.findtext("Usage")) for f in table.iter("FieldDefn")]
    assert fields == [
        ("Value", "0", "5"),
        ("Class", "2", "2"),
        ("Red", "0", "6"),
        ("Green", "0", "7"),
        ("Blue", "0", "8"),
    ]
    rows = [[cell.text for cell in row.iter("F")] for row in table.iter("Row")]
    assert rows[1] == ["1", "building & roof", "255", "0", "0"]
    # GDAL takes the table up: a copy through it carries the table into its own sidecar.
    rasterio.shutil.copy(str(path), str(tmp_path / "b.tif"), driver="GTiff")
    again = Xml.parse(tmp_path / "b.tif.aux.xml").getroot().find("PAMRasterBand/GDALRasterAttributeTable")
    assert again is not None
    assert [[cell.text for cell in row.iter("F")] for row in again.iter("Row")] == rows
    assert [(f.findtext("Name"), f.findtext("Type"), f.findtext("Usage")) for f in again.iter("FieldDefn")] == fields


def test_confidence_is_a_valid_cog_with_averaged_overviews(tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(1030), np.arange(1024)) % 251
    values, path = ramp.astype(np.uint8), tmp_path / "c.tif"
    values[100:300, 100:300] = 255
    write_byte_cog(path, reader(values), grid(1030, 1024), nodata=255, tags={}, description="confidence")
    assert cog_validate(path, strict=True) == (True, [], [])
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), values)
        assert file.descriptions == ("confidence",)
    with rasterio.open(path, overview_level=0) as file:
        small = file.read(1)
    quads = values[:1030, :].reshape(515, 2, 512, 2).transpose(0, 2, 1, 3).reshape(515, 512, 4).astype(float)
    kept = np.where(quads == 255, np.nan, quads)
    plain = ~np.isnan(kept).any(axis=-1)
    np.testing.assert_allclose(small[plain], kept[plain].mean(axis=-1), atol=0.51)
    assert (small[60:140, 60:140] == 255).all()


def test_overviews_of_labels_are_the_mode_and_never_a_class_that_is_not_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    major, minor = (rng.choice([0, 1, 2], (400, 400)).astype(np.uint8) for _ in range(2))
    quads = np.repeat(major[..., None], 4, axis=-1)
    np.put_along_axis(quads, rng.integers(0, 4, (400, 400, 1)), minor[..., None], axis=-1)
    quads[:50, :50, :3] = 255  # one valid cell in four
    values = quads.reshape(400, 400, 2, 2).transpose(0, 2, 1, 3).reshape(800, 800)
    path = tmp_path / "a.tif"
    write_label_cog(path, reader(values), grid(800, 800), CLASSES, tags={})
    with rasterio.open(path, overview_level=0) as file:
        small = file.read(1)
    truth = major.copy()
    truth[:50, :50] = quads[:50, :50, 3]
    np.testing.assert_array_equal(small, truth)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # the validator's own
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(height=st.integers(1, 1100), width=st.integers(1, 700), placed=st.booleans(), seed=st.integers(0, 9))
@example(height=1, width=1, placed=True, seed=0)
@example(height=1100, width=512, placed=True, seed=0)
@example(height=1030, width=1024, placed=False, seed=0)
@example(height=520, width=256, placed=False, seed=0)
@example(height=600, width=1056, placed=True, seed=0)
def test_any_shape_comes_back_to_the_pixel(tmp_path: Path, height: int, width: int, placed: bool, seed: int) -> None:
    values, path = labels(height, width, seed), tmp_path / f"{height}x{width}.tif"
    seen: list[Box] = []
    write_label_cog(path, reader(values, seen), grid(height, width, placed), CLASSES, tags={})
    with open_raster(RasterSpec(str(path))) as source:
        pixels = source.read(Box.whole((height, width)))
        assert source.grid == grid(height, width, placed)
    np.testing.assert_array_equal(pixels.values[0], values)
    np.testing.assert_array_equal(pixels.valid, values != 255)
    assert max(box.shape[0] for box in seen) <= 512
    assert sum(box.size for box in seen) == values.size
    assert cog_validate(path)[0] or min(height, width) < 4  # the validator halves 1 to 0


def test_the_same_pixels_give_the_same_bytes(tmp_path: Path) -> None:
    values = labels(1100, 900)
    for index in range(2):
        write_label_cog(tmp_path / f"{index}" / "a.tif", reader(values), grid(1100, 900), CLASSES, tags={"A": "b"})
        write_byte_cog(
            tmp_path / f"{index}" / "c.tif", reader(values), grid(1100, 900), nodata=255, tags={}, description="c"
        )
    for name in ("a.tif", "a.tif.aux.xml", "c.tif"):
        one, two = ((tmp_path / str(index) / name).read_bytes() for index in range(2))
        assert one == two


def test_a_failure_midway_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path, values = tmp_path / "a.tif", labels(1100, 60)
    write_label_cog(path, reader(values), grid(1100, 60), CLASSES, tags={})
    before = path.read_bytes()
    calls = itertools.count()

    def failing(box: Box) -> NDArray[np.uint8]:
        if next(calls) == 2:
            raise RuntimeError("staging is gone")
        return values[box.slices]

    with pytest.raises(RuntimeError, match="staging"):
        write_label_cog(path, failing, grid(1100, 60), CLASSES, tags={})
    assert path.read_bytes() == before
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml"]


def test_leftovers_of_a_crash_are_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for name in (".segflow-part-a.tif", ".segflow-part-a.tif.scratch.tif", ".segflow-part-a.tif.ovr.tmp"):
        (tmp_path / name).write_bytes(b"rubbish")
    write_label_cog(path, reader(labels(600, 600)), grid(600, 600), CLASSES, tags={})
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.tif", "a.tif.aux.xml"]
    assert cog_validate(path)[0]


def test_what_does_not_read_back_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = tmp_path / "a.tif", rasterio.shutil.copy

    def damaging(source: Any, target: str, **options: Any) -> None:
        with rasterio.open(source.name, "r+") as file:
            file.write(np.full((1, 1), 2, dtype=np.uint8), 1, window=((599, 600), (599, 600)))
        copy(source.name, target, **options)

    monkeypatch.setattr(cog.rasterio.shutil, "copy", damaging)
    values = labels(600, 600)
    values[-1, -1] = 1
    with pytest.raises(OutputError, match="did not read back"):
        write_label_cog(path, reader(values), grid(600, 600), CLASSES, tags={})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_meant_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path, values = tmp_path / "a.tif", labels(20, 30)
    with pytest.raises(OutputError, match="nodata 1 is also the id of class building"):
        write_label_cog(path, reader(values), grid(20, 30), CLASSES, nodata=1, tags={})
    large = (*CLASSES, LabelClass(id=256, name="large", colour="#000000"))
    with pytest.raises(OutputError, match="class id 256"):
        write_label_cog(path, reader(values), grid(20, 30), large, tags={})
    with pytest.raises(OutputError, match=r"label 9 in rows 0-19 is no class"):
        write_label_cog(path, reader(np.full((20, 30), 9, dtype=np.uint8)), grid(20, 30), CLASSES, tags={})
    with pytest.raises(ValueError, match="uint8"):
        write_label_cog(path, reader(values.astype(np.int32)), grid(20, 30), CLASSES, tags={})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"outputs\.folder"):
        write_label_cog(tmp_path / "file" / "a.tif", reader(values), grid(20, 30), CLASSES, tags={})


def test_bigtiff_is_used_where_four_gigabytes_may_be_passed() -> None:
    options = cog._cog_options(cog._Look(255, {}, "class", "MODE"), (100_000, 100_000))
    assert (options["BIGTIFF"], options["OVERVIEW_RESAMPLING"], options["BLOCKSIZE"]) == ("IF_SAFER", "MODE", "512")
    assert "SPARSE_OK" not in options


@given(st.integers(1, 200_000), st.integers(1, 200_000))
def test_no_level_is_as_wide_as_a_block_unless_it_is_one_block(height: int, width: int) -> None:
    side = cog.block_size((height, width))
    assert side % 16 == 0
    for level in range(20):
        rows, columns = -(-height >> level) * -1, -(-width >> level) * -1
        assert columns != side or max(rows, columns) <= 512


def test_nothing_is_said_about_a_missing_georeference(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        write_label_cog(tmp_path / "a.tif", reader(labels(600, 40)), grid(600, 40, False), CLASSES, tags={})
    assert caplog.records == []
    with open_raster(RasterSpec(str(tmp_path / "a.tif"))) as source:
        assert (source.grid.affine, source.grid.crs) == (None, None)


def test_a_rotated_grid_is_written_as_it_is(tmp_path: Path) -> None:
    affine = Affine.translation(5e5, 5.6e6) @ Affine.rotation(30) @ Affine.scale(2.0, -3.0)
    place = Grid("raster", (40, 50), tuple(affine[:6]), UTM, (3.0, 2.0))
    write_label_cog(tmp_path / "a.tif", reader(labels(40, 50)), place, CLASSES, tags={})
    with open_raster(RasterSpec(str(tmp_path / "a.tif"))) as source:
        assert source.grid.affine == place.affine


@pytest.mark.real
def test_the_landsat_reference_survives_as_a_cog(shared_data: Path, tmp_path: Path) -> None:
    names = ("developed", "agriculture", "herbaceous", "shrubland", "forest", "water", "sediment")
    classes = [LabelClass(id=k + 1, name=name, colour=f"#{k * 30:02x}8040") for k, name in enumerate(names)]
    with open_raster(RasterSpec(str(shared_data / "landsat-nc" / "landclass96_full_7class.tif"))) as source:

        def read(box: Box) -> NDArray[np.uint8]:
            pixels = source.read(box)
            return np.where(pixels.valid, pixels.values[0], np.uint8(255))

        write_label_cog(tmp_path / "a.tif", read, source.grid, classes, tags={})
        whole = read(Box.whole(source.grid.shape))
        with open_raster(RasterSpec(str(tmp_path / "a.tif"))) as written:
            np.testing.assert_array_equal(written.read(Box.whole(source.grid.shape)).values[0], whole)
            assert written.grid.affine == source.grid.affine
            assert written.grid.spacing == (28.5, 28.5)
    assert cog_validate(tmp_path / "a.tif")[0]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shape=st.tuples(st.integers(1, 1100), st.integers(1, 1100)),
    count=st.sampled_from([1, 2, 3, 4, 7]),
    seed=st.integers(0, 99),
    window=st.sampled_from([1 << 10, 32 << 20]),
)
def test_bands_come_back_with_names_and_a_mask_in_place_of_nodata(
    tmp_path: Path, shape: tuple[int, int], count: int, seed: int, window: int
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, *(n // 64 + 1 for n in shape)))
    values = np.kron(coarse, np.ones((64, 64)))[:, : shape[0], : shape[1]].astype(np.uint8)
    valid = np.where(values[0] > 50, np.uint8(255), np.uint8(0))
    names = [f"Straße {k}" for k in range(count)]
    path = tmp_path / "p.tif"
    reads = {name: reader(band) for name, band in zip(names, values, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cog, "_WINDOW_BYTES", window)
        write_bands_cog(path, reads, reader(valid), grid(*shape), tags={"A": "b"})
    first = path.read_bytes()
    assert cog_validate(path, quiet=True) == (True, [], [])
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(), values)
        np.testing.assert_array_equal(file.read_masks(1), valid)
        assert file.nodata is None
        assert list(file.descriptions) == names
        assert {item.name for item in file.colorinterp} <= {"gray", "undefined"}
        assert not any("STATISTICS" in key for band in file.indexes for key in file.tags(band))
    write_bands_cog(path, reads, reader(valid), grid(*shape), tags={"A": "b"})
    assert path.read_bytes() == first
