"""The promise: the same bits however the work is cut, run, cut off and resumed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from pipelines import run
from pipelines.events import ChunkDone, Event, SceneStarted
from pipelines.journal import ChunkRecord
from pipelines.network.engine import Engine
from pipelines.planning.plan import ScenePlan
from pipelines.planning.scenes import Selection
from pipelines.predict import BlockJob, Executor, InProcess, Workshop
from segflow.errors import OutputError
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_labels, write_raster, write_volume


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hole = (slice(40, 180), slice(30, 200))
    return write_raster(tmp_path_factory.mktemp("raster") / "scene.tif", hole=hole)


def recipe_of(folder: Path, inputs: Any, model: Path, **parts: Any) -> Recipe:
    kind = parts.pop("kind", "raster")
    data = {
        "kind": kind,
        "inputs": inputs if isinstance(inputs, dict | list) else str(inputs),
        "model": {"weights": str(model)},
        "outputs": {"folder": str(folder), "confidence": True},
        **parts,
    }
    return parse_recipe(data, folder.parent)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def bits(folder: Path) -> dict[str, str]:
    return {path.name: digest(path) for path in sorted(folder.glob("*.tif")) + sorted(folder.glob("*.nii.gz"))}


def report_of(folder: Path, scene: str = "scene") -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / f"{scene}_report.json").read_text())
    return loaded


def steady(report: dict[str, Any]) -> dict[str, Any]:
    """The report without what a resume may change."""
    facts = {k: v for k, v in report["run"].items() if k not in ("forwards", "seconds", "peak_rss_bytes")}
    return {**report, "run": facts}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, raster: Path, model: Path) -> Path:
    """The run that others are compared with."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    outcome = run(recipe_of(folder, raster, model))
    assert outcome.exit_code == 0
    return folder


@pytest.mark.parametrize(
    "tiling",
    [
        {"block": "whole", "batch": 1},
        {"block": 100, "batch": 2},
        {"block": 64, "batch": 4},
        {"block": 17},
    ],
)
def test_label_files_are_byte_identical_for_blocks_and_requests_in_flight(
    tmp_path: Path, raster: Path, model: Path, whole: Path, tiling: dict[str, Any]
) -> None:
    run(recipe_of(tmp_path / "out", raster, model, tiling=tiling))
    assert bits(tmp_path / "out") == bits(whole)
    assert report_of(tmp_path / "out")["classes"] == report_of(whole)["classes"]
    assert report_of(tmp_path / "out")["run"]["forwards_minimum"] == report_of(whole)["run"]["forwards_minimum"]


def test_one_worker_runs_no_patch_twice_and_no_blank_one(whole: Path) -> None:
    facts = report_of(whole)["run"]
    assert facts["forwards"] == facts["forwards_minimum"]
    assert facts["forwards"] < 6 * 6


def test_every_valid_cell_is_labelled_and_no_other(whole: Path, raster: Path) -> None:
    with rasterio.open(whole / "scene_labels.tif") as labels, rasterio.open(raster) as source:
        valid = source.dataset_mask() > 0
        found = labels.read(1)
        assert labels.crs == source.crs
        assert labels.transform == source.transform
        assert labels.nodata == 255
        assert (found[~valid] == 255).all()
        assert np.isin(found[valid], (1, 2, 3)).all()
        assert len(np.unique(found)) == 4
    with rasterio.open(whole / "scene_confidence.tif") as confidence:
        assert (confidence.read(1)[~valid] == 0).all()


class CutOff:
    """Runs blocks in this process and stops dead after some chunks, as a crash would."""

    def __init__(self, engine: Engine, after: int) -> None:
        self._inner = InProcess(engine.forward)
        self._after = after

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Sequence[BlockJob]) -> Iterator[ChunkRecord]:
        for number, record in enumerate(self._inner(workshop, plan, jobs)):
            if number == self._after:
                raise KeyboardInterrupt
            yield record


def cut_off(after: int) -> Any:
    def executor(engine: Engine) -> Executor:
        return CutOff(engine, after)

    return executor


