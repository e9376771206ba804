"""STAC items and collections: pystac accepts and understands them; extensions are checked by their own rules.

The JSON schemas of extensions lie on a server only: `pystac` has those of STAC itself, which are used here.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from pystac.extensions.classification import ClassificationExtension
from pystac.extensions.file import FileExtension
from pystac.extensions.projection import ProjectionExtension
from pystac.extensions.raster import RasterExtension
from pystac.validation import validate_dict
from rasterio.transform import Affine
from shapely.geometry import box, shape

from pipelines import run
from pipelines.network.engine import model_of
from pipelines.planning.scenes import find_scenes
from segflow.errors import OutputError, RecipeError
from segflow.grid import Grid
from segflow.io.exports.stac_facts import footprint, when
from segflow.recipe import parse_recipe, read_recipe
from tests.making import write_raster
from tests.pipelines.test_mosaic import cut, recipe_of

ASKED = {"stac": True, "confidence": True, "probabilities": True, "coverage": True, "qml": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Two scenes that lie side by side, one of which knows when it was taken."""
    folder = tmp_path_factory.mktemp("stac")
    sheets = cut(write_raster(folder / "scene.tif", (100, 180)), folder / "in", (0, 100), (0, 90, 180))
    with rasterio.open(sheets[0], "r+") as file:
        file.update_tags(TIFFTAG_DATETIME="2024:05:01 10:20:30")
    recipe = recipe_of(folder / "out", sheets, model, False, name="town", outputs={**ASKED, "vrt": True})
    assert run(recipe).exit_code == 0
    return folder / "out"


def item_of(folder: Path, scene: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / f"{scene}_stac.json").read_text())
    return loaded


@pytest.mark.parametrize("scene", ["r0_c0", "r0_c90"])
def test_an_item_is_valid_stac(made: Path, scene: str) -> None:
    assert validate_dict(item_of(made, scene), extensions=[])


def test_a_collection_is_valid_stac_and_leads_to_its_items(made: Path) -> None:
    loaded = json.loads((made / "collection.json").read_text())
    assert validate_dict(loaded, extensions=[])
    collection = pystac.Collection.from_file(str(made / "collection.json"))
    items = list(collection.get_items())
    assert [item.id for item in items] == ["r0_c0", "r0_c90"]
    assert all(item.get_collection() is collection for item in items)
    extent = box(*collection.extent.spatial.bboxes[0])
    assert all(extent.buffer(1e-9).contains(shape(item.geometry)) for item in items)
    (start, end), *_ = collection.extent.temporal.intervals
    assert start is not None
    assert end is not None
    assert start.isoformat() == "2024-05-01T10:20:30+00:00"
    assert end > start


def test_pystac_reads_what_the_extensions_say(made: Path) -> None:
    item = pystac.Item.from_file(str(made / "r0_c90_stac.json"))
    with rasterio.open(made / "r0_c90_labels.tif") as file:
        projection = ProjectionExtension.ext(item)
        assert projection.epsg == 32633
        assert projection.shape == list(file.shape)
        assert projection.transform == pytest.approx(list(file.transform[:6]))
        assert projection.bbox == pytest.approx(list(file.bounds))
    labels = item.assets["labels"]
    classes = ClassificationExtension.ext(labels).classes
    assert classes is not None
    assert [(one.value, one.name, one.color_hint) for one in classes] == [
        (1, "class_1", "3C78B4"),
        (2, "class_2", "D8A030"),
        (3, "class_3", "4C9A50"),
    ]
    for asset in (labels, item.assets["confidence"], item.assets["probabilities"], item.assets["coverage"]):
        path = Path(asset.get_absolute_href() or "")
        facts = FileExtension.ext(asset)
        assert facts.checksum == "1220" + hashlib.sha256(path.read_bytes()).hexdigest()
        assert facts.size == path.stat().st_size
        assert asset.media_type == pystac.MediaType.COG
        assert asset.extra_fields["raster:spatial_resolution"] == 0.5
    assert RasterExtension.has_extension(item)
    assert item.assets["qml"].roles == ["metadata"]
    assert [band["name"] for band in item.assets["probabilities"].extra_fields["bands"]] == [
        "class 1",
        "class 2",
        "class 3",
    ]
    (source,) = item.get_links("derived_from")
    assert Path(source.get_absolute_href() or "").name == "r0_c90.tif"
    assert Path(source.get_absolute_href() or "").is_file()


