"""`auto` in a run: settled once, recorded, followed by whoever goes on, and measured on the scene."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.network.engine import model_of
from pipelines.planning.tolerance import dear
from pipelines.runner import run
from segflow.auto import AutoTiling
from segflow.memory import rss_bytes
from segflow.models.card import LabelClass
from segflow.patches import lattice_of
from segflow.recipe import Recipe, Tiling, parse_recipe
from segflow.report import SceneReport
from tests.making import make_model, write_raster
from tiling import Lattice


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path / "cache"))


def recipe_of(tmp_path: Path, **compute: Any) -> Recipe:
    weights = tmp_path / "m" / "random-raster.safetensors"
    if not weights.exists():
        make_model(weights.parent)
        write_raster(tmp_path / "a.tif", (700, 260))
    data = {
        "kind": "raster",
        "inputs": str(tmp_path / "a.tif"),
        "model": {"weights": str(weights)},
        "tiling": {"patch": "auto", "overlap": "auto"},
        "compute": {"backend": "torch", "device": "cpu", **compute},
        "outputs": {"folder": str(tmp_path / "out")},
    }
    return parse_recipe(data, tmp_path)


def scene_of(recipe: Recipe, **options: Any) -> tuple[str, SceneReport]:
    (state,) = run(recipe, **options).report.scenes
    assert state.report is not None, state.error
    return state.state, state.report


def test_a_finished_scene_keeps_its_patch_whatever_memory_and_cache_say_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = rss_bytes() >> 20  # tests before this one may have left much in this process
    state, report = scene_of(recipe_of(tmp_path, memory=f"{held + 2048} MiB"))
    assert state == "done"
    assert report.run is not None
    tiling = report.run.tiling
    assert tiling is not None
    assert tiling.auto is not None
    assert tiling.auto.patch == tiling.patch
    assert tiling.blend == "crop"
    assert tiling.step[0] == tiling.patch[0] - tiling.auto.overlap
    assert tiling.overhead < 2
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path / "other"))
    again, _ = scene_of(recipe_of(tmp_path, memory=f"{held + 1024} MiB", workers=1))
    assert again == "unchanged"
    assert not (tmp_path / "other" / "fields").exists()


def test_the_change_by_a_cut_is_measured_on_the_scene_and_stays_within_the_tolerance(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    _, report = scene_of(recipe)
    assert report.run is not None
    assert report.run.tiling is not None
    auto = report.run.tiling.auto
    assert auto is not None
    assert auto.change is not None
    assert auto.tolerance is not None
    assert 0 <= auto.change <= auto.tolerance
    written = json.loads((tmp_path / "out" / "a_report.json").read_text())
    assert written["run"]["tiling"]["auto"]["change"] == auto.change
    assert "A cut may change a probability by 0.01" in (tmp_path / "out" / "a_report.html").read_text()


SETTLE = """
import sys
from math import prod
from pathlib import Path
from pipelines.network.engine import model_of
from segflow.auto import settle_tiling
from segflow.memory import rss_bytes
from segflow.recipe import parse_recipe


def repeated(block):
    tiling = {"patch": "auto", "overlap": "64px", "block": block}
    compute = {"backend": "torch", "device": "cpu", "memory": f"{(rss_bytes() >> 20) + 1200} MiB"}
    data = {"kind": "raster", "inputs": "a.tif", "model": {"weights": sys.argv[1]}, "tiling": tiling}
    recipe = parse_recipe({**data, "compute": compute}, Path(sys.argv[1]).parent)
    found = settle_tiling(recipe.tiling, recipe.compute, model_of(recipe), (20_000, 19_000), 1)
    return prod(side / (side - found.overlap) for side in found.patch)


repeated("auto")  # whatever that loads is held by both that follow
print(repeated("auto"), repeated("whole"))
"""


def test_blocks_that_may_be_cut_across_leave_memory_for_patches_that_repeat_less(tmp_path: Path) -> None:
    classes = tuple(LabelClass(id=k, name=f"class {k}", colour=f"#{k * 1000:06x}") for k in range(60))
    weights = make_model(tmp_path / "many", classes=classes, ignore=())
    # In a process of its own: what other tests have left in the memory of this one misleads.
    program = [sys.executable, "-c", SETTLE, str(weights)]
    told = subprocess.run(program, capture_output=True, text=True, check=True, timeout=240).stdout
    auto, whole = map(float, told.split())
    assert auto < 0.85 * whole


def test_a_plan_says_why_auto_repeats_much_and_what_the_default_would_do(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    card = model_of(recipe).card
    auto = AutoTiling("", (128, 128), 64, "crop", 0.01, 31)
    lattice = Lattice.of((2000, 3000), auto.patch, (64, 64), "crop")
    (told,) = dear(lattice, card, auto, recipe.tiling)
    usual = lattice_of((2000, 3000), card, Tiling())
    for said in (f"{lattice.overhead:.2f} times", f"{usual.overhead:.2f} times", "sees 31 cells", "more memory"):
        assert said in told
    assert not dear(Lattice.of((2000, 3000), (512, 512), (504, 504)), card, auto, recipe.tiling)
    assert not dear(lattice, card, AutoTiling("", (128, 128), 64, "crop"), recipe.tiling)