@pytest.mark.parametrize(("block", "after"), [("whole", 1), ("whole", 3), (100, 2), (100, 7), (64, 11)])
def test_a_resume_gives_the_same_bits_and_the_same_report(
    tmp_path: Path, raster: Path, model: Path, whole: Path, block: Any, after: int
) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model, tiling={"block": block})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(after))
    assert (tmp_path / "out" / ".segflow").is_dir()
    assert not list((tmp_path / "out").glob("*.tif"))
    heard: list[Event] = []
    assert run(recipe, listener=heard.append).exit_code == 0
    redone = sum(isinstance(event, ChunkDone) for event in heard)
    plain = recipe_of(tmp_path / "plain", raster, model, tiling={"block": block})
    heard.clear()
    run(plain, listener=heard.append)
    assert redone == sum(isinstance(event, ChunkDone) for event in heard) - after
    assert bits(tmp_path / "out") == bits(whole)
    assert steady(report_of(tmp_path / "out")) == steady(report_of(tmp_path / "plain"))
    assert not (tmp_path / "out" / ".segflow").exists()


def staged(folder: Path, layer: str = "labels") -> list[Path]:
    (store,) = (folder / ".segflow" / "scenes" / "scene").glob(f"*/staging/{layer}")
    return sorted(path for path in store.rglob("*") if path.is_file() and path.name != "zarr.json")


@pytest.mark.parametrize("harm", ["flip", "truncate", "delete"])
def test_a_staged_chunk_that_is_damaged_is_made_again(
    tmp_path: Path, raster: Path, model: Path, whole: Path, harm: str
) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model, tiling={"block": 100})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(5))
    victim = staged(tmp_path / "out")[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 255
    {
        "flip": lambda: victim.write_bytes(bytes(data)),
        "truncate": lambda: victim.write_bytes(bytes(data[: len(data) // 2])),
        "delete": victim.unlink,
    }[harm]()
    run(recipe)
    assert bits(tmp_path / "out") == bits(whole)


def test_staged_chunks_of_other_weights_are_never_mixed_in(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    other = make_model(tmp_path / "other", seed=5)
    with pytest.raises(KeyboardInterrupt):
        run(recipe_of(tmp_path / "out", raster, other), executor=cut_off(2))
    run(recipe_of(tmp_path / "out", raster, model))
    assert bits(tmp_path / "out") == bits(whole)


def test_a_look_or_a_try_with_other_settings_does_not_cost_what_is_done(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model, tiling={"block": 100})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(5))
    assert run(recipe, Selection(window=(0, 0, 90, 70))).exit_code == 0
    other = recipe_of(tmp_path / "out", raster, model, tiling={"block": 100, "blend": "hann"})
    with pytest.raises(KeyboardInterrupt):
        run(other, executor=cut_off(2))
    heard: list[Event] = []
    run(recipe, listener=heard.append)
    blocks = 3 * 3
    assert sum(isinstance(event, ChunkDone) for event in heard) < blocks * 2 - 4
    assert any(isinstance(event, SceneStarted) and event.resumed for event in heard)
    assert bits(tmp_path / "out") == bits(whole)
    assert not (tmp_path / "out" / ".segflow").exists()


def test_a_refused_command_does_not_cost_what_is_done(tmp_path: Path, raster: Path, model: Path, whole: Path) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(3))
    wrong = recipe_of(tmp_path / "out", raster, model, references="missing.tif")
    assert run(wrong).exit_code == 2
    heard: list[Event] = []
    run(recipe, listener=heard.append)
    assert any(isinstance(event, SceneStarted) and event.resumed for event in heard)
    assert bits(tmp_path / "out") == bits(whole)


def test_a_store_that_was_being_made_is_made_again(tmp_path: Path, raster: Path, model: Path, whole: Path) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(2))
    (store,) = (tmp_path / "out" / ".segflow" / "scenes" / "scene").glob("*/staging")
    shutil.rmtree(store / "labels")
    assert run(recipe).exit_code == 0
    assert bits(tmp_path / "out") == bits(whole)


@pytest.mark.parametrize("what", ["input", "reference", "weights"])
def test_a_run_never_writes_over_what_it_reads(tmp_path: Path, raster: Path, what: str) -> None:
    out = tmp_path / "out"
    model = make_model(out, name="scene_labels" if what == "weights" else "m")
    image = Path(shutil.copy(raster, out / "scene.tif"))
    truth = write_labels(out / "scene_labels.tif", np.ones((300, 260), np.uint8), raster)
    parts: dict[str, Any] = {}
    inputs = image
    if what == "input":
        inputs, parts = truth, {"outputs": {"folder": str(out), "name": "scene"}}
    elif what == "reference":
        parts = {"references": "{stem}_labels.tif"}
    else:
        weights = model.rename(out / "scene_confidence.tif")
        model.with_suffix(".yaml").rename(weights.with_suffix(".yaml"))
        model = weights
    before = {path: digest(path) for path in out.iterdir()}
    recipe = recipe_of(out, inputs, model, **parts)
    recipe = recipe.model_copy(update={"base": str(out)})
    with pytest.raises(OutputError, match="which it reads"):
        run(recipe)
    assert {path: digest(path) for path in out.iterdir()} == before


def test_confidence_of_an_earlier_run_does_not_stay_beside_new_labels(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    run(recipe_of(tmp_path / "out", raster, model))
    assert (tmp_path / "out" / "scene_confidence.tif").exists()
    run(recipe_of(tmp_path / "out", raster, model, outputs={"folder": str(tmp_path / "out"), "confidence": False}))
    assert sorted(path.name for path in (tmp_path / "out").glob("*.tif")) == ["scene_labels.tif"]


def test_a_nodata_value_that_is_nan_reaches_all_workers(tmp_path: Path, raster: Path, model: Path) -> None:
    """NaN in JSON is null to many, and null would bring back the file's own nodata value."""
    from pipelines.planning.plan import read_plan, write_plan

    inputs = {"path": str(raster), "nodata": float("nan")}
    seen: list[ScenePlan] = []

    class Look(InProcess):
        def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Sequence[BlockJob]) -> Iterator[ChunkRecord]:
            seen.append(read_plan(workshop.plan))
            return super().__call__(workshop, plan, jobs)

    run(recipe_of(tmp_path / "out", inputs, model), executor=lambda engine: Look(engine.forward))
    (plan,) = seen
    assert np.isnan(plan.spec.nodata)  # type: ignore[union-attr, arg-type]
    write_plan(plan, tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json").fingerprint == plan.fingerprint
    with rasterio.open(tmp_path / "out" / "scene_labels.tif") as labels:
        assert (labels.read(1) != 255).all()


def test_a_scene_may_have_any_name(tmp_path: Path, raster: Path, model: Path) -> None:
    for name in ("lock", "scenes", "a b", "ä"):
        image = Path(shutil.copy(raster, tmp_path / f"{name}.tif"))
        outcome = run(recipe_of(tmp_path / "out", image, model), Selection(window=(0, 0, 64, 64)))
        assert [item.state for item in outcome.report.scenes] == ["done"]


def test_a_finished_scene_is_left_untouched(tmp_path: Path, raster: Path, model: Path) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model)
    run(recipe)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("scene_*")}
    outcome = run(recipe)
    assert [item.state for item in outcome.report.scenes] == ["unchanged"]
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("scene_*")} == before
    assert [item.state for item in run(recipe, force=True).report.scenes] == ["done"]


