"""What does not fit is refused before anything runs, with settings that do: each is followed here."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml

from pipelines.network.engine import Engine
from pipelines.network.settle import settle
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.room import require_room
from pipelines.planning.scenes import Selection, find_scenes
from segflow.backends.room import require_room as require_device_room
from segflow.errors import PlanError
from segflow.memory import rss_bytes
from segflow.models.card import LabelClass
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_raster

MIB = 1 << 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    classes = tuple(LabelClass(id=k, name=f"class {k}", colour=f"#{k * 1000:06x}") for k in range(100))
    return make_model(tmp_path_factory.mktemp("model"), classes=classes, ignore=(), patch=(256, 256))


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[Engine]:
    made = settle(recipe_of("none.tif", weights))
    yield replace(made, base_bytes=700 * MIB, activation_bytes=8 * MIB)
    made.close()


def recipe_of(inputs: str, weights: Path, changes: dict[str, Any] | None = None) -> Recipe:
    data = {"kind": "raster", "inputs": {"path": inputs}, "model": {"weights": str(weights)}}
    return parse_recipe(data, weights.parent, changes or {}, "a test")


def plan(recipe: Recipe, engine: Engine) -> ScenePlan:
    (item,) = find_scenes(recipe, engine.model.card)
    return plan_scene(recipe, item, engine, Selection())


def remedies(error: PlanError) -> list[dict[str, Any]]:
    """The settings that a refusal names, one mapping for each way out."""
    found = []
    for part in error.remedy.split("; or "):
        pairs = re.findall(r"([a-z]+\.[a-z]+): ([^;]+?)(?= and |$)", part)
        if part.startswith("set ") and pairs:
            found.append({key: yaml.safe_load(value) for key, value in pairs})
    return found


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"tiling.block": "whole"}, "tiling.block"),
        ({"tiling.block": 2048}, "tiling.accumulator"),
        ({"compute.workers": 4, "tiling.block": 2048}, "compute.workers"),
    ],
)
def test_every_setting_that_a_refusal_for_memory_names_makes_it_fit(
    tmp_path: Path, weights: Path, engine: Engine, changes: dict[str, Any], named: str
) -> None:
    raster = write_raster(tmp_path / "a.tif", (2048, 2048))
    fitting = plan(recipe_of(str(raster), weights, changes), engine)
    need = fitting.demand.run_bytes(fitting.workers)
    least = fitting.demand.base_bytes + fitting.demand.storage_bytes + fitting.demand.finish_bytes
    room = {"compute.memory": f"{max(need - 8 * MIB, least) // MIB} MiB"}
    with pytest.raises(PlanError) as caught:
        plan(recipe_of(str(raster), weights, changes | room), engine)
    ways = remedies(caught.value)
    assert any(named in way for way in ways)
    assert any("compute.memory" in way for way in ways)
    for way in ways:
        if not {"tiling.batch", "tiling.patch"} & way.keys():  # for these the network is measured anew
            plan(recipe_of(str(raster), weights, changes | room | way), engine)


def test_with_far_too_little_memory_a_remedy_need_be_followed_but_once(tmp_path: Path, weights: Path) -> None:
    raster = str(write_raster(tmp_path / "a.tif", (600, 600)))
    tight = {"compute.memory": f"{rss_bytes() // MIB - 50} MiB", "tiling.batch": 2, "compute.backend": "openvino"}
    with pytest.raises(PlanError) as caught:
        settle(recipe_of(raster, weights, tight))
    ways = remedies(caught.value)
    assert any("compute.memory" in way for way in ways)
    for way in ways:
        recipe = recipe_of(raster, weights, tight | way)
        with closing(settle(recipe)) as made:
            plan(recipe, made)


def test_a_batch_that_a_gpu_does_not_hold_is_refused_with_the_one_that_it_would() -> None:
    require_device_room("cuda:0", 3 * MIB, 4, 12 * MIB)
    with pytest.raises(PlanError, match=r"tiling\.batch: 3"):
        require_device_room("cuda:0", 3 * MIB, 4, 11 * MIB)
    with pytest.raises(PlanError, match=r"tiling\.patch"):
        require_device_room("cuda:0", 3 * MIB, 4, 2 * MIB)


def test_a_scene_whose_files_do_not_fit_on_the_disk_is_refused_with_what_would(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    tile = write_raster(tmp_path / "tile.tif", (64, 64))
    # as many cells as fit on this disk without the confidence map, and not with it
    side = int((shutil.disk_usage(tmp_path).free / 2.0) ** 0.5)
    raster = write_empty(tmp_path / "large.vrt", tile, side)
    changes = {"outputs.folder": str(tmp_path / "out"), "outputs.confidence": True, "compute.memory": "900 GB"}
    recipe = recipe_of(str(raster), weights, changes)
    with pytest.raises(PlanError) as caught:
        require_room(recipe, plan(recipe, engine).disk)
    assert {"outputs.confidence": False} in remedies(caught.value)
    plain = recipe_of(str(raster), weights, changes | {"outputs.confidence": False})
    require_room(plain, plan(plain, engine).disk)


def test_polygons_that_fill_the_disk_are_named_among_what_can_be_left_out(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    tile = write_raster(tmp_path / "tile.tif", (64, 64))
    raster = write_empty(tmp_path / "large.vrt", tile, int((shutil.disk_usage(tmp_path).free / 2.0) ** 0.5))
    changes = {"outputs.folder": str(tmp_path / "out"), "compute.memory": "900 GB"}
    asked = recipe_of(str(raster), weights, changes | {"outputs.polygons": ["gpkg", "fgb"]})
    with pytest.raises(PlanError) as caught:
        require_room(asked, plan(asked, engine).disk)
    assert {"outputs.polygons": None} in remedies(caught.value)
    without = recipe_of(str(raster), weights, changes)
    require_room(without, plan(without, engine).disk)


def test_polygons_that_do_not_fit_in_memory_are_named_among_what_can_be_left_out(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    raster = str(write_raster(tmp_path / "a.tif", (600, 600)))
    need = plan(recipe_of(raster, weights), engine).demand.run_bytes(1)
    tight = {"compute.memory": f"{need // MIB + 8} MiB"}
    plan(recipe_of(raster, weights, tight), engine)
    with pytest.raises(PlanError) as caught:
        plan(recipe_of(raster, weights, tight | {"outputs.polygons": "gpkg"}), engine)
    assert {"outputs.polygons": None} in remedies(caught.value)


def test_what_an_interrupted_run_has_stored_is_not_asked_for_again(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    recipe = recipe_of(str(write_raster(tmp_path / "a.tif")), weights, {"outputs.folder": str(tmp_path / "out")})
    disk = replace(plan(recipe, engine).disk, unpacked_bytes=shutil.disk_usage(tmp_path).free + (64 << 20))
    with pytest.raises(PlanError):
        require_room(recipe, disk, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with (tmp_path / "out" / "stored").open("wb") as file:
        file.truncate(1 << 30)
    assert require_room(recipe, disk, tmp_path / "out") is not None


def test_a_plan_of_ten_gigapixels_or_of_many_scenes_is_made_in_no_time(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    tile = write_raster(tmp_path / "tile.tif", (64, 64))
    large = recipe_of(str(write_empty(tmp_path / "large.vrt", tile, 100_000)), weights)
    began = process_time()
    assert plan(large, engine).task.layout.forwards > 250_000
    assert process_time() - began < 5
    for number in range(100):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number}.tif").hardlink_to(tile)
    many = recipe_of(str(tmp_path / "many"), weights)
    scenes = find_scenes(many, engine.model.card)
    began = process_time()
    plans = [plan_scene(many, item, engine, Selection()) for item in scenes]
    assert len({one.fingerprint for one in plans}) == 1
    assert (process_time() - began) / 100 < 0.1


def write_empty(path: Path, tile: Path, side: int) -> Path:
    """Write a VRT of three bands that holds one tile in a corner of a square."""
    source = f'<SourceFilename relativeToVRT="0">{tile}</SourceFilename>'
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource>{source}<SourceBand>{band}</SourceBand>'
        '<SrcRect xOff="0" yOff="0" xSize="64" ySize="64"/><DstRect xOff="0" yOff="0" xSize="64" ySize="64"/>'
        "</SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path.write_text(f'<VRTDataset rasterXSize="{side}" rasterYSize="{side}">{bands}</VRTDataset>')
    return path