def test_extension_fields_keep_the_extensions_own_rules(made: Path) -> None:
    """As their schemas state them: processing 1.2.0, classification 2.0.0, MLM 1.5.0."""
    item = item_of(made, "r0_c0")
    properties = item["properties"]
    assert properties["processing:level"] == "L4"
    assert properties["processing:software"].keys() == {"segflow"}
    assert {"mlm:name", "mlm:architecture", "mlm:tasks", "mlm:input", "mlm:output"} <= properties.keys()
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_.\-\s]+[a-zA-Z0-9]", properties["mlm:name"])
    assert properties["mlm:tasks"] == ["semantic-segmentation"]
    for one, key in ((properties["mlm:input"][0]["input"], "input"), (properties["mlm:output"][0]["result"], "result")):
        assert len(one["shape"]) == len(one["dim_order"]) == 4, key
    models = [asset for asset in item["assets"].values() if "mlm:model" in asset["roles"]]
    assert [asset["mlm:artifact_type"] for asset in models] == ["safetensors.torch.save_file"]
    lists = [properties["mlm:output"][0]["classification:classes"]]
    lists += [asset["classification:classes"] for asset in item["assets"].values() if "classification:classes" in asset]
    for one in (one for classes in lists for one in classes):
        assert isinstance(one["value"], int)
        assert re.fullmatch(r"[0-9A-Za-z_-]+", one["name"])
        assert re.fullmatch(r"[0-9A-F]{6}", one["color_hint"])
    prefixes = {key.split(":")[0] for part in (properties, *item["assets"].values()) for key in part if ":" in key}
    named = {url.removeprefix("https://stac-extensions.github.io/").split("/")[0] for url in item["stac_extensions"]}
    assert {{"proj": "projection"}.get(prefix, prefix) for prefix in prefixes} == named


def test_an_unknown_time_is_null_with_an_interval_and_a_stated_one_goes_first(made: Path, tmp_path: Path) -> None:
    assert item_of(made, "r0_c0")["properties"]["datetime"] == "2024-05-01T10:20:30Z"
    unknown = item_of(made, "r0_c90")["properties"]
    assert unknown["datetime"] is None
    assert unknown["start_datetime"] == unknown["end_datetime"]
    path = str(made / "r0_c0_labels.tif")
    assert when(path, "2020-02-03T04:05:06+02:00") == {"datetime": "2020-02-03T02:05:06Z"}
    interval = {"datetime": None, "start_datetime": "2020-02-03T00:00:00Z", "end_datetime": "2020-03-01T00:00:00Z"}
    assert when(path, "2020-02-03/2020-03-01") == interval
    text = "kind: raster\ninputs: a.tif\noutputs: {taken: 2024-05-01T10:20:30Z}\n"
    (tmp_path / "recipe.yaml").write_text(text)
    assert read_recipe(tmp_path / "recipe.yaml").outputs.taken == "2024-05-01T10:20:30+00:00"
    with pytest.raises(RecipeError, match="taken"):
        recipe_of(tmp_path, tmp_path / "a.tif", tmp_path, outputs={"taken": "last summer"})
    with pytest.raises(RecipeError, match=r"outputs\.stac"):
        parse_recipe({"kind": "volume", "inputs": "a.nii.gz", "outputs": {"stac": True}}, tmp_path)


def test_a_footprint_over_the_antimeridian_is_cut_there() -> None:
    crs = rasterio.crs.CRS.from_epsg(32601).to_wkt()  # UTM 1 N begins at 180 degrees
    grid = Grid("raster", (100, 4000), (100.0, 0.0, 140_000.0, 0.0, -100.0, 6_000_000.0), crs)
    geometry, bounds = footprint(grid)
    assert geometry["type"] == "MultiPolygon"
    assert shape(geometry).is_valid
    west, south, east, north = bounds
    assert west > 170
    assert east < -170
    assert south < north


