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
from safetensors.torch import load_file

from segflow.errors import ModelError, OutputError, RecipeError
from segflow.io.lock import locked
from segflow.models.card import Card
from segflow.models.load import load_model
from segflow.models.probabilities import Probabilities
from segflow.recipe import ModelChoice, Recipe, parse_recipe
from segflow.training.train import train
from segflow.training.write import write_weights

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


def left(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "made").iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"learning_rate": 0.02}, r"train\.learning_rate was 0\.01, is 0\.02"),
        ({"loss": {"dice": 1.0}}, r"train\.loss was not set, is {\"dice\": 1\.0}"),
        ({"validation": {"scenes": ["s0"]}}, r"train\.validation\.scenes was \[\"s1\"\], is \[\"s0\"\]"),
        ({"card": {"gsd": 2.0}}, r"train\.card\.gsd was not set, is 2\.0"),
        ({"augment": {"preset": "aerial", "noise": 0.3}}, r"train\.augment"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_not_gone_on_with(folder: Path, keys: dict[str, Any], said: str) -> None:
    first = {"steps": 2, "validation": {"scenes": ["s1"]}}
    train(recipe(folder, **first))
    before = left(folder)
    with pytest.raises(OutputError, match=said):
        train(recipe(folder, **{**first, "steps": 4, **keys}))
    assert left(folder) == before


def test_a_checkpoint_of_other_labels_or_other_scenes_is_not_gone_on_with(folder: Path) -> None:
    train(recipe(folder, steps=1))
    write(folder / "labels" / "s1.tif", np.full((1, 64, 64), 7, np.uint8))
    with pytest.raises(OutputError, match="scene images/s1 has other cells or labels"):
        train(recipe(folder, steps=2))
    (folder / "images" / "s1.tif").unlink()
    with pytest.raises(OutputError, match="scene images/s1 is gone"):
        train(recipe(folder, steps=2))


def test_length_looks_and_words_of_the_card_may_change_and_the_folder_may_move(folder: Path) -> None:
    train(recipe(folder, steps=2))
    moved = folder.rename(folder.with_name("moved"))
    card = {**KEYS["train"]["card"], "licence": "CC-BY-4.0"}
    (made,) = train(recipe(moved, steps=4, card=card, checkpoint_every=1)).models
    assert made.card.training["steps"] == 4
    assert made.card.licence == "CC-BY-4.0"


@pytest.mark.parametrize(
    "card",
    [
        {"activation": "sigmoid"},
        {"activation": "none"},
        {"activation": "sigmoid", "regions": [{"channel": 0, "id": 2}]},
        {"classes": [{"id": 3, "name": "three", "colour": "#000000"}]},
        {"arguments": {"width": 8}},
        {"normalisation": {"mean": [1.0]}},
    ],
)
def test_a_card_that_would_tell_of_another_network_than_is_trained_is_refused(
    folder: Path, card: dict[str, Any]
) -> None:
    with pytest.raises(RecipeError, match=rf"train\.card\.{next(iter(card))}"):
        train(recipe(folder, card=card))
    assert not (folder / "made").exists()


def test_two_trainings_of_one_name_do_not_share_a_folder_and_two_names_do(folder: Path) -> None:
    with locked(folder / "made" / ".training" / "toy.lock"):
        with pytest.raises(OutputError, match="another training of toy is working in"):
            train(recipe(folder, steps=1))
        train(recipe(folder, steps=1, name="other"))


def test_a_model_stays_whole_with_its_own_card_until_the_new_one_is_ready(folder: Path) -> None:
    """The page, written last before the weights, cannot be: no mixture of two models is seen."""
    held = {"scenes": ["s1"]}
    train(recipe(folder, steps=1, validation=held))
    before = left(folder)
    page = folder / "made" / "toy_training.html"
    page.unlink()
    page.mkdir()
    with pytest.raises(OutputError, match=r"toy_training\.html cannot be written"):
        train(recipe(folder, steps=2, validation=held))
    now = left(folder)
    assert all(now[name] == before[name] for name in ("toy.safetensors", "toy.yaml"))
    page.rmdir()
    train(recipe(folder, steps=2, validation=held))
    assert all(left(folder)[name] != before[name] for name in ("toy.safetensors", "toy.yaml"))


def test_weights_beyond_float16_are_kept_as_float32_and_those_that_are_no_numbers_refused(tmp_path: Path) -> None:
    large, small = torch.tensor([1e6, 1.0]), torch.tensor([1.0, 2.0])
    write_weights({"large": large, "small": small}, tmp_path / "a.safetensors")
    kept = load_file(tmp_path / "a.safetensors")
    assert torch.equal(kept["large"], large)
    assert kept["small"].dtype == torch.float16
    with pytest.raises(ModelError, match="weight large is not finite"):
        write_weights({"large": large / 0}, tmp_path / "a.safetensors")


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_that_cannot_be_one_is_refused(folder: Path, seed: int) -> None:
    with pytest.raises(RecipeError, match="seed"):
        recipe(folder, seed=seed)


def test_a_recipe_that_forgets_the_normalisation_is_warned_of(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(recipe(folder, steps=1))
    assert "normalisation is not given" not in caplog.text
    without = {key: value for key, value in KEYS["train"].items() if key != "normalisation"}
    train(parse_recipe({**KEYS, "outputs": {"folder": "raw"}, "train": {**without, "steps": 1}}, folder))
    assert "train.normalisation is not given" in caplog.text
