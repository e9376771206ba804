"""Labels that a recipe changes: as if the whole label map had been changed at once, in files and in scores."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from rasterio.features import sieve
from scipy import ndimage

from pipelines import run
from pipelines.evaluate import evaluate
from segflow.recipe import parse_recipe
from tests.making import make_model, write_labels, write_raster, write_volume
from tests.pipelines.test_run import cut_off

CHANGES = {"min_size": {2: 40, 3: 40}, "keep_largest": [3], "fill_holes": [2], "background": 1}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("scene")
    hole = (slice(40, 90), slice(30, 70))
    raster = write_raster(folder / "scene.tif", shape=(200, 170), hole=hole)
    truth = np.random.default_rng(5).integers(1, 4, (200, 170)).astype(np.uint8)
    write_labels(folder / "truth.tif", truth, raster)
    return {
        "kind": "raster",
        "inputs": str(raster),
        "references": str(folder / "truth.tif"),
        "model": {"weights": str(make_model(folder / "model"))},
    }


def done(scene: dict[str, Any], folder: Path, executor: Any = None, **parts: Any) -> Path:
    recipe = parse_recipe({**scene, "outputs": {"folder": str(folder)}, **parts}, folder.parent)
    outcome = run(recipe) if executor is None else run(recipe, executor=executor)
    assert outcome.exit_code == 0
    return folder


def raster_labels(folder: Path) -> NDArray[Any]:
    with rasterio.open(folder / "scene_labels.tif") as file:
        return np.asarray(file.read(1))


def changed_at_once(labels: NDArray[Any], background: int) -> NDArray[Any]:
    """What CHANGES come to, by scipy on the whole array."""
    out = labels.copy()
    for name in (2, 3):
        pieces, _ = ndimage.label(labels == name)
        size = np.bincount(pieces.ravel())
        small = size < 40
        if name == 3:
            small |= np.arange(len(size)) != 1 + size[1:].argmax()
        small[0] = False
        out[small[pieces]] = background
    out[ndimage.binary_fill_holes(out == 2) & (out == background)] = 2
    return out


def report_of(folder: Path, scene: str = "scene") -> Any:
    return json.loads((folder / f"{scene}_report.json").read_text())


def test_a_raster_is_changed_as_a_whole_and_scored_as_it_is_published(tmp_path: Path, scene: dict[str, Any]) -> None:
    plain, changed = done(scene, tmp_path / "plain"), done(scene, tmp_path / "changed", postprocess=CHANGES)
    before, after = raster_labels(plain), raster_labels(changed)
    assert np.array_equal(after, changed_at_once(before, 1))
    assert (before != after).sum() > 100
    found = report_of(changed)
    again = evaluate(str(changed / "scene_labels.tif"), scene["references"]).model_dump(mode="json")
    assert found["confusion_matrix"] == again["confusion_matrix"]
    assert found["excluded"] == again["excluded"] == 50 * 40
    assert found["run"]["fingerprint"] != report_of(plain)["run"]["fingerprint"]
    assert not (changed / ".segflow").exists()


def test_a_raster_is_sieved_as_gdal_does_it_and_cells_without_input_stay(tmp_path: Path, scene: dict[str, Any]) -> None:
    plain, sieved = done(scene, tmp_path / "plain"), done(scene, tmp_path / "sieved", postprocess={"sieve": 25})
    before, after = raster_labels(plain), raster_labels(sieved)
    expected = sieve(before, 25, mask=before != 255)
    assert np.array_equal(after, np.where(before == 255, before, expected))
    assert (before != after).sum() > 20


@pytest.mark.parametrize("block", [50, "whole"])
def test_it_depends_neither_on_blocks_nor_on_where_a_run_was_cut_off(
    tmp_path: Path, scene: dict[str, Any], block: Any
) -> None:
    parts = {"postprocess": CHANGES, "tiling": {"block": block}}
    with pytest.raises(KeyboardInterrupt):
        done(scene, tmp_path / "cut", cut_off(2), **parts)
    files = [done(scene, tmp_path / "cut", **parts), done(scene, tmp_path / "whole", postprocess=CHANGES)]
    first, second = (hashlib.sha256((folder / "scene_labels.tif").read_bytes()).hexdigest() for folder in files)
    assert first == second


def test_a_volume_is_changed_and_voxels_without_input_stay_out_of_the_scores(tmp_path: Path) -> None:
    write_volume(tmp_path / "a.nii.gz")
    image = nib.load(tmp_path / "a.nii.gz")
    values = np.asarray(image.dataobj).astype(np.float32)
    values[:4] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "a.nii.gz")
    model = make_model(tmp_path / "model", "volume")
    scene = {"kind": "volume", "inputs": str(tmp_path / "a.nii.gz"), "model": {"weights": str(model)}}
    plain = done(scene, tmp_path / "plain")
    wanted = {"min_size": {1: 30}, "keep_largest": [2]}
    changed = done(scene, tmp_path / "changed", postprocess=wanted)
    before, after = (np.asarray(nib.load(f / "a_dseg.nii.gz").dataobj) for f in (plain, changed))
    small, _ = ndimage.label(before == 1)
    others, _ = ndimage.label(before == 2)
    expected = np.where((np.bincount(small.ravel()) < 30)[small] & (small > 0), 0, before)
    expected[(others > 0) & (others != 1 + np.bincount(others.ravel())[1:].argmax())] = 0
    assert np.array_equal(after, expected)
    assert (before != after).any()
    pixels = [item["pixels"] for item in report_of(changed, "a")["classes"]]
    assert sum(pixels) == before[4:].size
    assert pixels[1:] == [(expected[4:] == name).sum() for name in (1, 2)]


def test_voxels_without_input_stay_background_whatever_is_changed_around_them(tmp_path: Path) -> None:
    image = nib.load(write_volume(tmp_path / "whole.nii.gz", (33, 34, 35)))
    values = image.get_fdata(dtype=np.float32)
    values[10:14, 12:15, 9:20] = np.nan
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "scene.nii.gz")
    asked = {
        "kind": "volume",
        "inputs": str(tmp_path / "scene.nii.gz"),
        "model": {"weights": str(make_model(tmp_path / "model", kind="volume"))},
        "postprocess": {"min_size": {0: 10**9, 2: 30}, "background": 1},
    }
    out = done(asked, tmp_path / "out")
    labels = np.asarray(nib.load(out / "scene_dseg.nii.gz").dataobj)
    assert not labels[np.isnan(values)].any()
    assert labels[~np.isnan(values)].all()
    told = {item["id"]: item["pixels"] for item in report_of(out)["classes"]}
    assert told == {name: int((labels[~np.isnan(values)] == name).sum()) for name in (0, 1, 2)}


def test_a_class_that_the_model_has_not_is_refused_by_name(tmp_path: Path, scene: dict[str, Any]) -> None:
    recipe = {**scene, "outputs": {"folder": str(tmp_path / "out")}, "postprocess": {"keep_largest": [2]}}
    outcome = run(parse_recipe(recipe, tmp_path))
    assert outcome.exit_code == 2
    assert "the class 0, which random-raster has not" in str(outcome.report.scenes[0].error)


def test_without_a_reference_changed_labels_have_no_scores(tmp_path: Path, scene: dict[str, Any]) -> None:
    bare = {key: value for key, value in scene.items() if key != "references"}
    found = report_of(done(bare, tmp_path / "changed", postprocess={"sieve": 25}))
    assert found["overall"] is None
    assert found["confusion_matrix"] is None