def test_a_footprint_holds_the_whole_raster() -> None:
    crs = rasterio.crs.CRS.from_epsg(3035).to_wkt()
    turned = Affine(900.0, 100.0, 4_000_000.0, 100.0, -900.0, 3_000_000.0)
    grid = Grid("raster", (300, 500), tuple(turned[:6]), crs)
    outline = shape(footprint(grid)[0])
    rows, columns = np.mgrid[5:295:29, 5:495:49]
    a, b, c, d, e, f = turned[:6]
    xs, ys = (a * columns + b * rows + c).ravel(), (d * columns + e * rows + f).ravel()
    lon, lat = rasterio.warp.transform(crs, "EPSG:4326", xs, ys)
    from shapely import contains_xy

    assert outline.exterior.is_ccw
    assert contains_xy(outline, lon, lat).all()


def test_a_raster_without_a_place_gets_its_label_map_and_a_remedy(tmp_path: Path, model: Path) -> None:
    raster = write_raster(tmp_path / "scene.tif", (80, 70), crs=None)
    outcome = run(recipe_of(tmp_path / "out", raster, model, False, outputs={"stac": True}))
    assert outcome.exit_code == 1
    assert (tmp_path / "out" / "scene_labels.tif").is_file()
    error = outcome.report.scenes[0].error
    assert error is not None
    assert "gdal_edit.py" in error
    assert not (tmp_path / "out" / "collection.json").exists()
    with pytest.raises(OutputError, match="without georeference"):
        footprint(Grid("raster", (5, 5)))


def test_the_vrt_shows_all_label_maps_with_colours_and_names(made: Path) -> None:
    with rasterio.open(made / "town.vrt") as file:
        values, colours = file.read(1), file.colormap(1)
        assert (file.shape, file.nodata) == ((100, 180), 255)
        assert colours[1] == (0x3C, 0x78, 0xB4, 255)
    parts = []
    for name in ("r0_c0", "r0_c90"):
        with rasterio.open(made / f"{name}_labels.tif") as file:
            parts.append(file.read(1))
    np.testing.assert_array_equal(values, np.concatenate(parts, axis=1))
    assert "<F>class 2</F>" in (made / "town.vrt").read_text()


def test_a_collection_goes_with_its_last_item_and_only_if_it_led_to_any(tmp_path: Path, model: Path) -> None:
    raster, out = write_raster(tmp_path / "scene.tif", (60, 70)), tmp_path / "out"
    run(recipe_of(out, raster, model, False, outputs={"stac": True}))
    assert (out / "collection.json").is_file()
    run(recipe_of(out, raster, model, False, outputs={}))
    assert not [path.name for path in out.iterdir() if path.name in ("collection.json", "scene_stac.json")]
    (out / "collection.json").write_text("{}")
    run(recipe_of(out, raster, model, False, outputs={}))
    assert (out / "collection.json").read_text() == "{}"


def test_a_night_adds_its_scenes_to_the_collection_and_to_the_vrt(tmp_path: Path, model: Path) -> None:
    sheets = cut(write_raster(tmp_path / "scene.tif", (100, 210)), tmp_path / "in", (0, 100), (0, 70, 140, 210))
    out = tmp_path / "out"
    recipe = recipe_of(out, sheets, model, False, name="town", outputs={"stac": True, "vrt": True})
    found = find_scenes(recipe, model_of(recipe).card)

    def told() -> tuple[list[str], int]:
        items = pystac.Collection.from_file(str(out / "collection.json")).get_items()
        with rasterio.open(out / "town.vrt") as file:
            return sorted(item.id for item in items), file.width

    run(recipe, scenes=found[:1])
    assert told() == (["r0_c0"], 70)
    run(recipe, scenes=found[1:2])
    assert told() == (["r0_c0", "r0_c70"], 140)
    for path in out.glob("r0_c0_*"):
        path.unlink()
    run(recipe, scenes=found[2:])
    assert told() == (["r0_c140", "r0_c70"], 140)
    run(recipe)
    assert told() == (["r0_c0", "r0_c140", "r0_c70"], 210)


def test_label_maps_on_two_grids_make_no_vrt_and_that_is_told(tmp_path: Path, model: Path) -> None:
    one = write_raster(tmp_path / "a.tif", (70, 80))
    two = write_raster(tmp_path / "b.tif", (70, 80), crs="EPSG:32634")
    outcome = run(recipe_of(tmp_path / "out", [one, two], model, False, name="both", outputs={"vrt": True}))
    assert outcome.exit_code == 1
    assert "both.vrt was not written" in outcome.unpublished[0]
    assert {scene.state for scene in outcome.report.scenes} == {"done"}
    assert not (tmp_path / "out" / "both.vrt").exists()
