"""Runs on DICOM, NRRD and MetaImage give the labels of the same volume as NIfTI; no patient is named anywhere."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from flows.cli.main import main
from pipelines import run
from segflow.errors import InputError, RecipeError
from segflow.io.dicom import choose, series_in
from segflow.recipe import Recipe
from segflow.report import from_json
from tests.dicoms import PATIENT, uid, write_enhanced, write_series
from tests.making import make_model, texture
from tests.pipelines.test_run import cut_off, recipe_of
from tests.segflow.io.test_dicom_series import affine_of

SHAPE = (24, 28, 20)


def recipe_for(folder: Path, inputs: Any, model: Path, **parts: Any) -> Recipe:
    """A recipe for volumes that needs no trial of backends, and names series after their folders."""
    outputs = {"folder": str(folder), "name": "{stem}"}
    return recipe_of(folder, inputs, model, kind="volume", compute={"backend": "torch"}, outputs=outputs, **parts)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"), "volume")


@pytest.fixture(scope="module")
def values() -> np.ndarray:
    return texture(SHAPE, 1, 5)[0].astype(np.int16)


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory, model: Path, values: np.ndarray) -> nib.Nifti1Image:
    """The label map of the volume as NIfTI."""
    folder = tmp_path_factory.mktemp("nifti")
    image = nib.Nifti1Image(values, affine_of())
    image.to_filename(folder / "scene.nii.gz")
    assert run(recipe_for(folder / "out", folder / "scene.nii.gz", model)).exit_code == 0
    return nib.load(folder / "out" / "scene_dseg.nii.gz")


def labels_of(folder: Path, scene: str, like: nib.Nifti1Image) -> None:
    """Check that a run's label map is the wanted one, on the same points."""
    image = nib.load(folder / f"{scene}_dseg.nii.gz")
    assert np.allclose(image.affine, like.affine, atol=1e-4)
    assert np.array_equal(np.asanyarray(image.dataobj), np.asanyarray(like.dataobj))
    report = from_json((folder / f"{scene}_report.json").read_text())
    assert report.geometry is not None
    assert report.geometry.agrees