@pytest.mark.parametrize("harm", ["delete", "change"])
def test_a_finished_scene_whose_output_was_touched_is_done_again(
    tmp_path: Path, raster: Path, model: Path, whole: Path, harm: str
) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model)
    run(recipe)
    labels = tmp_path / "out" / "scene_labels.tif"
    if harm == "delete":
        labels.unlink()
    else:
        labels.write_bytes(labels.read_bytes()[:-10] + b"0123456789")
    assert [item.state for item in run(recipe).report.scenes] == ["done"]
    assert bits(tmp_path / "out") == bits(whole)


def test_a_changed_input_or_setting_is_done_again_and_how_it_is_cut_is_not(
    tmp_path: Path, raster: Path, model: Path
) -> None:
    folder = tmp_path / "out"
    run(recipe_of(folder, raster, model))
    same = run(recipe_of(folder, raster, model, tiling={"block": 64, "batch": 3}))
    assert same.report.scenes[0].state == "unchanged"
    other = run(recipe_of(folder, raster, model, tiling={"blend": "hann"}))
    assert other.report.scenes[0].state == "done"
    changed = shutil.copy(raster, tmp_path / "scene.tif")
    with rasterio.open(changed, "r+") as file:
        band = file.read(1)
        band[5, 5] ^= 1
        file.write(band, 1)
    assert run(recipe_of(folder, changed, model, tiling={"blend": "hann"})).report.scenes[0].state == "done"


def test_a_broken_scene_fails_alone_and_is_named(tmp_path: Path, model: Path) -> None:
    for name in ("a", "b", "c"):
        write_raster(tmp_path / "in" / f"{name}.tif", (150, 140), seed=ord(name))
    path = tmp_path / "in" / "b.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    outcome = run(recipe_of(tmp_path / "out", tmp_path / "in", model))
    assert [item.state for item in outcome.report.scenes] == ["done", "refused", "done"]
    assert outcome.exit_code == 1
    assert "b.tif" in (outcome.report.scenes[1].error or "")
    assert sorted(path.name for path in (tmp_path / "out").glob("*_labels.tif")) == ["a_labels.tif", "c_labels.tif"]
    assert not (tmp_path / "out" / ".segflow").exists()


