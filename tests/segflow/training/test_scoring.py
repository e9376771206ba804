"""Scores while training are those of `segflow run`: the same counts, cell for cell, from the model that is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

import pipelines
from segflow.models.card import read_card
from segflow.models.model import Model
from segflow.recipe import Recipe, parse_recipe
from segflow.training.scenes import index_of, open_pairs, scenes_of
from segflow.training.scoring import Scoring, score_scenes
from tests.making import make_model, write_labels, write_raster

IDS = {"raster": (1, 2, 3), "volume": (0, 1, 2)}


def labels_like(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Blocks of ids with some that are ignored (0), mapped (7) and far too few (9 stands for ignore in the recipe)."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice([0, 1, 2, 3, 7, 9], tuple(-(-n // 16) for n in shape)).astype(np.uint8)
    return np.kron(blocks, np.ones((16,) * len(shape), np.uint8))[tuple(slice(n) for n in shape)]


def keys(kind: str, weights: Path, **changes: Any) -> dict[str, Any]:
    card = read_card(weights.with_suffix(".yaml"))
    return {
        "kind": kind,
        "inputs": "images/*.tif" if kind == "raster" else "images/*.nii.gz",
        "references": {
            "path": "labels/{stem}.*",
            "map": {7: 2} if kind == "raster" else {7: 2, 3: 0},
            "ignore": [9],
        },
        "model": {"weights": str(weights)},
        "outputs": {"folder": "made"},
        "train": {
            "name": "toy",
            "classes": [item.model_dump() for item in card.classes],
            "channels": card.channels,
            "patch": card.patch,
            "card": {"ignore": list(card.ignore)},
            "validation": {"scenes": ["held*"]},
        },
        **changes,
    }


def half(weights: Path) -> Path:
    """Round the weights to float16, as `train` writes them."""
    state = load_file(weights)
    save_file({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, weights)
    return weights


def score(recipe: Recipe, weights: Path, **options: Any) -> Scoring:
    model = Model(read_card(weights.with_suffix(".yaml")), weights)
    _, scored = scenes_of(recipe, open_pairs(recipe, model.card))
    return score_scenes(model.network(), model.card, scored, index_of(recipe), recipe.tiling, recipe.compute, **options)


def rasters(folder: Path, **profile: Any) -> None:
    (folder / "labels").mkdir(exist_ok=True)
    for number, name in enumerate(("held1", "held2", "other")):
        shape = (150 + 10 * number, 210)
        path = write_raster(
            folder / "images" / f"{name}.tif", shape, number, hole=(slice(40, 70), slice(90)), **profile
        )
        write_labels(folder / "labels" / f"{name}.tif", labels_like(shape, number), path)


def run_counts(recipe: Recipe) -> dict[str, Any]:
    result = pipelines.run(recipe)
    return {state.scene: state.report.counts for state in result.report.scenes if state.report is not None}


@pytest.mark.parametrize("gsd", [None, 0.7])
@pytest.mark.parametrize("backend", ["auto", "torch"])
def test_counts_equal_those_of_a_run_on_rasters(tmp_path: Path, gsd: float | None, backend: str) -> None:
    rasters(tmp_path)
    weights = half(make_model(tmp_path / "model", gsd=gsd))
    recipe = parse_recipe(keys("raster", weights, compute={"backend": backend}), tmp_path)
    found = score(recipe, weights)
    expected = run_counts(recipe)
    assert {name.rpartition("/")[2] for name in found.scenes} == {"held1", "held2"}
    for name, counts in found.scenes.items():
        assert counts == expected[name.rpartition("/")[2]]
    assert found.total.matrix is not None
    assert found.total.matrix.sum() > 1000
