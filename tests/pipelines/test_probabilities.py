"""`outputs.probabilities`: the same bits however a scene is cut and resumed, read by other people's libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import rasterio

from pipelines import run
from segflow.recipe import Recipe, parse_recipe
from tests.making import make_model, write_raster
from tests.pipelines.test_run import cut_off


@pytest.fixture(scope="module")
def raster(tmp_path_factory: pytest.TempPathFactory) -> Path:
    hole = (slice(20, 60), slice(30, 100))
    return write_raster(tmp_path_factory.mktemp("raster") / "scene.tif", shape=(150, 130), hole=hole)


def recipe_of(folder: Path, inputs: Path, model: Path, kind: str = "raster", **parts: Any) -> Recipe:
    outputs = {"folder": str(folder), "probabilities": True, **parts.pop("outputs", {})}
    return parse_recipe(
        {"kind": kind, "inputs": str(inputs), "model": {"weights": str(model)}, "outputs": outputs, **parts}, folder
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, raster: Path, model: Path) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert run(recipe_of(folder, raster, model, outputs={"confidence": True})).exit_code == 0
    return folder


def test_each_class_has_a_band_that_sums_to_one_and_a_mask_says_where(whole: Path) -> None:
    with rasterio.open(whole / "scene_probabilities.tif") as file:
        values, mask = file.read(), file.dataset_mask()
        assert file.descriptions == ("class 1", "class 2", "class 3")
    with rasterio.open(whole / "scene_labels.tif") as file:
        labels = file.read(1)
    with rasterio.open(whole / "scene_confidence.tif") as file:
        confidence = file.read(1)
    np.testing.assert_array_equal(mask, np.where(labels == 255, 0, 255))
    np.testing.assert_array_equal(values.max(axis=0), confidence)
    total = values.sum(axis=0, dtype=int)
    assert (total[mask == 0] == 0).all()
    assert np.abs(total[mask == 255] - 255).max() <= 1
    for number, band in enumerate(values, 1):
        np.testing.assert_array_equal(band[labels == number], confidence[labels == number])


@pytest.mark.parametrize("tiling", [{"block": 64}, {"block": "whole", "batch": 3}])
def test_the_file_is_byte_identical_for_blocks_and_requests_in_flight(
    tmp_path: Path, raster: Path, model: Path, whole: Path, tiling: dict[str, Any]
) -> None:
    run(recipe_of(tmp_path, raster, model, tiling=tiling, outputs={"confidence": True}))
    assert bits(tmp_path) == bits(whole)


def bits(folder: Path) -> list[bytes]:
    return [(folder / f"scene_{layer}.tif").read_bytes() for layer in ("labels", "confidence", "probabilities")]


@pytest.mark.parametrize("after", [1, 5])
def test_a_resume_gives_the_same_files(tmp_path: Path, raster: Path, model: Path, whole: Path, after: int) -> None:
    recipe = recipe_of(tmp_path, raster, model, tiling={"block": 32}, outputs={"confidence": True})
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(after))
    assert run(recipe).exit_code == 0
    assert bits(tmp_path) == bits(whole)


def test_asking_changes_no_label_and_what_is_not_asked_for_is_removed(
    tmp_path: Path, raster: Path, model: Path, whole: Path
) -> None:
    run(recipe_of(tmp_path, raster, model))
    assert (tmp_path / "scene_probabilities.tif").is_file()
    run(recipe_of(tmp_path, raster, model, outputs={"probabilities": False}))
    with rasterio.open(tmp_path / "scene_labels.tif") as one, rasterio.open(whole / "scene_labels.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())
    assert not (tmp_path / "scene_probabilities.tif").exists()


def test_a_volume_gets_a_probseg_of_four_axes(tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", "volume")
    values = np.random.default_rng(0).normal(120, 30, (40, 36, 33)).astype(np.float32)
    affine = nib.affines.from_matvec(np.diag([-1.0, 2.0, 1.5]), [10, 20, 30])
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "sub-01_T1w.nii.gz")
    recipe = recipe_of(tmp_path / "out", tmp_path / "sub-01_T1w.nii.gz", model, "volume")
    made = run(recipe).report.scenes[0].report
    assert made is not None
    assert {"sub-01_T1w_probseg.nii.gz", "sub-01_T1w_probseg.json"} <= {item.name for item in made.outputs}
    image = nib.load(tmp_path / "out" / "sub-01_T1w_probseg.nii.gz")
    labels = nib.load(tmp_path / "out" / "sub-01_T1w_dseg.nii.gz")
    assert image.shape == (*labels.shape, 3)
    np.testing.assert_array_equal(image.affine, labels.affine)
    found = image.get_fdata()
    np.testing.assert_allclose(found.sum(axis=3), 1, atol=1.1 / 255)
    at = np.take_along_axis(found, np.asarray(labels.dataobj)[..., None].astype(int), 3)[..., 0]
    np.testing.assert_array_equal(at, found.max(axis=3))
    assert run(recipe).report.scenes[0].state == "unchanged"
