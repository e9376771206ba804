"""What a recipe means: where its paths start from, and that nothing in it is ignored in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from segflow.errors import RecipeError
from segflow.recipe import Recipe, parse_recipe, read_recipe

BASE = {"kind": "raster", "inputs": "a.tif", "references": "b.tif", "model": {"weights": "builtin:landcover-rgb"}}
VOLUME = {**BASE, "kind": "volume"}


def with_settings(folder: Path, **settings: Any) -> Recipe:
    """Read a recipe in a folder beside the working directory."""
    folder.mkdir()
    path = folder / "recipe.yaml"
    path.write_text("kind: raster\ninputs: a.tif\nmodel: {weights: w.safetensors}\n")
    return read_recipe(path, settings)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_paths_in_a_recipe_start_from_its_folder(here: Path, tmp_path: Path) -> None:
    recipe = with_settings(tmp_path / "there")
    assert isinstance(recipe.inputs.path, str)
    assert recipe.resolve(recipe.inputs.path) == tmp_path / "there" / "a.tif"


@pytest.mark.parametrize("key", ["inputs", "inputs.path"])
def test_a_list_of_paths_set_on_the_command_line_starts_from_the_working_directory(
    key: str, here: Path, tmp_path: Path
) -> None:
    recipe = with_settings(tmp_path / "there", **{key: ["a.tif", "/b.tif", "https://host/c.tif", "/vsizip/d.zip/e"]})
    assert recipe.inputs.path == (str(here / "a.tif"), "/b.tif", "https://host/c.tif", "/vsizip/d.zip/e")


def test_paths_in_a_mapping_set_on_the_command_line_start_from_the_working_directory(
    here: Path, tmp_path: Path
) -> None:
    recipe = with_settings(
        tmp_path / "there",
        inputs={"path": ["*.tif"], "aoi": "area.gpkg"},
        references={"path": "labels/{stem}.tif", "ignore": [7]},
        outputs={"folder": "res", "name": "{parent}_{stem}"},
        model={"weights": "w.safetensors"},
    )
    assert recipe.inputs.path == (str(here / "*.tif"),)
    assert recipe.inputs.aoi == str(here / "area.gpkg")
    assert recipe.references is not None
    assert recipe.references.path == str(here / "labels/{stem}.tif")
    assert recipe.references.ignore == (7,)
    assert recipe.folder == here / "res"
    assert recipe.outputs.name == "{parent}_{stem}"
    assert recipe.model is not None
    assert recipe.model.weights == str(here / "w.safetensors")


def test_patterns_of_channels_start_from_the_inputs_and_stay_as_they_are(here: Path) -> None:
    channels = {"t1": "{case}_t1.nii.gz"}
    settings = {"inputs": {"path": "cases", "channels": channels}}
    recipe = parse_recipe({"kind": "volume", "inputs": "x"}, Path("/elsewhere"), settings)
    assert recipe.inputs.path == str(here / "cases")
    assert recipe.inputs.channels == channels


@pytest.mark.parametrize("weights", ["builtin:landcover-rgb", "/models/w.safetensors", "~/w.safetensors"])
def test_weights_that_start_elsewhere_are_left_alone(weights: str, here: Path, tmp_path: Path) -> None:
    recipe = with_settings(tmp_path / "there", model={"weights": weights})
    assert recipe.model is not None
    assert recipe.model.weights == weights


@pytest.mark.parametrize(
    ("base", "key", "value"),
    [
        (VOLUME, "inputs.bands", [1]),
        (VOLUME, "inputs.nodata", 0),
        (VOLUME, "inputs.collar", True),
        (VOLUME, "inputs.aoi", "area.gpkg"),
        (VOLUME, "references.region", [0, 0, 5, 5]),
        (VOLUME, "outputs.nodata", 0),
        (VOLUME, "model.gsd", 0.5),
        (BASE, "inputs.channels", {"red": "{case}_r.tif"}),
        (BASE, "inputs.resample_to", "red"),
        (BASE, "model.spacing", [1, 1, 1]),
    ],
)
def test_a_setting_of_the_other_kind_is_refused(base: dict[str, Any], key: str, value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(base, Path(), {key: value})
    other = "raster" if base["kind"] == "volume" else "volume"
    assert key in caught.value.found
    assert other in caught.value.expected
    assert f"remove {key}" in caught.value.remedy
    assert parse_recipe({**base, "kind": other}, Path(), {key: value}).kind == other
