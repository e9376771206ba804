"""DICOM segmentations: the same voxels at the same places, codes that were given, UIDs that repeat."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from segflow.errors import OutputError
from segflow.io.dicom import series_in
from segflow.io.exports import Published
from segflow.io.exports.dicom_seg import LARGEST_BYTES, DicomSeg
from segflow.io.volume import VolumeSpec
from segflow.models.card import LabelClass
from tests.dicoms import write_enhanced, write_series
from tests.segflow.io.exports.making import CODED, LIVER, oblique, publish

SHAPE = (7, 5, 4)
PATIENT = "Müller^Änne"
PIXELS = np.zeros(SHAPE, np.int16)
AFFINE = oblique(25, (0.8, 1.2, 2.5), (10, -20, 30)) @ np.diag([-1.0, -1.0, 1.0, 1.0])
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def labels_of(seed: int = 0, ids: tuple[int, ...] = (0, 1, 7)) -> NDArray[np.uint16]:
    return np.random.default_rng(seed).choice(ids, SHAPE).astype(np.uint16)


def scene(folder: Path, place: Path, labels: NDArray[np.uint16], classes: tuple[LabelClass, ...] = CODED) -> Published:
    (series,) = series_in(str(place))
    published = publish(folder, labels, series.affine(), classes)
    return replace(published, spec=VolumeSpec(series.path), inputs=(series.path,))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom")
    who = {"PatientName": PATIENT, "SpecificCharacterSet": "ISO_IR 100", "PatientID": "4711-0815", "PatientSex": "F"}
    write_series(folder, PIXELS, AFFINE, **who, ContentDate="20200103", ContentTime="101314.5")
    return folder


def written(exporter: DicomSeg, published: Published) -> highdicom.seg.Segmentation:
    exporter.require(published)
    exporter.write(published)
    return highdicom.seg.segread(exporter.files(published.scene, published.folder)[0])


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_every_voxel_lies_where_the_label_map_has_it(tmp_path: Path, place: Path, kind: str) -> None:
    labels = labels_of()
    found = written(DicomSeg(kind), scene(tmp_path, place, labels))  # type: ignore[arg-type]
    volume = found.get_volume(combine_segments=True)
    to_labels = np.linalg.inv(_LPS @ AFFINE) @ volume.affine
    expected = np.searchsorted([0, 1, 7], labels)
    for index in np.ndindex(volume.array.shape):
        x, y, z = np.rint((to_labels @ (*index, 1))[:3]).astype(int)
        assert np.abs((to_labels @ (*index, 1))[:3] - (x, y, z)).max() < 1e-3
        assert volume.array[index] == expected[x, y, z]


def test_an_enhanced_image_is_met_frame_by_frame(tmp_path: Path) -> None:
    labels = labels_of()
    path = write_enhanced(tmp_path / "in" / "one.dcm", PIXELS, AFFINE)
    found = written(DicomSeg(), scene(tmp_path / "out", path, labels))
    source = pydicom.dcmread(path)
    places = [
        float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        for frame in source.PerFrameFunctionalGroupsSequence
    ]
    numbers = [int(number) + 1 for number in np.argsort(places)]
    frames = found.get_pixels_by_source_frame(source.SOPInstanceUID, numbers, combine_segments=True)
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), np.searchsorted([0, 1, 7], labels))


def test_segments_have_the_codes_of_the_card_and_numbers_from_one(tmp_path: Path, place: Path) -> None:
    found = written(DicomSeg(), scene(tmp_path, place, labels_of()))
    liver, spleen = found.SegmentSequence
    assert [(item.SegmentNumber, item.SegmentLabel) for item in (liver, spleen)] == [(1, "left liver"), (2, "spleen")]
    kind = liver.SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("10200004", "SCT", "Liver")
    assert kind.SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    assert liver.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    assert liver.AnatomicRegionSequence[0].CodeMeaning == "Abdomen"
    assert "SegmentedPropertyTypeModifierCodeSequence" not in spleen.SegmentedPropertyTypeCodeSequence[0]
    assert liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmName == "made-up"
    assert "1" * 16 in liver.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion


def test_patient_study_and_images_are_those_of_the_series_in_the_order_of_positions(
    tmp_path: Path, place: Path
) -> None:
    found = written(DicomSeg(), scene(tmp_path, place, labels_of()))
    sources = {str(data.SOPInstanceUID): data for path in place.iterdir() for data in [pydicom.dcmread(path)]}
    one = next(iter(sources.values()))
    for keyword in ("PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert found[keyword].value == one[keyword].value
    assert str(found.PatientName) == PATIENT
    listed = [item.ReferencedSOPInstanceUID for item in found.ReferencedSeriesSequence[0].ReferencedInstanceSequence]
    normal = np.cross(*np.reshape([float(v) for v in one.ImageOrientationPatient], (2, 3)))
    places = [float(np.dot(normal, [float(v) for v in sources[uid].ImagePositionPatient])) for uid in listed]
    assert len(listed) == SHAPE[2]
    assert places == sorted(places)


def test_a_repeat_gives_the_same_bytes_and_other_labels_other_uids(tmp_path: Path, place: Path) -> None:
    exporter = DicomSeg(sr=True)
    published = scene(tmp_path / "one", place, labels_of())
    one = written(exporter, published)
    again = scene(tmp_path / "two", place, labels_of())
    written(exporter, again)
    for first, second in zip(
        exporter.files("scene", published.folder), exporter.files("scene", again.folder), strict=True
    ):
        assert first.read_bytes() == second.read_bytes()
    alone = written(DicomSeg(), scene(tmp_path / "alone", place, labels_of()))
    assert alone.SOPInstanceUID == one.SOPInstanceUID  # a report beside it makes no other segmentation
    other = written(exporter, scene(tmp_path / "three", place, labels_of(1)))
    assert other.SOPInstanceUID != one.SOPInstanceUID
    assert other.SeriesInstanceUID != one.SeriesInstanceUID


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_a_scene_without_any_finding_gives_an_empty_segmentation_and_volumes_of_0(
    tmp_path: Path, place: Path, kind: str
) -> None:
    exporter = DicomSeg(kind, sr=True)  # type: ignore[arg-type]
    published = scene(tmp_path, place, labels_of(ids=(0,)))
    found = written(exporter, published)
    assert not found.pixel_array.any()
    assert found.segment_numbers == [1, 2]
    assert set(volumes(exporter.files("scene", tmp_path)[1]).values()) == {0.0}


def volumes(path: Path) -> dict[str, float]:
    """What a report says, by the tracking identifier of each segment, read by highdicom."""
    report = highdicom.sr.srread(path)
    groups = report.content.get_volumetric_roi_measurement_groups()
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    uids = [item.ReferencedSOPInstanceUID for series in evidence for item in series.ReferencedSOPSequence]
    assert pydicom.dcmread(path.with_name("scene_seg.dcm")).SOPInstanceUID in uids
    return {str(group.tracking_identifier): float(group.get_measurements()[0].value) for group in groups}


def test_the_report_has_the_volume_of_each_segment_in_cubic_millimetres(tmp_path: Path, place: Path) -> None:
    exporter = DicomSeg(sr=True)
    labels = labels_of()
    written(exporter, scene(tmp_path, place, labels))
    found = volumes(exporter.files("scene", tmp_path)[1])
    voxel = 0.8 * 1.2 * 2.5
    assert found == pytest.approx(
        {"left liver": (labels == 1).sum() * voxel, "spleen": (labels == 7).sum() * voxel}, abs=2e-3
    )


def test_codes_of_a_json_go_before_the_cards_and_change_the_settings(tmp_path: Path, place: Path) -> None:
    codes = tmp_path / "codes.json"
    code = {"CodeValue": "123", "CodingSchemeDesignator": "99TEST", "CodeMeaning": "Something"}
    entry = {
        "labelID": 7,
        "SegmentedPropertyCategoryCodeSequence": code,
        "SegmentedPropertyTypeCodeSequence": code,
    }
    exporter = DicomSeg(codes=codes)
    missing = dict(exporter.settings)
    codes.write_text(json.dumps({"segmentAttributes": [[entry]]}))
    found = written(exporter, scene(tmp_path / "out", place, labels_of()))
    assert found.SegmentSequence[1].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Something"
    assert found.SegmentSequence[0].SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Liver"
    assert dict(exporter.settings) != missing


def test_what_a_segmentation_cannot_say_is_refused_with_the_remedy(tmp_path: Path, place: Path) -> None:
    published = scene(tmp_path, place, labels_of())
    no_dicom = replace(published, spec=VolumeSpec(str(published.labels)))
    with pytest.raises(OutputError, match="is no DICOM"):
        DicomSeg().require(no_dicom)
    bare = replace(
        published, card=published.card.model_copy(update={"classes": (LIVER.model_copy(update={"codes": {}}),)})
    )
    with pytest.raises(OutputError, match=r"1 \(left liver\)"):
        DicomSeg().require(bare)
    nothing = replace(published, card=published.card.model_copy(update={"classes": CODED[:1]}))
    with pytest.raises(OutputError, match="no class but id 0"):
        DicomSeg().require(nothing)
    huge = replace(published, grid=replace(published.grid, shape=(4096, 4096, LARGEST_BYTES // 4096**2 * 8)))
    with pytest.raises(OutputError, match="may take") as refused:
        DicomSeg().require(huge)
    assert "LABELMAP" in refused.value.remedy


def test_a_label_map_of_other_images_is_refused(tmp_path: Path, place: Path) -> None:
    published = publish(tmp_path, labels_of(), np.eye(4))
    (series,) = series_in(str(place))
    with pytest.raises(OutputError, match="does not lie on the pixels"):
        DicomSeg().write(replace(published, spec=VolumeSpec(series.path)))
    assert not (tmp_path / "scene_seg.dcm").exists()


def test_a_series_without_patient_or_dates_gets_them_empty(tmp_path: Path, place: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    for path in place.iterdir():
        data = pydicom.dcmread(path)
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "StudyID", "SeriesNumber"):
            del data[keyword]
        data.save_as(folder / path.name)
    found = written(DicomSeg(sr=True), scene(tmp_path / "out", folder, labels_of()))
    assert not found.PatientName
    assert found.SeriesNumber == 1000


ODD: dict[str, object] = {
    "PatientName": "NO CARET " + "X" * 70,
    "PatientID": "P" * 70,
    "PatientBirthDate": "1950-01-01",
    "PatientSex": "female",
    "PatientAge": "34",
    "StudyDate": "last week",
    "StudyTime": "noon",
    "StudyID": "S" * 20,
    "AccessionNumber": "A" * 20,
    "SeriesNumber": "-7",
}


def test_headers_that_break_the_rules_are_inherited_as_they_are_and_said_nowhere(
    tmp_path: Path, place: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    with pydicom.config.disable_value_validation():
        for path in place.iterdir():
            data = pydicom.dcmread(path)
            for keyword, value in ODD.items():
                setattr(data, keyword, value)
            data.save_as(folder / path.name)
    exporter = DicomSeg(sr=True)
    published = scene(tmp_path / "out", folder, labels_of())
    with caplog.at_level(logging.DEBUG):
        exporter.require(published)
        exporter.write(published)
    said = caplog.text + "".join(capfd.readouterr())
    with pydicom.config.disable_value_validation():
        for path in exporter.files("scene", tmp_path / "out"):
            found = pydicom.dcmread(path)
            for keyword in (
                "PatientName",
                "PatientID",
                "PatientBirthDate",
                "PatientSex",
                "StudyDate",
                "AccessionNumber",
            ):
                assert str(found[keyword].value) == ODD[keyword]
    assert not any(str(value) in said for keyword, value in ODD.items() if keyword.startswith("Patient"))


def test_no_frame_of_reference_is_refused(tmp_path: Path, place: Path) -> None:
    folder = tmp_path / "lost"
    folder.mkdir()
    for path in place.iterdir():
        data = pydicom.dcmread(path)
        del data.FrameOfReferenceUID
        data.save_as(folder / path.name)
    with pytest.raises(OutputError, match="Frame of Reference"):
        DicomSeg().require(scene(tmp_path / "out", folder, labels_of()))


def test_no_log_holds_patient_data(tmp_path: Path, place: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        written(DicomSeg(sr=True), scene(tmp_path, place, labels_of()))
    assert not any(word in caplog.text for word in ("Müller", "Änne", "4711", "19200725"))