@pytest.mark.parametrize("form", ["folder", "zip", "enhanced", "nested", "nrrd", "nhdr", "mha", "mhd"])
def test_labels_do_not_depend_on_the_format_of_the_input(
    tmp_path: Path, form: str, model: Path, values: np.ndarray, wanted: nib.Nifti1Image
) -> None:
    place = tmp_path / "scene"
    if form in ("folder", "nested", "zip"):
        paths = write_series(place if form != "nested" else place / "deep", values, affine_of())
        (place / "readme.txt").write_text("junk")
        if form == "zip":
            with zipfile.ZipFile(tmp_path / "scene.zip", "w") as archive:
                for path in paths:
                    archive.write(path, path.name)
            place = tmp_path / "scene.zip"
    elif form == "enhanced":
        place = write_enhanced(tmp_path / "scene.dcm", values, affine_of())
    else:
        place = tmp_path / f"scene.{form}"
        image = sitk.GetImageFromArray(values.transpose(2, 1, 0))
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_of()
        sides = np.linalg.norm(lps[:3, :3], axis=0)
        image.SetSpacing(sides.tolist())
        image.SetDirection((lps[:3, :3] / sides).ravel().tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        sitk.WriteImage(image, str(place), form == "nrrd")
    assert run(recipe_for(tmp_path / "out", place, model)).exit_code == 0
    labels_of(tmp_path / "out", "deep" if form == "nested" else "scene", wanted)


def test_no_patient_is_named_in_anything_that_is_written_or_logged(
    tmp_path: Path, model: Path, values: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    write_series(tmp_path / "scene", values, affine_of())
    caplog.set_level(logging.DEBUG)
    assert run(recipe_for(tmp_path / "out", tmp_path / "scene", model)).exit_code == 0
    texts = [path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()] + [caplog.text.encode()]
    for secret in (*PATIENT.split("^"), "SECRET-42", "19200725"):
        assert not any(secret.encode() in text for text in texts)


def test_a_finished_series_is_left_alone_until_a_slice_changes(tmp_path: Path, model: Path, values: np.ndarray) -> None:
    write_series(tmp_path / "scene", values, affine_of())
    recipe = recipe_for(tmp_path / "out", tmp_path / "scene", model)
    assert run(recipe).report.scenes[0].state == "done"
    assert run(recipe).report.scenes[0].state == "unchanged"
    shutil.move(tmp_path / "scene", tmp_path / "else")
    shutil.copytree(tmp_path / "else", tmp_path / "scene")
    assert run(recipe).report.scenes[0].state == "unchanged"
    write_series(tmp_path / "scene", values + 1, affine_of(), per_slice=[{}] * 20)
    assert run(recipe).report.scenes[0].state == "done"


def test_a_run_that_was_cut_off_goes_on_to_the_same_labels(
    tmp_path: Path, model: Path, values: np.ndarray, wanted: nib.Nifti1Image
) -> None:
    write_series(tmp_path / "scene", values, affine_of())
    recipe = recipe_for(tmp_path / "out", tmp_path / "scene", model)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, executor=cut_off(0))
    assert run(recipe).exit_code == 0
    labels_of(tmp_path / "out", "scene", wanted)


def test_a_plan_reads_the_series_and_writes_nothing(
    tmp_path: Path, model: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    write_series(tmp_path / "in" / "scene", values, affine_of())
    recipe = {"kind": "volume", "inputs": "in", "model": {"weights": str(model)}, "compute": {"backend": "torch"}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    before = sorted(tmp_path.rglob("*"))
    assert main(["plan", str(tmp_path / "recipe.yaml")]) == 0
    assert "x 24, y 28, z 20" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


def test_scenes_are_named_by_their_folders_and_by_a_hash_where_these_hold_several(
    tmp_path: Path, model: Path, values: np.ndarray
) -> None:
    small = values[:8, :8, :8]
    for name in ("ann", "bob"):
        write_series(tmp_path / "in" / name, small, affine_of(), StudyInstanceUID=uid(name))
    write_series(tmp_path / "in" / "bob", small, affine_of(), series="x", SeriesDescription="FLAIR")
    inputs = {"path": str(tmp_path / "in"), "series": {"SeriesDescription": "t1"}}
    outcome = run(recipe_for(tmp_path / "out", inputs, model))
    names = [item.scene for item in outcome.report.scenes]
    key = next(item.key for item in series_in(str(tmp_path / "in" / "bob")) if item.tags["SeriesDescription"] == "T1")
    assert names == ["ann", f"bob_{key}"]


def test_series_of_several_folders_are_the_channels_of_a_scene(tmp_path: Path, values: np.ndarray) -> None:
    two = make_model(tmp_path / "m", "volume", channels=("t1", "flair"))
    for case in ("a", "b"):
        for name, shift in (("T1", 0), ("FLAIR", 3)):
            write_series(tmp_path / "in" / case / name, values + shift, affine_of())
    channels = {"t1": "{case}/T1", "flair": "{case}/FLAIR"}
    inputs = {"path": str(tmp_path / "in"), "channels": channels}
    outcome = run(recipe_for(tmp_path / "out", inputs, two))
    assert [(item.scene, item.state) for item in outcome.report.scenes] == [("a", "done"), ("b", "done")]


def test_what_is_meant_by_several_series_or_none_is_asked(tmp_path: Path, model: Path, values: np.ndarray) -> None:
    write_series(tmp_path / "in", values, affine_of(), series="a")
    write_series(tmp_path / "in", values, affine_of(), series="b", SeriesDescription="FLAIR")
    with pytest.raises(InputError, match="2 series of one study"):
        run(recipe_for(tmp_path / "out", tmp_path / "in", model))
    none = {"path": str(tmp_path / "in"), "series": {"SeriesDescription": "CT"}}
    with pytest.raises(InputError, match="no series of slices that matches SeriesDescription: CT"):
        run(recipe_for(tmp_path / "out", none, model))
    nib.Nifti1Image(values, affine_of()).to_filename(tmp_path / "x.nii.gz")
    nifti = {"path": str(tmp_path / "x.nii.gz"), "series": {"SeriesDescription": "CT"}}
    with pytest.raises(RecipeError, match="is no DICOM"):
        run(recipe_for(tmp_path / "out", nifti, model))
    with pytest.raises(InputError, match="one slice of a series of 20"):
        run(recipe_for(tmp_path / "out", sorted((tmp_path / "in").iterdir())[0], model))
    assert not (tmp_path / "out").exists()


def test_a_broken_series_is_refused_and_costs_the_others_nothing(
    tmp_path: Path, model: Path, values: np.ndarray
) -> None:
    small = values[:8, :8, :8]
    write_series(tmp_path / "in" / "good", small, affine_of(), StudyInstanceUID=uid("good"))
    gap = write_series(tmp_path / "in" / "gap", small, affine_of(), StudyInstanceUID=uid("gap"))
    gap[4].unlink()
    cut = write_series(tmp_path / "in" / "cut", small, affine_of(), StudyInstanceUID=uid("cut"))
    cut[0].write_bytes(cut[0].read_bytes()[:300])
    outcome = run(recipe_for(tmp_path / "out", tmp_path / "in", model))
    states = {item.scene: item.state for item in outcome.report.scenes}
    assert states == {"good": "done", "gap": "refused", "cut": "refused"}
    assert outcome.exit_code == 1
    assert (tmp_path / "out" / "good_dseg.nii.gz").exists()


@pytest.mark.parametrize("harm", ["gap", "sizes", "truncated", "empty", "slip", "junk"])
def test_bad_input_ends_with_exit_code_2_and_leaves_nothing(
    tmp_path: Path, harm: str, model: Path, values: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "in"
    paths = write_series(place, values[:8, :8, :8], affine_of())
    if harm == "gap":
        paths[3].unlink()
    elif harm == "sizes":
        paths[3].unlink()
        write_series(tmp_path / "other", values[:9, :8, 3:4], affine_of(), series=str(place))[0].rename(paths[3])
    elif harm == "truncated":
        paths[3].write_bytes(paths[3].read_bytes()[:-40])
    elif harm == "empty":
        shutil.rmtree(place)
        place.mkdir()
    else:
        place = tmp_path / "in.zip"
        place.write_bytes(b"PK\5\6 no archive")
        if harm == "slip":
            with zipfile.ZipFile(place, "w") as archive:
                archive.write(paths[0], "../../x.dcm")
    words = ["run", "-m", str(model), "-i", str(place), "-o", str(tmp_path / "out")]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "remedy" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()


def test_without_pydicom_the_error_says_what_to_install(tmp_path: Path, values: np.ndarray) -> None:
    write_series(tmp_path / "in", values[:8, :8, :4], affine_of())
    code = (
        "import sys\nsys.modules['pydicom'] = None\n"
        "from segflow.io.dicom import series_in\n"
        "try:\n    series_in(sys.argv[1])\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "in")], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("InputError")
    assert "pip install 'segflow[dicom]'" in done.stdout


@pytest.mark.parametrize(("suffix", "axes"), [(".nrrd", "RAS"), (".seg.nrrd", "LPS"), (".mha", "PIL"), (".mhd", "ASR")])
def test_a_reference_in_another_format_and_orientation_gives_the_scores_of_nifti(
    tmp_path: Path, suffix: str, axes: str, model: Path, values: np.ndarray
) -> None:
    write_series(tmp_path / "scene", values, affine_of())
    truth = (values > 128).astype(np.uint8)
    nib.Nifti1Image(truth, affine_of()).to_filename(tmp_path / "scene.nii.gz")
    image = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "scene.nii.gz")), axes)
    sitk.WriteImage(image, str(tmp_path / f"scene{suffix}"), suffix != ".mhd")
    found = []
    for ending in (suffix, ".nii.gz"):
        folder = tmp_path / f"out{ending}"
        recipe = recipe_for(folder, tmp_path / "scene", model, references=f"{{stem}}{ending}")
        assert run(recipe).exit_code == 0
        found.append(from_json((folder / "scene_report.json").read_text()))
    assert found[0].overall is not None
    assert found[0].overall == found[1].overall
    assert found[0].geometry is not None
    assert found[0].geometry.agrees
    assert found[0].geometry.files[2].orientation == axes


@pytest.mark.real
def test_the_built_in_hippocampus_model_runs_on_both_real_series(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "-m", "builtin:hippocampus", "-i", str(shared_data / "dicom-mr"), "-o", str(tmp_path / "out")]
    words += ["--set", 'outputs.name="{stem}"']
    assert main([*words, "--json"]) == 0
    assert [item["state"] for item in json.loads(capsys.readouterr().out)["scenes"]] == ["done", "done"]
    for series in choose(series_in(str(shared_data / "dicom-mr")), None, ""):
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(series.place))
        labels = sitk.ReadImage(str(tmp_path / "out" / f"{Path(series.place).name}_dseg.nii.gz"))
        assert labels.GetSize() == image.GetSize()
        for corner in ((0, 0, 0), tuple(n - 1 for n in image.GetSize())):
            assert np.allclose(
                labels.TransformIndexToPhysicalPoint(corner), image.TransformIndexToPhysicalPoint(corner), atol=1e-4
            )
        found = np.bincount(sitk.GetArrayFromImage(labels).ravel(), minlength=3)
        assert all(1000 < count < 3500 for count in found[1:]), "millilitres of a hippocampus' halves, in mm³"
    assert main([*words, "--json"]) == 0
    assert [item["state"] for item in json.loads(capsys.readouterr().out)["scenes"]] == ["unchanged", "unchanged"]
