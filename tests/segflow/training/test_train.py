"""From a recipe and files to a model that loads, with scores that were measured on what was held back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from affine import Affine

from segflow.errors import RecipeError
from segflow.models.model import load_model
from segflow.recipe import ModelChoice, Recipe, parse_recipe
from segflow.training.train import train

KEYS: dict[str, Any] = {
    "kind": "raster",
    "name": "toy",
    "inputs": "images/*.tif",
    "references": {"path": "labels/{stem}.tif", "map": {7: 2}},
    "outputs": {"folder": "made"},
    "train": {
        "name": "toy",
        "arguments": {"width": 4, "depth": 2},
        "classes": [
            {"id": 1, "name": "dark", "colour": "#000000"},
            {"id": 2, "name": "bright", "colour": "#FFFFFF"},
        ],
        "channels": ["one", "two"],
        "normalisation": {"mean": [100.0], "deviation": [40.0]},
        "patch": [16, 16],
        "steps": 40,
        "learning_rate": 0.01,
        "augment": "aerial",
        "average": 0.9,
        "card": {"patch": [32, 32], "licence": "CC0-1.0", "training": {"data": "generated"}},
    },
}


def write(path: Path, values: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    profile = {"driver": "GTiff", "count": len(values), "height": 64, "width": 64, "dtype": "uint8"}
    with rasterio.open(
        path, "w", crs="EPSG:32632", transform=Affine(1.0, 0.0, 0.0, 0.0, -1.0, 64.0), **profile
    ) as file:
        file.write(values)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for number in range(2):
        bright = np.kron(rng.random((8, 8)) < 0.5, np.ones((8, 8), np.bool_))
        values = 100 + 40 * bright + rng.normal(0, 15, (2, 64, 64))
        write(tmp_path / "images" / f"s{number}.tif", values.clip(0, 255).astype(np.uint8))
        labels = np.where(bright, 7, 1)
        labels[:2] = 0
        write(tmp_path / "labels" / f"s{number}.tif", labels[None].astype(np.uint8))
    return tmp_path


def recipe(folder: Path, **train_keys: Any) -> Recipe:
    return parse_recipe({**KEYS, "train": {**KEYS["train"], **train_keys}}, folder)


@pytest.mark.parametrize("held", [{"scenes": ["s1"]}, {"region": [0.5, 0.0, 0.5, 1.0]}])
def test_a_recipe_gives_a_model_that_loads_and_honest_scores(folder: Path, held: dict[str, Any]) -> None:
    made = train(recipe(folder, validation=held))
    assert made.weights == folder / "made" / "toy.safetensors"
    again = load_model(ModelChoice(weights="made/toy.safetensors"), folder, "raster")
    assert again.card == made.card
    assert made.card.stride == 4
    assert made.card.training["data"] == "generated"
    scored = made.card.scores["held_back"]
    expected = 64 * 62 if "scenes" in held else 2 * 32 * 62
    cells = sum(np.prod([b - a for a, b in zip(row["start"], row["stop"], strict=True)]) for row in scored["on"])
    assert cells * 62 // 64 == expected
    assert scored["overall"]["pixel_accuracy"] > 0.9
    assert "s1" not in "".join(made.card.training["scenes"]) or "region" in held


def test_training_twice_gives_the_same_weights(folder: Path) -> None:
    first = train(recipe(folder, steps=3)).sha256
    for file in (folder / "made" / ".training").iterdir():
        file.unlink()
    torch.manual_seed(99)
    assert train(recipe(folder, steps=3)).sha256 == first


@pytest.mark.parametrize("keys", [{"validation": {"scenes": ["elsewhere"]}}, {"fineness": {"tile9": 3.0}}])
def test_a_name_that_fits_no_scene_is_refused(folder: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="no scene is called"):
        train(recipe(folder, **keys))


def test_holding_everything_back_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match="holds all scenes back"):
        train(recipe(folder, validation={"scenes": ["s*"]}))


def test_a_recipe_without_train_is_refused(folder: Path) -> None:
    with pytest.raises(RecipeError, match="no key train"):
        train(parse_recipe({key: value for key, value in KEYS.items() if key != "train"}, folder))
