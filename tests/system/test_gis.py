"""QGIS and GDAL's own programs open what a run writes: styles, names, colours, tables; and leave it as it is."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image

from pipelines import run
from tests.making import make_model, write_raster
from tests.pipelines.test_mosaic import cut, recipe_of

pytestmark = pytest.mark.system
VECTORS = ("gpkg", "fgb", "geojson")
LOOK = Path(__file__).with_name("qgis_look.py")
COLOURS = {1: (0x3C, 0x78, 0xB4), 2: (0xD8, 0xA0, 0x30), 3: (0x4C, 0x9A, 0x50), 255: (255, 255, 255)}
CLASSES = [[1, "class 1", "#3c78b4"], [2, "class 2", "#d8a030"], [3, "class 3", "#4c9a50"]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gis")
    hole = (slice(80, 130), slice(60, 140))
    sheets = cut(write_raster(folder / "scene.tif", hole=hole), folder / "in", (0, 300), (0, 120, 260))
    outputs = {"qml": True, "coverage": True, "probabilities": True, "vrt": True, "polygons": list(VECTORS)}
    model = make_model(folder / "model")
    assert run(recipe_of(folder / "out", sheets, model, name="town", outputs=outputs)).exit_code == 0
    return folder / "out"


def seen_by_qgis(path: Path, picture: Path) -> tuple[dict[str, Any], np.ndarray]:
    """Return what QGIS tells of a raster, and its picture (y, x, rgb)."""
    done = subprocess.run(
        ["/usr/bin/python3", str(LOOK), str(path), str(picture)],
        env={**os.environ, "QT_QPA_PLATFORM": "offscreen", "HOME": str(picture.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    with Image.open(picture) as image:
        return json.loads(done.stdout), np.asarray(image.convert("RGB"))


def coloured(path: Path, colours: dict[int, tuple[int, int, int]]) -> np.ndarray:
    with rasterio.open(path) as file:
        labels = file.read(1)
    table = np.zeros((256, 3), np.uint8)
    for value, colour in colours.items():
        table[value] = colour
    return table[labels]


@pytest.mark.parametrize("name", ["r0_c120_labels.tif", "town.vrt"])
def test_qgis_shows_label_maps_in_their_colours_with_their_names(made: Path, tmp_path: Path, name: str) -> None:
    before = {path: path.read_bytes() for path in made.iterdir() if path.is_file()}
    told, picture = seen_by_qgis(made / name, tmp_path / "labels.png")
    assert (told["valid"], told["crs"], told["renderer"]) == (True, "EPSG:32633", "paletted")
    assert told["classes"] == CLASSES
    np.testing.assert_array_equal(picture, coloured(made / name, COLOURS))
    assert {path: path.read_bytes() for path in made.iterdir() if path.is_file()} == before


def test_qgis_shows_the_coverage_and_nothing_where_there_is_none(made: Path, tmp_path: Path) -> None:
    told, picture = seen_by_qgis(made / "r0_c0_coverage.tif", tmp_path / "coverage.png")
    assert told["classes"] == [[1, "low context", "#e69f00"], [2, "predicted", "#56b4e9"]]
    colours = {0: (255, 255, 255), 1: (0xE6, 0x9F, 0x00), 2: (0x56, 0xB4, 0xE9)}
    np.testing.assert_array_equal(picture, coloured(made / "r0_c0_coverage.tif", colours))


def test_qgis_names_the_bands_of_probabilities_and_leaves_out_what_is_masked(made: Path, tmp_path: Path) -> None:
    told, picture = seen_by_qgis(made / "r0_c0_probabilities.tif", tmp_path / "each.png")
    assert told["bands"][:3] == ["Band 1: class 1", "Band 2: class 2", "Band 3: class 3"]
    with rasterio.open(made / "r0_c0_probabilities.tif") as file:
        masked = file.dataset_mask() == 0
    assert masked.any()
    assert (picture[masked] == 255).all()
    assert (picture[~masked] != 255).any(axis=-1).mean() > 0.99
    (made / "r0_c0_probabilities.tif.aux.xml").unlink(missing_ok=True)


@pytest.mark.parametrize("form", VECTORS)
def test_qgis_fills_polygons_in_their_colours_with_their_names(made: Path, tmp_path: Path, form: str) -> None:
    """They came as one heap of one random colour."""
    told, picture = seen_by_qgis(made / f"r0_c120.{form}", tmp_path / "polygons.png")
    assert (told["valid"], told["renderer"]) == (True, "categorizedSymbol")
    assert told["classes"] == [[str(value), *rest] for value, *rest in CLASSES]
    if form != "geojson":  # that is in degrees; in the others, the middle of each cell is looked at
        np.testing.assert_array_equal(picture[4::8, 4::8], coloured(made / "r0_c120_labels.tif", COLOURS))


@pytest.mark.parametrize("layer", ["labels", "coverage"])
def test_gdalinfo_finds_colours_and_names_and_no_statistics(made: Path, layer: str) -> None:
    path = made / f"r0_c0_{layer}.tif"
    told = json.loads(subprocess.run(["gdalinfo", "-json", str(path)], capture_output=True, check=True).stdout)
    (band,) = told["bands"]
    assert told["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG"
    assert band["colorInterpretation"] == "Palette"
    assert len(band["colorTable"]["entries"]) == 256
    assert not {"minimum", "mean", "stdDev"} & band.keys()
    assert not any("STATISTICS" in key for part in band.get("metadata", {}).values() for key in part)
    rows = {row["f"][0]: row["f"][1] for row in told["rat"]["row"]}
    labels = {1: "low context", 2: "predicted"} if layer == "coverage" else {k: f"class {k}" for k in (1, 2, 3)}
    assert rows == labels


def test_gdal_translate_cuts_the_vrt(made: Path, tmp_path: Path) -> None:
    part = tmp_path / "part.tif"
    window = ["-srcwin", "100", "10", "60", "40"]
    subprocess.run(["gdal_translate", "-q", *window, str(made / "town.vrt"), str(part)], check=True)
    with rasterio.open(part) as one, rasterio.open(made / "town.vrt") as two:
        np.testing.assert_array_equal(one.read(1), two.read(1)[10:50, 100:160])
        assert one.colormap(1)[2] == (0xD8, 0xA0, 0x30, 255)