def test_a_window_is_a_cut_of_the_whole_run(tmp_path: Path, raster: Path, model: Path, whole: Path) -> None:
    run(recipe_of(tmp_path / "out", raster, model), Selection(window=(150, 70, 90, 111)))
    with (
        rasterio.open(tmp_path / "out" / "scene_labels.tif") as part,
        rasterio.open(whole / "scene_labels.tif") as full,
    ):
        window = rasterio.windows.Window(150, 70, 90, 111)
        np.testing.assert_array_equal(part.read(1), full.read(1, window=window))
        assert tuple(part.transform)[:6] == (0.5, 0.0, 500075.0, 0.0, -0.5, 5399965.0)


def test_a_look_never_takes_the_place_of_a_whole_result(tmp_path: Path, raster: Path, model: Path) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model)
    look = Selection(window=(10, 10, 80, 80))
    assert run(recipe, look).exit_code == 0
    assert run(recipe).exit_code == 0
    before = bits(tmp_path / "out")
    outcome = run(recipe, look)
    assert outcome.exit_code == 2
    assert "-o" in (outcome.report.scenes[0].error or "")
    assert bits(tmp_path / "out") == before


def test_scores_of_a_run_are_those_of_comparing_the_files(tmp_path: Path, raster: Path, model: Path) -> None:
    from pipelines.evaluate import evaluate
    from segflow.models.card import read_card

    truth = np.random.default_rng(3).integers(0, 4, (300, 260)).astype(np.uint8)
    reference = write_labels(tmp_path / "truth.tif", truth, raster)
    run(recipe_of(tmp_path / "out", raster, model, references=str(reference), tiling={"block": 90}))
    told = report_of(tmp_path / "out")
    card = read_card(model.with_suffix(".yaml"))
    found = evaluate(str(tmp_path / "out" / "scene_labels.tif"), str(reference), card).model_dump(mode="json")
    assert told["overall"] == found["overall"]
    assert told["confusion_matrix"] == json.loads(json.dumps(found["confusion_matrix"]))
    assert told["overall"]["pixel_accuracy"] is not None


def test_a_volume_comes_back_on_its_own_grid_whatever_its_orientation(tmp_path: Path) -> None:
    import nibabel as nib

    model = make_model(tmp_path / "model", "volume", orientation="RAS")
    folders = {}
    for axes in ("RAS", "LIA", "PSR"):
        path = write_volume(tmp_path / axes / "brain.nii.gz", axes=axes)
        folders[axes] = tmp_path / axes / "out"
        outcome = run(recipe_of(folders[axes], path, model, kind="volume", tiling={"block": 20}))
        assert outcome.exit_code == 0
        made, source = nib.load(folders[axes] / "brain_dseg.nii.gz"), nib.load(path)
        assert made.shape == source.shape
        np.testing.assert_array_equal(made.affine, source.affine)
        assert made.get_data_dtype() == np.uint8
    straight = [
        np.asarray(nib.as_closest_canonical(nib.load(folder / "brain_dseg.nii.gz")).dataobj)
        for folder in folders.values()
    ]
    np.testing.assert_array_equal(straight[0], straight[1])
    np.testing.assert_array_equal(straight[0], straight[2])
    assert len(np.unique(straight[0])) > 1


def test_a_second_run_in_one_folder_is_refused_at_once(tmp_path: Path, raster: Path, model: Path) -> None:
    recipe = recipe_of(tmp_path / "out", raster, model)
    refused: list[str] = []

    def intrude(event: Event) -> None:
        if isinstance(event, SceneStarted):
            with pytest.raises(OutputError, match="another run") as caught:
                run(recipe)
            refused.append(str(caught.value))

    assert run(recipe, listener=intrude).exit_code == 0
    assert refused


def test_an_array_in_memory_gets_the_labels_of_the_run(raster: Path, model: Path, whole: Path) -> None:
    import segflow

    with rasterio.open(raster) as source, rasterio.open(whole / "scene_labels.tif") as labels:
        array, valid = source.read(), source.dataset_mask() > 0
        np.testing.assert_array_equal(segflow.predict(array, None, str(model), valid=valid), labels.read(1))
