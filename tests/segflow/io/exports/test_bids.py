"""The derivatives dataset, judged by the validator of BIDS itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segflow.errors import OutputError
from segflow.io.exports.bids import Bids, datasets_of
from segflow.io.exports.bids_names import abbreviations, lookup_table, tree_stem
from segflow.models.card import LabelClass
from tests.segflow.io.exports.making import CODED, publish, validated

LABELS = np.random.default_rng(5).choice([0, 1, 7], (5, 6, 7)).astype(np.uint8)
GREY = LabelClass(
    id=2,
    name="grey matter",
    colour="#AABBCC",
    codes={"category": "SCT 91723000 Anatomical Structure", "type": "SCT 389081007 Gray Matter"},
)


def raw_dataset(folder: Path, *names: str) -> Path:
    """A BIDS dataset of images by these names."""
    folder.mkdir()
    (folder / "dataset_description.json").write_text('{"Name": "raw", "BIDSVersion": "1.10.0"}')
    for name in names:
        path = folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(np.zeros(LABELS.shape, np.int16), np.eye(4))
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
    return folder


def test_the_validator_finds_no_error_in_a_run_over_a_bids_dataset(tmp_path: Path) -> None:
    names = (
        "sub-01/anat/sub-01_T1w",
        "sub-01/anat/sub-01_T2w",
        "sub-02/ses-a/anat/sub-02_ses-a_acq-hi_run-1_T1w",
        "sub-02/ses-a/func/sub-02_ses-a_task-rest_bold",
    )
    raw, out = raw_dataset(tmp_path / "raw", *names), tmp_path / "out"
    exporter = Bids("run", "brain-tissue", datasets_of([raw / "sub-*"]), probabilities=True)
    files: list[Path] = []
    for name in names:
        source = raw / f"{name}.nii.gz"
        published = publish(out, LABELS, np.eye(4), CODED, Path(name).name, source)
        probabilities = out / f"{Path(name).name}_probseg.nii.gz"
        nib.save(nib.load(published.labels), probabilities)
        published = replace(published, files={**published.files, "probabilities": probabilities})
        exporter.require(published)
        exporter.write(published)
        files += exporter.files(published.scene, out)
    for name in ("report.json", "report.html", "metrics.csv", "sub-01_T1w.seg.nrrd", "sub-01_T1w_report.json"):
        (out / name).write_text("{}")
    issues, summary = validated(out)
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert {issue["code"] for issue in issues} <= {"README_FILE_MISSING", "TOO_FEW_AUTHORS", "SIDECAR_KEY_RECOMMENDED"}
    assert sorted(summary["subjects"]) == ["01", "02"]
    assert summary["totalFiles"] == len({path for path in files if path.name != ".bidsignore"})
    sidecar = json.loads((out / "sub-01/anat/sub-01_seg-braintissue_desc-T1w_dseg.json").read_text())
    assert sidecar["Sources"] == ["bids:source:sub-01/anat/sub-01_T1w.nii.gz"]
    description = json.loads((out / "dataset_description.json").read_text())
    assert description["DatasetLinks"] == {"source": "../raw"}
    assert (out / "sub-01/anat/sub-01_seg-braintissue_desc-T1w_dseg.nii.gz").read_bytes() == (
        out / "sub-01_T1w_dseg.nii.gz"
    ).read_bytes()


def test_the_validator_finds_no_error_where_the_images_are_not_named_by_bids(tmp_path: Path) -> None:
    for scene in ("hippocampus_001", "hippocampus-001", "Zürich (2)"):
        published = publish(tmp_path, LABELS, np.eye(4), scene=scene)
        published.folder.joinpath(f"{scene}_source.nii.gz").unlink()
        Bids("run", "hippocampus").write(published)
    issues, summary = validated(tmp_path)
    assert [issue for issue in issues if issue["severity"] == "error"] == []
    assert len(summary["subjects"]) == 3


@pytest.mark.parametrize(
    ("scene", "stem"),
    [
        ("sub-01_T1w", "sub-01/anat/sub-01_seg-x_desc-T1w"),
        ("sub-01", "sub-01/anat/sub-01_seg-x"),
        ("sub-01_ses-a_run-2_FLAIR", "sub-01/ses-a/anat/sub-01_ses-a_run-2_seg-x_desc-FLAIR"),
        ("sub-01_task-rest_bold", "sub-01/func/sub-01_task-rest_seg-x_desc-bold"),
        ("sub-01_dir-AP_dwi", "sub-01/dwi/sub-01_dir-AP_seg-x_desc-dwi"),
        ("sub-01_space-MNI_res-1_desc-preproc_T1w", "sub-01/anat/sub-01_space-MNI_seg-x_res-1_desc-preprocT1w"),
        ("study1", "sub-study1/anat/sub-study1_seg-x"),
    ],
)
def test_entities_of_a_bids_name_are_kept_in_their_order(scene: str, stem: str) -> None:
    assert tree_stem(scene, "x") == stem


NOT_OF_BIDS = st.text("abAB01_- ü.", min_size=1, max_size=9).filter(lambda name: not name.startswith("sub-"))


@given(one=NOT_OF_BIDS, two=NOT_OF_BIDS)
def test_two_scenes_that_are_not_named_by_bids_never_share_a_name(one: str, two: str) -> None:
    assert (tree_stem(one, "x") == tree_stem(two, "x")) == (one == two)


def test_the_lookup_table_maps_to_the_common_labels_of_bids_where_a_code_says_so() -> None:
    rows = [line.split("\t") for line in lookup_table((*CODED, GREY)).splitlines()]
    assert rows == [
        ["index", "name", "abbreviation", "color", "mapping"],
        ["0", "rest", "BG", "#000000", "0"],
        ["1", "left liver", "LL", "#ff8000", "n/a"],
        ["2", "grey matter", "GM", "#aabbcc", "1"],
        ["7", "spleen", "spl", "#0080ff", "n/a"],
    ]


def test_no_abbreviation_is_there_twice() -> None:
    classes = [LabelClass(id=i, name=name, colour="#000000") for i, name in enumerate(("a b", "a b", "ab", "é"), 1)]
    found = abbreviations(classes)
    assert len(set(found)) == len(found)


def test_another_dataset_is_not_written_over(tmp_path: Path) -> None:
    raw = raw_dataset(tmp_path / "raw", "sub-01/anat/sub-01_T1w")
    published = publish(raw, LABELS, np.eye(4), source=raw / "sub-01/anat/sub-01_T1w.nii.gz")
    with pytest.raises(OutputError, match="BIDS dataset of its own") as refused:
        Bids("run", "x").require(published)
    assert "derivatives/segflow" in refused.value.remedy
