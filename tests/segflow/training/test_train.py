"""From a recipe and files to a model that loads, with scores that were measured on what was held back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import rasterio
import torch
from affine import Affine

from segflow.errors import ModelError, RecipeError
from segflow.models.card import Card
from segflow.models.model import load_model
from segflow.models.probabilities import Probabilities
from segflow.recipe import ModelChoice, Recipe, parse_recipe
from segflow.training.train import train

KEYS: dict[str, Any] = {
    "kind": "raster",
    "name": "toy",
    "inputs": "images/*.tif",
    "references": {"path": "labels/{stem}.tif", "map": {7: 2}, "ignore": [0]},
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
    trained = train(recipe(folder, validation=held))
    (made,) = trained.models
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


def test_all_that_a_training_leaves_is_there_and_holds_together(folder: Path) -> None:
    trained = train(recipe(folder, steps=6, validation={"scenes": ["s1"], "every": 3}))
    (made,) = trained.models
    left = {path.name for path in (folder / "made").iterdir()}
    assert left == {
        *(f"toy{end}" for end in (".safetensors", ".yaml", ".onnx", "_training.csv", "_training.html")),
        ".training",
    }
    rows = (folder / "made" / "toy_training.csv").read_text().splitlines()
    assert len(rows) == 1 + 6
    assert "mean_iou" in rows[0]
    assert trained.scores is not None
    assert trained.scores["overall"] is not None
    assert made.card.scores["held_back"]["overall"]["mean_iou"] == round(trained.scores["overall"]["mean_iou"] or 0, 4)
    page = (folder / "made" / "toy_training.html").read_text()
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert any((folder / "made" / ".training" / "toy" / "tensorboard").iterdir())


def test_the_onnx_file_gives_the_networks_probabilities_at_any_size_and_batch(folder: Path) -> None:
    (made,) = train(recipe(folder, steps=2)).models
    session = onnxruntime.InferenceSession(made.weights.with_suffix(".onnx"))
    values = np.random.default_rng(0).normal(size=(3, 2, 24, 40)).astype(np.float32)
    with torch.inference_mode():
        expected = Probabilities(made.network(), made.card)(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(session.run(None, {"x": values})[0], expected, atol=1e-5)
    told = session.get_modelmeta().custom_metadata_map
    assert Card.model_validate_json(told["segflow_card"]) == made.card
    assert json.loads(told["class_names"]) == {"0": "dark", "1": "bright"}


def test_a_cross_validation_makes_a_model_a_fold_and_scores_every_scene_once(folder: Path) -> None:
    trained = train(recipe(folder, steps=3, validation={"folds": 2, "fold": "all"}))
    assert [model.card.name for model in trained.models] == ["toy-fold0", "toy-fold1"]
    held = [model.card.scores["held_back"]["on"][0]["scene"] for model in trained.models]
    assert sorted(held) == ["images/s0", "images/s1"]
    assert trained.scores is not None
    assert trained.scores["confusion_matrix"] is not None
    assert np.sum(trained.scores["confusion_matrix"]["counts"]) == 2 * 64 * 62


def test_a_training_can_start_from_another_models_weights(folder: Path) -> None:
    (first,) = train(recipe(folder, steps=20)).models
    start = {"start": "made/toy.safetensors", "name": "second", "steps": 1, "average": 0.0, "learning_rate": 1e-9}
    (second,) = train(recipe(folder, **start)).models
    kept, again = (model.network().state_dict()["head.weight"] for model in (first, second))
    torch.testing.assert_close(again, kept, atol=1e-3, rtol=1e-3)
    with pytest.raises(ModelError, match="do not fit"):
        train(recipe(folder, **start, arguments={"width": 6, "depth": 2}))


def test_training_twice_gives_the_same_weights(folder: Path) -> None:
    first = train(recipe(folder, steps=3)).models[0].sha256
    shutil.rmtree(folder / "made" / ".training")
    torch.manual_seed(99)
    assert train(recipe(folder, steps=3)).models[0].sha256 == first


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


def test_a_patch_that_the_network_cannot_halve_is_refused_by_its_own_key(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"(?s)train\.patch is \[30, 30\].*take \[32, 32\]"):
        train(recipe(folder, patch=[30, 30]))
