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


TRAIN = {
    "name": "toy",
    "classes": [{"id": 0, "name": "a", "colour": "#000000"}],
    "channels": ["red"],
    "patch": [32, 32],
}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "train.loss",
            {"cross_entrpy": 1},
            ("train.loss.cross_entrpy is 'cross_entrpy'", "did you mean cross_entropy"),
        ),
        (
            "train.augment",
            "streeet",
            ("train.augment.preset is 'streeet'", "none, aerial, volume, street", "mean street"),
        ),
        ("train.precision", "fp16", ("one of f32, bf16, f16", "did you mean f16")),
        ("train.patch", 64, ("train.patch is 64", "a list in brackets")),
        ("train.steps", "many", ("train.steps is 'many'", "a whole number")),
        ("compute.workers", 0, ("compute.workers is 0", "expected: 1 or more")),
        ("tiling.tolerance", -1, ("tiling.tolerance is -1", "expected: 0 or more")),
        ("train.class_weights", "median", ("train.class_weights is 'median'", "a list", "did you mean median_f")),
        ("train.validation", {"folds": 3, "fold": "al"}, ("fold is 'al'", "a whole number or all", "did you mean all")),
        ("train.name", "my roads", ("train.name is 'my roads'", "letters, digits", "no blank")),
        ("compute.device", "gpu", ("compute.device is 'gpu'", "auto, cpu, cuda")),
        ("train.classes", [{"id": 0, "name": "a", "colour": "red"}], ("colour is 'red'", '"#RRGGBB"')),
        ("train.augment", {"flips": [True]}, ("the recipe: train\n", "augment.flips is for 1 axes")),
    ],
)
def test_a_value_that_cannot_be_meant_is_named_without_words_of_the_parser(
    key: str, value: Any, said: tuple[str, ...]
) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe({**BASE, "train": TRAIN}, Path(), {key: value})
    for words in said:
        assert words in str(caught.value)
    for words in ("Input should", "String should", "tuple", "[key]", "constrained"):
        assert words not in str(caught.value)


def test_a_key_that_train_lacks_is_told_with_the_others_it_needs() -> None:
    with pytest.raises(RecipeError, match=r"lacks train.name\n.*name, classes, channels and patch"):
        parse_recipe(BASE, Path(), {"train.steps": 2})


def polygons_of(value: Any) -> Any:
    model = {"weights": "builtin:landcover-rgb"}
    recipe = parse_recipe(
        {"kind": "raster", "inputs": "a.tif", "model": model, "outputs": {"polygons": value}}, Path("/data")
    )
    assert recipe.outputs.polygons is not None
    return recipe.outputs.polygons


def test_polygons_take_a_format_a_list_or_a_mapping() -> None:
    assert polygons_of("gpkg").to == ("gpkg",)
    assert polygons_of(["gpkg", "parquet"]).to == ("gpkg", "parquet")
    found = polygons_of({"to": "fgb", "connectivity": 8, "classes": [1, "water"], "sieve": 10})
    assert (found.to, found.connectivity, found.classes, found.sieve) == (("fgb",), 8, (1, "water"), 10)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("shp", "gpkg, parquet, fgb, geojson"),
        ("postgresql://me:hidden@host/gis", "#schema.table"),
        ({"to": "gpkg", "connectivity": 6}, "4"),
        ({"to": "gpkg", "min_area": -1}, "more than 0"),
        (["gpkg", "gpkg"], "each format once"),
    ],
)
def test_polygons_that_cannot_be_meant_are_refused(value: Any, words: str) -> None:
    with pytest.raises(RecipeError) as refused:
        polygons_of(value)
    assert words in str(refused.value)
    assert "hidden" not in str(refused.value)
