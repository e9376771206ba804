"""STAC items and collections: pystac accepts and understands them; extensions are checked by their own rules.

The JSON schemas of extensions lie on a server only: `pystac` has those of STAC itself, which are used here.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

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
from pipelines.publishing.exporting import refusals
from pipelines.runner import Lot
from segflow.errors import OutputError, RecipeError
from segflow.grid import Grid
from segflow.io.exports import Published
from segflow.io.exports.stac import Stac
from segflow.io.exports.stac_facts import footprint, projected, when
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


def test_the_library_of_the_mlm_extension_reads_the_model(made: Path) -> None:
    """Its schema lies on a server; its authors' own types are a package. They took no class that has a title."""
    from stac_model.schema import MLModelProperties

    properties = item_of(made, "r0_c0")["properties"]
    read = MLModelProperties(**{key: value for key, value in properties.items() if key.startswith("mlm:")})
    assert [one.value for one in read.output[0].classes] == [1, 2, 3]
    assert read.input[0].input.shape == properties["mlm:input"][0]["input"]["shape"]


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


@pytest.mark.parametrize(("code", "pole"), [(3413, 90.0), (3031, -90.0)])
def test_a_footprint_around_a_pole_holds_the_pole(code: int, pole: float) -> None:
    crs = rasterio.crs.CRS.from_epsg(code).to_wkt()
    grid = Grid("raster", (150, 180), (500.0, 0.0, -60_000.0, 0.0, -500.0, 60_000.0), crs)
    geometry, (west, south, east, north) = footprint(grid)
    outline = shape(geometry)
    assert outline.is_valid
    assert (west, east) == (-180, 180)
    assert pole in (south, north)
    rows, columns = np.mgrid[1:149:11, 1:179:13]
    xs, ys = (500.0 * columns - 60_000).ravel(), (60_000 - 500.0 * rows).ravel()
    lon, lat = rasterio.warp.transform(crs, "EPSG:4326", xs, ys)
    from shapely import intersects_xy

    assert intersects_xy(outline, lon, lat).all()
    assert not intersects_xy(outline, np.linspace(-179, 179, 50), np.full(50, pole * 0.98)).any()


def test_the_footprint_of_the_whole_world_has_the_box_of_the_whole_world() -> None:
    crs = rasterio.crs.CRS.from_epsg(4326).to_wkt()
    for west in (-180.0, 0.0, -180.5):
        grid = Grid("raster", (181, 360), (1.0, 0.0, west, 0.0, -1.0, 90.5), crs)
        geometry, bounds = footprint(grid)
        assert bounds == [-180, -90, 180, 90]
        assert shape(geometry).is_valid


def test_a_local_crs_costs_the_item_alone(tmp_path: Path, model: Path) -> None:
    """GDAL's error for it is none of those that rasterio is known for: it took the whole scene."""
    raster = write_raster(tmp_path / "scene.tif", (80, 70), crs='LOCAL_CS["site",UNIT["metre",1]]')
    outcome = run(recipe_of(tmp_path / "out", raster, model, False, outputs={"stac": True}))
    assert outcome.exit_code == 1
    assert outcome.report.scenes[0].state == "done"
    assert (tmp_path / "out" / "scene_labels.tif").is_file()
    assert "no longitude and latitude" in (outcome.report.scenes[0].error or "")


def test_a_crs_without_a_code_is_written_out() -> None:
    from pyproj import CRS

    crs = rasterio.crs.CRS.from_user_input("EPSG:25832+7837").to_wkt()
    told = projected(Grid("raster", (3, 4), (0.5, 0.0, 5e5, 0.0, -0.5, 5.4e6), crs))
    assert told["proj:code"] is None
    assert CRS.from_wkt(told["proj:wkt2"]).sub_crs_list[0].to_epsg() == 25832


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a;b"])
def test_a_name_that_links_cannot_hold_is_refused_and_the_label_map_is_there(
    tmp_path: Path, model: Path, name: str
) -> None:
    """A reader that takes links for paths finds `a?b` by no spelling that one who takes them for URLs finds it by."""
    raster = write_raster(tmp_path / f"{name}.tif", (80, 70))
    recipe = recipe_of(tmp_path / "out", str(tmp_path / "*.tif"), model, False, outputs={"stac": True})
    outcome = run(recipe)
    assert outcome.exit_code == 1
    assert "outputs.name" in (outcome.report.scenes[0].error or "")
    assert (tmp_path / "out" / f"{name}_labels.tif").is_file()
    named = recipe_of(tmp_path / "two", str(raster.parent / "*.tif"), model, False, outputs={"stac": True, "name": "n"})
    assert run(named).exit_code == 0
    (item,) = pystac.Collection.from_file(str(tmp_path / "two" / "collection.json")).get_items()
    assert all(Path(a.get_absolute_href() or "").is_file() for key, a in item.assets.items() if key != "model")
    (source,) = item.get_links("derived_from")
    assert Path(unquote(source.href)).name == raster.name


def test_names_with_spaces_and_letters_of_any_script_lead_to_their_files(tmp_path: Path, model: Path) -> None:
    write_raster(tmp_path / "in" / "Straße nach 東京, 'b' & <c>.tif", (80, 70))
    recipe = recipe_of(tmp_path / "out", str(tmp_path / "in" / "*.tif"), model, False, outputs={**ASKED, "vrt": True})
    assert run(recipe).exit_code == 0
    (item,) = pystac.Collection.from_file(str(tmp_path / "out" / "collection.json")).get_items()
    assert all(Path(asset.get_absolute_href() or "").is_file() for asset in item.assets.values())


def test_what_an_exporter_meets_while_it_is_asked_does_not_stop_a_run(made: Path) -> None:
    class Broken(Stac):
        def require(self, published: Published) -> None:
            raise ZeroDivisionError("nobody thought of this")

    published = Published("s", made, {}, Grid("raster", (5, 5)), None, (), None, 0, "", "")  # type: ignore[arg-type]
    (told,) = refusals([Broken("c", None, [])], published)
    assert "outputs.stac may not be written" in told


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

    run(recipe, lot=Lot(found[:1]))
    assert told() == (["r0_c0"], 70)
    run(recipe, lot=Lot(found[1:2]))
    assert told() == (["r0_c0", "r0_c70"], 140)
    for path in out.glob("r0_c0_*"):
        path.unlink()
    run(recipe, lot=Lot(found[2:]))
    assert told() == (["r0_c140", "r0_c70"], 140)
    run(recipe)
    assert told() == (["r0_c0", "r0_c140", "r0_c70"], 210)


def test_label_maps_on_two_grids_make_no_vrt_and_that_is_told(tmp_path: Path, model: Path) -> None:
    one = write_raster(tmp_path / "a.tif", (70, 80))
    run(recipe_of(tmp_path / "out", [one], model, False, name="both", outputs={"vrt": True}))
    assert (tmp_path / "out" / "both.vrt").is_file()
    two = write_raster(tmp_path / "b.tif", (70, 80), crs="EPSG:32634")
    outcome = run(recipe_of(tmp_path / "out", [one, two], model, False, name="both", outputs={"vrt": True}))
    assert outcome.exit_code == 1
    assert "both.vrt was not written" in outcome.unpublished[0]
    assert [scene.state for scene in outcome.report.scenes] == ["unchanged", "done"]
    assert not (tmp_path / "out" / "both.vrt").exists()
