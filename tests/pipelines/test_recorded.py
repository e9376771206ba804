"""What stands in an output folder decides `auto`: a second run does nothing again, whatever a trial would say now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from pipelines.network.recorded import recorded_in
from pipelines.runner import run
from pipelines.workshop import HIDDEN
from segflow.backends import Recorded
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import Standardiser
from segflow.recipe import Recipe
from segflow.report import from_json
from segflow.sweep import Head, Task
from segflow.sweep.sample import sample_patches
from tiling import Box, Lattice, Layout

WEIGHTS = "builtin:landcover-rgb"


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path / "cache"))
    values = np.random.default_rng(0).integers(0, 255, (3, 96, 80), np.uint8)
    profile: dict[str, Any] = {"driver": "GTiff", "width": 80, "height": 96, "count": 3, "dtype": "uint8"}
    transform = rasterio.Affine(0.5, 0, 4e5, 0, -0.5, 5e6)
    with rasterio.open(tmp_path / "scene.tif", "w", crs="EPSG:32632", transform=transform, **profile) as file:
        file.write(values)
    return Recipe.model_validate(
        {
            "kind": "raster",
            "name": "recorded",
            "inputs": {"path": str(tmp_path / "scene.tif")},
            "model": {"weights": WEIGHTS},
            "tiling": {"patch": 64},
            "compute": {"device": "cpu"},
            "outputs": {"folder": str(tmp_path / "out")},
        }
    )


def test_a_finished_scene_stays_finished_when_a_trial_would_choose_otherwise(recipe: Recipe, tmp_path: Path) -> None:
    named = recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"backend": "torch"})})
    assert [item.state for item in run(named).report.scenes] == ["done"]
    (again,) = run(recipe).report.scenes
    assert again.state == "unchanged"
    report = from_json((tmp_path / "out" / "scene_report.json").read_text())
    assert report.run is not None
    assert (report.run.backend, report.run.why) == ("torch", "compute.backend says so")


def test_a_choice_is_the_same_in_a_second_run_without_a_cache(recipe: Recipe, tmp_path: Path) -> None:
    run(recipe)
    report = from_json((tmp_path / "out" / "scene_report.json").read_text())
    assert report.run is not None
    assert report.run.why.startswith("by a trial: openvino ")
    for file in (tmp_path / "cache" / "backends").iterdir():
        file.unlink()
    assert [item.state for item in run(recipe).report.scenes] == ["unchanged"]
    assert list((tmp_path / "cache" / "backends").iterdir()) == [], "there was a second trial"


def test_plans_that_were_cut_off_come_first_and_broken_ones_are_passed_over(tmp_path: Path) -> None:
    plans = tmp_path / HIDDEN / "scenes"
    whole = {
        "weights_sha256": "abc",
        "why": "by a trial",
        "forward": {"backend": "onnxruntime"},
        "facts": {"calibration": "k"},
    }
    texts = ["", "[]", json.dumps({**whole, "forward": 3}), json.dumps({"weights_sha256": "abc"}), json.dumps(whole)]
    for number, text in enumerate(texts):
        path = plans / f"scene{number}" / "key" / "plan.json"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert recorded_in(tmp_path, "abc") == Recorded("onnxruntime", "by a trial", "k")
    assert recorded_in(tmp_path, "other weights") is None


def test_many_new_scenes_do_not_hide_how_the_finished_ones_were_made(tmp_path: Path) -> None:
    report = {
        "model": {"weights_sha256": "abc"},
        "run": {"backend": "onnxruntime", "why": "by a trial", "calibration": None, "tiling": None},
    }
    for number in range(300):
        other = {**report, "model": {"weights_sha256": "of another model"}}
        (tmp_path / f"a{number}_report.json").write_text(json.dumps(other))
    (tmp_path / "z_report.json").write_text(json.dumps(report))
    assert recorded_in(tmp_path, "abc") == Recorded("onnxruntime", "by a trial", None)


@pytest.mark.parametrize("shape", [(50, 70), (16, 16), (5, 300), (20, 24, 28)])
def test_samples_are_patches_of_the_scene_spread_over_it_and_always_the_same(shape: tuple[int, ...]) -> None:
    ndim = len(shape)
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(1, *shape) / np.float32(np.prod(shape))
    lattice = Lattice.of(shape, (16,) * ndim, (12,) * ndim)
    layout = Layout(lattice, shape, Box.whole(shape), 0, shape, shape[0])
    task = Task(layout, Head(1, (0, 1), threshold=0.5), Standardiser((0.0,), (1.0,)))
    source = ArraySource(values, Grid("raster" if ndim == 2 else "volume", shape), np.ones(shape, np.bool_))
    found = sample_patches(task, source, 9)
    assert 1 <= len(found) <= 9
    assert [a.tobytes() for a in sample_patches(task, source, 9)] == [a.tobytes() for a in found]
    starts = [float(patch.flat[0]) for patch in found]
    assert all(patch.shape == (1, *(16,) * ndim) for patch in found)
    if max(shape) > 40:
        assert len(set(starts)) >= 4
        along = int(np.argmax(shape))
        furthest = max(int(np.argwhere(values[0] == start)[0][along]) for start in starts)
        assert furthest > shape[along] / 2, "the scene's far half is in it"
    whole = np.pad(values[0], [(0, 16)] * ndim, mode="edge")
    for patch, start in zip(found, starts, strict=True):
        corner = np.argwhere(values[0] == start)[0]
        here = tuple(slice(int(n), min(int(n) + 16, m)) for n, m in zip(corner, shape, strict=True))
        inside = tuple(slice(0, piece.stop - piece.start) for piece in here)
        assert np.array_equal(patch[0][inside], whole[here])
    nothing = ArraySource(values, Grid("raster" if ndim == 2 else "volume", shape), np.zeros(shape, np.bool_))
    assert sample_patches(task, nothing, 9) == []
