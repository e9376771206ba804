"""From a DICOM series to what 3D Slicer, ITK-SNAP, BIDS and a PACS take: the same voxels at the same places."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import highdicom
import nibabel as nib
import nrrd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
import slicerio

from pipelines import run
from segflow.io.dicom import series_in
from segflow.recipe import parse_recipe
from tests.making import write_volume
from tests.pipelines.radiology import WORDS, made_model, made_series, segmented
from tests.segflow.io.exports.making import LIVER, REST, SPLEEN, validated

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NAMES = {"scene_seg.dcm", "scene_sr.dcm", "scene.seg.nrrd", "scene.ctbl", "scene_itksnap.txt", "dseg.tsv"}


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("made"),
        pytest.param("study1", marks=pytest.mark.real),
    ],
)
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A series, and the folder of what was made of it."""
    folder = tmp_path_factory.mktemp("radiology")
    if request.param == "made":
        place, weights = made_series(folder), made_model(folder / "model")
    else:
        shared: Path = request.getfixturevalue("shared_data")
        place, weights = shared / "dicom-mr" / request.param, "builtin:hippocampus"
    assert segmented(folder / "out", place, weights).exit_code == 0
    assert segmented(folder / "out", place, weights).report.scenes[0].state == "unchanged"
    return place, folder / "out"


def test_all_readers_agree_on_every_physical_point(scene: tuple[Path, Path]) -> None:
    place, out = scene
    labels = nib.load(out / "scene_dseg.nii.gz")
    values = np.asarray(labels.dataobj)
    assert {path.name for path in out.iterdir()} >= _NAMES
    assert len(np.unique(values)) > 1
    slicer, header = nrrd.read(str(out / "scene.seg.nrrd"))
    image = sitk.ReadImage(str(out / "scene.seg.nrrd"))
    reader = sitk.ImageSeriesReader()
    (series,) = series_in(str(place))
    reader.SetFileNames([item.member.path for item in series.images])
    source = reader.Execute()
    np.testing.assert_array_equal(slicer, values)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, values)
    assert source.GetSize() == values.shape
    for corner in itertools.product(*((0, n - 1) for n in values.shape)):
        point = (_LPS @ labels.affine @ (*corner, 1))[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(corner), point, atol=1e-3)
        np.testing.assert_allclose(header["space origin"] + corner @ header["space directions"], point, atol=1e-3)
        np.testing.assert_allclose(source.TransformIndexToPhysicalPoint(corner), point, atol=2e-3)


def test_the_segmentation_has_the_voxels_of_the_label_map(scene: tuple[Path, Path]) -> None:
    _, out = scene
    labels = nib.load(out / "scene_dseg.nii.gz")
    values = np.asarray(labels.dataobj)
    found = highdicom.seg.segread(out / "scene_seg.dcm")
    ids = [item["labelValue"] for item in slicerio.read_segmentation(str(out / "scene.seg.nrrd"))["segments"]]
    volume = found.get_volume(combine_segments=True)
    to_labels = np.linalg.inv(_LPS @ labels.affine) @ volume.affine
    index = np.stack([*np.indices(volume.array.shape).reshape(3, -1), np.ones(volume.array.size, int)])
    where = (to_labels @ index)[:3]
    np.testing.assert_allclose(where, np.rint(where), atol=1e-3)
    at = tuple(np.rint(where).astype(int))
    np.testing.assert_array_equal(np.array([0, *ids])[volume.array.ravel()], values[at])
    assert volume.array.any()
    assert (volume.array != 0).sum() == (values != 0).sum()


def test_the_report_of_volumes_says_what_report_json_says(scene: tuple[Path, Path]) -> None:
    _, out = scene
    groups = highdicom.sr.srread(out / "scene_sr.dcm").content.get_volumetric_roi_measurement_groups()
    found = {str(group.tracking_identifier): float(group.get_measurements()[0].value) for group in groups}
    told = json.loads((out / "scene_report.json").read_text())["classes"]
    expected = {item["name"]: item["volume_ml"] * 1000 for item in told if item["id"] != 0}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-2)


def test_codes_that_were_lacking_are_added_without_running_the_model_again(tmp_path: Path) -> None:
    place = made_series(tmp_path)
    bare = LIVER.model_copy(update={"codes": {}})
    weights = made_model(tmp_path / "model", (REST, bare, SPLEEN))
    outcome = segmented(tmp_path / "out", place, weights)
    assert outcome.exit_code == 1
    assert "1 (left liver)" in str(outcome.report.scenes[0].error)
    assert not (tmp_path / "out" / "scene_seg.dcm").exists()
    made = (tmp_path / "out" / "scene_dseg.nii.gz").stat().st_mtime_ns
    made_model(tmp_path / "model", (REST, LIVER, SPLEEN))
    outcome = segmented(tmp_path / "out", place, weights)
    assert (outcome.exit_code, outcome.report.scenes[0].state) == (0, "done")
    assert (tmp_path / "out" / "scene_dseg.nii.gz").stat().st_mtime_ns == made
    segments = slicerio.read_segmentation(str(tmp_path / "out" / "scene.seg.nrrd"))["segments"]
    assert segments[0]["terminology"]["type"][1] == "10200004"


def test_patient_data_are_in_dicom_only(scene: tuple[Path, Path]) -> None:
    place, out = scene
    first = pydicom.dcmread(next(path for path in sorted(place.rglob("*.dcm"))), stop_before_pixels=True)
    assert pydicom.dcmread(out / "scene_seg.dcm").PatientID == first.PatientID
    for path in out.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            content = path.read_bytes()
            assert not any(word.encode() in content for word in WORDS), path


def test_a_bids_dataset_gives_derivatives_that_the_validator_passes_and_that_go_when_not_wanted(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for name in ("sub-01/anat/sub-01_T1w", "sub-02/ses-a/anat/sub-02_ses-a_T1w"):
        write_volume(raw / f"{name}.nii.gz", (33, 34, 35))
    (raw / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.10.0"}')
    out = tmp_path / "derivatives" / "segflow"
    asked: dict[str, Any] = {
        "kind": "volume",
        "inputs": str(raw / "sub-*" / "**" / "*_T1w.nii.gz"),
        "model": {"weights": made_model(tmp_path / "model")},
        "outputs": {"folder": str(out), "bids": True, "probabilities": True},
    }
    assert run(parse_recipe(asked, tmp_path)).exit_code == 0
    issues, summary = validated(out)
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert (sorted(summary["subjects"]), summary["sessions"]) == (["01", "02"], ["a"])
    stem = "sub-02/ses-a/anat/sub-02_ses-a_seg-randomvolume_desc-T1w"
    sidecar = json.loads((out / f"{stem}_probseg.json").read_text())
    assert sidecar["Sources"] == ["bids:source:sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz"]
    assert json.loads((out / "dataset_description.json").read_text())["DatasetLinks"] == {"source": "../../raw"}
    assert nib.load(out / f"{stem}_probseg.nii.gz").shape[3] == len(sidecar["LabelMap"])
    asked["outputs"]["bids"] = False
    run(parse_recipe(asked, tmp_path))
    assert not any(path.is_file() for path in out.rglob("sub-*/anat/*"))
    assert not (out / "dataset_description.json").exists()
    assert not (out / "sub-01").exists()
    assert (out / "sub-01_T1w_dseg.nii.gz").is_file()
