"""A run that has nothing to do loads no network, and what is remembered for that decides nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines import run
from pipelines.network.engine import Engine
from pipelines.network.recorded import recorded_in
from pipelines.network.remembered import recall
from pipelines.runner import Outcome
from segflow.memory import rss_bytes
from segflow.models.load import load_model
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_raster

ALONE = """
import sys
from pathlib import Path
from pipelines import run
VOLUMES = "nibabel", "pydicom", "scipy.ndimage"
outcome = run(Path(sys.argv[1]))
print(outcome.report.scenes[0].state, sorted({"torch", "openvino", *VOLUMES} & set(sys.modules)))
"""


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGFLOW_CACHE", str(tmp_path / "cache"))
    make_model(tmp_path)
    return write_raster(tmp_path / "scene.tif")


def recipe_of(scene: Path, memory: str | None = None, **tiling: float | str) -> Recipe:
    (weights,) = scene.parent.glob("*.safetensors")
    data = {
        "kind": "raster",
        "inputs": str(scene),
        "model": {"weights": str(weights)},
        "tiling": tiling,
        "compute": {"backend": "torch", "memory": memory},
        "outputs": {"folder": "out"},
    }
    return parse_recipe(data, scene.parent)


def states(outcome: Outcome) -> list[str]:
    return [item.state for item in outcome.report.scenes]


def recalled(recipe: Recipe) -> Engine | None:
    assert recipe.model is not None
    model = load_model(recipe.model, recipe.resolve, recipe.kind)
    return recall(recipe, model, recorded_in(recipe.folder, model.sha256))


def settled_of(scene: Path) -> list[Path]:
    return sorted((scene.parent / "cache" / "settled").glob("*.json"))


def test_a_run_of_rasters_loads_nothing_that_volumes_need_and_with_nothing_to_do_no_network(scene: Path) -> None:
    recipe = recipe_of(scene)
    written = scene.parent / "recipe.yaml"
    written.write_text(json.dumps(recipe.model_dump(mode="json", exclude={"base"}, exclude_defaults=True)))
    command = [sys.executable, "-c", ALONE, str(written)]
    told = [subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout for _ in range(2)]
    assert [text.strip() for text in told] == ["done ['torch']", "unchanged []"]


def test_a_scene_that_is_added_is_done_and_the_others_are_left_alone(scene: Path) -> None:
    folder = scene.parent / "scenes"
    folder.mkdir()
    recipe = recipe_of(scene).model_copy(
        update={"inputs": recipe_of(scene).inputs.model_copy(update={"path": str(folder)})}
    )
    write_raster(folder / "b.tif")
    assert states(run(recipe)) == ["done"]
    write_raster(folder / "a.tif")
    assert states(run(recipe)) == ["done", "unchanged"]


def test_what_changes_a_result_is_not_remembered(scene: Path) -> None:
    assert states(run(recipe_of(scene))) == ["done"]
    assert states(run(recipe_of(scene, overlap=0.5))) == ["done"]
    make_model(scene.parent, seed=7)
    assert states(run(recipe_of(scene, overlap=0.5))) == ["done"]
    assert states(run(recipe_of(scene, overlap=0.5))) == ["unchanged"]


def test_a_memory_that_is_wrong_decides_nothing_and_is_put_right(scene: Path) -> None:
    recipe = recipe_of(scene)
    assert states(run(recipe)) == ["done"]
    for path in settled_of(scene):
        path.write_text(json.dumps({**json.loads(path.read_text()), "probe": "0" * 64}))
    assert states(run(recipe)) == ["unchanged"]  # by the network itself
    found = [json.loads(path.read_text())["probe"] for path in settled_of(scene)]
    assert "0" * 64 not in found


@pytest.mark.parametrize("damage", ["", "{}", '{"settings": 3}', "[]"])
def test_a_damaged_memory_is_none(scene: Path, damage: str) -> None:
    recipe = recipe_of(scene)
    run(recipe)
    for path in settled_of(scene):
        path.write_text(damage)
    assert recalled(recipe) is None
    assert states(run(recipe)) == ["unchanged"]


def test_a_remembered_network_refuses_to_run(scene: Path) -> None:
    recipe = recipe_of(scene)
    run(recipe)
    engine = recalled(recipe)
    assert engine is not None
    with pytest.raises(RuntimeError, match="not loaded"):
        engine.forward.stream([])


def test_what_is_measured_or_calibrated_anew_is_not_remembered(scene: Path) -> None:
    recipe = recipe_of(scene)
    run(recipe)
    int8 = recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"precision": "int8"})})
    open_overlap = recipe.model_copy(update={"tiling": recipe.tiling.model_copy(update={"overlap": "auto"})})
    assert recalled(recipe) is not None
    assert recalled(int8) is None
    assert recalled(open_overlap) is None


@pytest.mark.parametrize("tiling", [{}, {"overlap": "auto"}])
def test_what_is_finished_is_unchanged_where_memory_holds_not_even_a_pass(scene: Path, tiling: dict[str, str]) -> None:
    assert states(run(recipe_of(scene, **tiling))) == ["done"]
    assert states(run(recipe_of(scene, "1 MiB", **tiling))) == ["unchanged"]


def test_what_is_finished_is_unchanged_where_memory_holds_no_block_and_nothing_is_remembered(
    scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(run(recipe_of(scene))) == ["done"]
    monkeypatch.setenv("SEGFLOW_CACHE", str(scene.parent / "other"))
    tight = recipe_of(scene, f"{(rss_bytes() >> 20) + 40} MiB")
    assert states(run(tight)) == ["unchanged"]
    labels = scene.parent / "out" / "scene_labels.tif"
    labels.write_bytes(labels.read_bytes()[:-1] + b"!")
    monkeypatch.setenv("SEGFLOW_CACHE", str(scene.parent / "third"))
    (state,) = run(tight).report.scenes
    assert state.state == "refused"
    assert "compute.memory" in str(state.error)
