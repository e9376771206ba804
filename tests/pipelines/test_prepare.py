"""Planning: what storage, references and previews make of a scene's plan, before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from pipelines.network.engine import Engine
from pipelines.network.settle import settle
from pipelines.planning.plan import ScenePlan, read_plan, write_plan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import NamedScene, Selection, find_scenes
from segflow.errors import InputError, PlanError
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_labels, write_raster, write_volume


def recipe_of(inputs: Any, model: Path, **parts: Any) -> Recipe:
    data = {"kind": "raster", "inputs": inputs, "model": {"weights": str(model)}, **parts}
    return parse_recipe(data, model.parent)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(weights: Path) -> Iterator[Engine]:
    made = settle(recipe_of("none.tif", weights))
    yield made
    made.close()


def plan(recipe: Recipe, engine: Engine, selection: Selection | None = None) -> ScenePlan:
    (item,) = find_scenes(recipe, engine.model.card)
    assert isinstance(item, NamedScene)
    return plan_scene(recipe, item, engine, selection or Selection())


def test_a_file_in_stripes_is_swept_down_its_rows_and_a_tiled_one_along_its_longest_axis(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    tiled = write_raster(tmp_path / "tiled.tif", (150, 700))
    stripes = write_raster(tmp_path / "stripes.tif", (150, 700), tiled=False, blockxsize=700, blockysize=1)
    assert plan(recipe_of(str(tiled), weights), engine).task.layout.sweep == 1
    assert plan(recipe_of(str(stripes), weights), engine).task.layout.sweep == 0


def test_a_plan_reads_back_as_it_was_written(tmp_path: Path, weights: Path, engine: Engine) -> None:
    raster = write_raster(tmp_path / "a.tif")
    truth = write_labels(tmp_path / "t.tif", np.ones((300, 260), np.uint8), raster)
    references = {"path": str(truth), "map": {7: 2}, "ignore": [9], "region": [10, 20, 30, 40]}
    made = plan(recipe_of(str(raster), weights, references=references, compute={"workers": 3}), engine)
    write_plan(made, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == made
    assert read_plan(tmp_path / "plan.json").staging_key == made.staging_key


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"tiling": {"block": 64}}, True),
        ({"compute": {"workers": 2}}, True),
        ({"tiling": {"blend": "hann"}}, False),
        ({"tiling": {"overlap": 0.5}}, False),
        ({"outputs": {"confidence": True}}, False),
        ({"outputs": {"nodata": 254}}, False),
        ({"inputs": {"nodata": 17}}, False),
        ({"inputs": {"bands": [3, 2, 1]}}, False),
        ({"references": {"map": {5: 2}}}, False),
        ({"references": {"ignore": [1]}}, False),
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_what_changes_bits_or_scores_and_with_nothing_else(
    tmp_path: Path, weights: Path, engine: Engine, change: dict[str, Any], same: bool
) -> None:
    raster = write_raster(tmp_path / "a.tif")
    truth = write_labels(tmp_path / "t.tif", np.ones((300, 260), np.uint8), raster)
    parts: dict[str, Any] = {"inputs": {"path": str(raster)}, "references": {"path": str(truth)}}
    plain = plan(recipe_of(parts["inputs"], weights, references=parts["references"]), engine)
    merged = {key: {**parts.get(key, {}), **value} for key, value in {**parts, **change}.items()}
    inputs = merged.pop("inputs")
    changed = plan(recipe_of(inputs, weights, **merged), engine)
    assert (changed.fingerprint == plain.fingerprint) is same


def test_unknown_ids_of_a_reference_are_all_named_before_anything_runs(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    raster = write_raster(tmp_path / "a.tif")
    truth = np.ones((300, 260), np.uint8)
    truth[-1, -3:] = 8
    truth[0, 0] = 200
    path = write_labels(tmp_path / "t.tif", truth, raster)
    with pytest.raises(InputError, match=r"8 \(3 cells\), 200 \(1 cells\)"):
        plan(recipe_of(str(raster), weights, references=str(path)), engine)
    known = {"path": str(path), "map": {8: 2}, "ignore": [200]}
    assert plan(recipe_of(str(raster), weights, references=known), engine).reference is not None


def test_a_reference_of_several_channels_is_refused(tmp_path: Path) -> None:
    weights = make_model(tmp_path / "m", "volume")
    volume = write_volume(tmp_path / "v.nii.gz")
    image = nib.load(volume)
    nib.save(nib.Nifti1Image(np.zeros((*image.shape, 2), np.uint8), image.affine), tmp_path / "r.nii.gz")
    recipe = parse_recipe(
        {
            "kind": "volume",
            "inputs": str(volume),
            "model": {"weights": str(weights)},
            "references": str(tmp_path / "r.nii.gz"),
        },
        tmp_path,
    )
    engine = settle(recipe)
    try:
        with pytest.raises(InputError, match="2 channels"):
            plan(recipe, engine)
    finally:
        engine.close()


def test_what_does_not_fit_in_memory_is_refused_with_the_settings_that_would(
    tmp_path: Path, weights: Path, engine: Engine
) -> None:
    raster = write_raster(tmp_path / "a.tif")
    with pytest.raises(PlanError, match=r"compute\.memory"):
        plan(recipe_of(str(raster), weights, compute={"memory": "1 MiB"}), engine)
