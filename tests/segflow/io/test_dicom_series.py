"""DICOM series: found by content, sorted by position, chosen by tags; what is no regular volume is refused."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.eulerangles import euler2mat

from segflow.errors import InputError, RecipeError
from segflow.io.dicom import choose, series_at, series_in
from tests.dicoms import PATIENT, uid, write_enhanced, write_series

SHAPE = (7, 5, 6)


def affine_of(angles: tuple[float, float, float] = (0.3, -0.2, 0.4), flip: float = 1.0) -> np.ndarray:
    """An oblique affine: unequal sides, an origin; slices run against their normal where flip is -1."""
    matrix = np.eye(4)
    matrix[:3, :3] = euler2mat(*angles) @ np.diag([0.7, 0.9, 2.5 * flip])
    matrix[:3, 3] = (-31.5, 20.25, 7.125)
    return matrix


def volume(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(-900, 900, shape).astype(np.int16)


def only(place: Path) -> object:
    (series,) = choose(series_in(str(place)), None, str(place))
    return series


def corners_of(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    places = np.array([[x, y, z, 1.0] for x in (0, shape[0] - 1) for y in (0, shape[1] - 1) for z in (0, shape[2] - 1)])
    return (affine @ places.T).T[:, :3]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    flip=st.sampled_from([1.0, -1.0]),
    slices=st.integers(2, 6),
)
def test_slices_lie_where_simpleitk_puts_them(
    tmp_path: Path, angles: tuple[float, float, float], flip: float, slices: int
) -> None:
    folder = tmp_path / "series"
    shutil.rmtree(folder, ignore_errors=True)
    write_series(folder, volume(shape=(7, 5, slices)), affine_of(angles, flip))
    series = only(folder)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    assert [frame.image.member.path for frame in series.frames] == list(names)
    image = sitk.ReadImage(names)
    found = corners_of(series.affine(), (7, 5, slices))
    wanted = [image.TransformIndexToPhysicalPoint((x, y, z)) for x in (0, 6) for y in (0, 4) for z in (0, slices - 1)]
    assert np.allclose(found * (-1, -1, 1), wanted, atol=2e-4)


def test_the_datasets_of_a_series_come_in_the_order_of_its_slices_without_pixels(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), affine_of())
    series = only(tmp_path / "a")
    headers = list(series_at(series.path).headers())
    assert [data.SOPInstanceUID for data in headers] == [frame.image.sop_instance for frame in series.frames]
    assert all("PixelData" not in data and str(data.PatientName) == PATIENT for data in headers)


def test_frames_of_an_enhanced_file_are_sorted_by_position(tmp_path: Path) -> None:
    affine = affine_of()
    write_enhanced(tmp_path / "multi.dcm", volume(), affine)
    write_series(tmp_path / "plain", volume(), affine)
    series = only(tmp_path / "multi.dcm")
    assert np.allclose(series.affine(), only(tmp_path / "plain").affine(), atol=1e-6)
    assert sorted(frame.number for frame in series.frames) == list(range(6))
    assert [frame.number for frame in series.frames] != list(range(6))
    assert len(list(series.headers())) == 1


def test_a_zip_gives_the_same_slices_as_the_folder_and_junk_is_no_matter(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", volume(), affine_of())
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr("__MACOSX/._x.dcm", "junk")
        for path in paths:
            archive.write(path, f"deep/er/{path.name}")
    folder, packed = only(tmp_path / "a"), only(tmp_path / "a.zip")
    assert folder.key == packed.key
    assert np.array_equal(folder.affine(), packed.affine())
    assert [d.SOPInstanceUID for d in folder.headers()] == [d.SOPInstanceUID for d in packed.headers()]


def test_a_missing_slice_is_refused_by_its_position(tmp_path: Path) -> None:
    affine = affine_of((0, 0, 0))
    paths = write_series(tmp_path / "a", volume(), affine)
    paths[3].unlink()
    with pytest.raises(InputError, match=r"slices are missing, about 1: between 12\.12 and 17\.12 mm"):
        only(tmp_path / "a").affine()


def test_a_slice_that_is_there_twice_is_refused_by_its_position(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", volume(), affine_of((0, 0, 0)))
    shutil.copy(paths[2], tmp_path / "a" / "copy.dcm")
    with pytest.raises(InputError, match=r"1 slices lie where others do: at 12\.12 mm"):
        only(tmp_path / "a").affine()


def test_uneven_spacing_is_refused_by_position(tmp_path: Path) -> None:
    affine = affine_of((0, 0, 0))
    moved = [{} for _ in range(6)]
    moved[2] = {"ImagePositionPatient": ["31.5", "-20.25", str(7.125 + 2 * 2.5 + 0.8)]}
    write_series(tmp_path / "a", volume(), affine, per_slice=moved)
    with pytest.raises(InputError, match=r"unevenly spaced.*12\.93 mm"):
        only(tmp_path / "a").affine()


def test_positions_that_were_rounded_are_no_uneven_spacing(tmp_path: Path) -> None:
    shifted = [{"ImagePositionPatient": ["0", "0", f"{k * 0.625:.1f}"]} for k in range(30)]
    matrix = np.diag([0.5, 0.5, 0.625, 1.0])
    write_series(tmp_path / "a", volume(shape=(7, 5, 30)), matrix, per_slice=shifted)
    assert only(tmp_path / "a").affine()[2, 2] == pytest.approx(0.625, abs=0.003)


@pytest.mark.parametrize("degrees", [1.0, 15.0, -20.0])
def test_gantry_tilt_is_refused_with_its_angle(tmp_path: Path, degrees: float) -> None:
    matrix = np.diag([-0.5, -0.5, 3.0, 1.0])
    matrix[1, 2] = 3.0 * np.tan(np.radians(degrees))
    write_series(tmp_path / "a", volume(), matrix)
    with pytest.raises(InputError, match=rf"gantry tilt.*{abs(degrees):.2f} degrees"):
        only(tmp_path / "a").affine()


def test_two_series_in_a_folder_are_refused_with_the_list_and_told_apart_by_patterns(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), affine_of(), series="one", SeriesDescription="Ax T1 MPRAGE")
    write_series(tmp_path / "a", volume(1), affine_of(), series="two", SeriesDescription="Ax FLAIR", SeriesNumber=7)
    found = series_in(str(tmp_path / "a"))
    with pytest.raises(InputError, match="2 series of one study") as told:
        choose(found, None, "a")
    text = str(told.value)
    for part in ("Ax T1 MPRAGE", "Ax FLAIR", "series 7", "MR", "6 slices of 7 x 5", uid("series one"), "inputs.series"):
        assert part in text
    assert "Franklin" not in text
    assert "SECRET" not in text
    (series,) = choose(found, {"SeriesDescription": "*t1*", "Modality": "MR"}, "a")
    assert series.tags["SeriesInstanceUID"] == uid("series one")
    with pytest.raises(InputError, match="holds no series of slices that matches SeriesDescription: CT"):
        choose(found, {"SeriesDescription": "CT"}, "a")
    with pytest.raises(RecipeError, match="SeriesDescription"):
        choose(found, {"SeriesDescripton": "CT"}, "a")


def test_studies_give_a_scene_each(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_series(tmp_path / name, volume(), affine_of(), StudyInstanceUID=uid(name))
    assert len(choose(series_in(str(tmp_path)), None, "a")) == 2


def test_echoes_of_one_series_are_volumes_of_their_own(tmp_path: Path) -> None:
    for echo in (1, 2):
        write_series(tmp_path / str(echo), volume(echo), affine_of(), series="x", EchoNumbers=echo, EchoTime=4.5 * echo)
    found = series_in(str(tmp_path))
    assert [len(item.frames) for item in found] == [6, 6]
    assert [item.others for item in found] == [6, 6]
    (second,) = choose(found, {"EchoNumbers": "2"}, "a")
    assert second.place.endswith("2")
    assert series_at(second.path) == second


@pytest.mark.parametrize(
    "tags", [{"AcquisitionNumber": [1, 2]}, {"TriggerTime": ["10", "20"]}, {"AcquisitionTime": ["101500", "101530"]}]
)
def test_times_that_only_a_tag_tells_apart_are_volumes_of_their_own(tmp_path: Path, tags: dict[str, list]) -> None:
    ((key, values),) = tags.items()
    for number, value in enumerate(values):
        write_series(tmp_path / str(number), volume(number), affine_of(), series="x", **{key: value})
    found = series_in(str(tmp_path))
    assert [len(item.frames) for item in found] == [6, 6]
    assert all(series_at(item.path) == item for item in found)


def test_localizers_are_put_aside(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), affine_of())
    scout = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    write_series(tmp_path / "a", volume(shape=(9, 9, 3)), affine_of((1, 1, 1)), series="scout", ImageType=scout)
    assert only(tmp_path / "a").tags["SeriesInstanceUID"] == uid(f"series {tmp_path / 'a'}")


def test_a_slice_alone_is_taken_only_where_there_is_nothing_else(tmp_path: Path) -> None:
    """Pilots are slices in three directions, and often nothing says LOCALIZER."""
    for number in range(3):
        write_series(tmp_path / "a", volume(shape=(9, 9, 1)), affine_of((number, 0, 0)), series=f"pilot {number}")
    with pytest.raises(InputError, match="3 series of one study"):
        only(tmp_path / "a")
    write_series(tmp_path / "a", volume(), affine_of(), series="t1")
    assert only(tmp_path / "a").tags["SeriesInstanceUID"] == uid("series t1")
    write_series(tmp_path / "b", volume(shape=(9, 9, 1)), affine_of())
    assert only(tmp_path / "b").affine().shape == (4, 4)


def test_a_wide_gap_is_told_as_a_gap(tmp_path: Path) -> None:
    far = [{"ImagePositionPatient": ["0", "0", str(place)]} for place in (0, 80, 81.25, 82.5, 83.75)]
    write_series(tmp_path / "a", volume(shape=(7, 5, 5)), np.diag([0.5, 0.5, 1.25, 1.0]), per_slice=far)
    with pytest.raises(InputError, match=r"slices are missing, about 63: between 0\.00 and 80\.00 mm"):
        only(tmp_path / "a").affine()


def test_other_objects_of_the_study_are_left_out(tmp_path: Path) -> None:
    write_series(tmp_path / "a", volume(), affine_of())
    for modality in ("SEG", "RTSTRUCT", "SR"):
        write_series(tmp_path / "a", volume(shape=(7, 5, 1)), affine_of(), series=modality, Modality=modality)
    assert len(series_in(str(tmp_path / "a"))) == 1


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", volume(), affine_of())
    whole = paths[1].read_bytes()
    for length in (len(whole) - 10, 400, 140, 20, 0):
        paths[1].write_bytes(whole[:length])
        (series,) = series_in(str(tmp_path / "a"))
        with pytest.raises(InputError, match=paths[1].name):
            series.affine()
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(InputError, match="does not begin as DICOM files do"):
        series_in(str(tmp_path / "a"))


def test_a_zip_that_is_broken_or_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.zip").write_bytes(b"PK\3\4 nothing")
    with pytest.raises(InputError, match="is broken"):
        series_in(str(tmp_path / "cut.zip"))
    for name in ("../../evil.dcm", "/etc/evil.dcm", "C:\\evil.dcm", "..\\evil.dcm"):
        with zipfile.ZipFile(tmp_path / "slip.zip", "w") as archive:
            archive.writestr(name, b"x")
        with pytest.raises(InputError, match="leads out of the archive"):
            series_in(str(tmp_path / "slip.zip"))


def test_a_folder_without_series_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing here")
    with pytest.raises(InputError, match="holds no series of slices"):
        choose(series_in(str(tmp_path)), None, str(tmp_path))


@pytest.mark.real
def test_real_series_lie_where_simpleitk_puts_them(shared_data: Path) -> None:
    found = choose(series_in(str(shared_data / "dicom-mr")), None, "a")
    assert len(found) == 2
    for series in found:
        names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(series.place)
        assert [frame.image.member.path for frame in series.frames] == list(names)
        image = sitk.ReadImage(names)
        x, y, z = (n - 1 for n in image.GetSize())
        wanted = [image.TransformIndexToPhysicalPoint((a, b, c)) for a in (0, x) for b in (0, y) for c in (0, z)]
        assert np.allclose(corners_of(series.affine(), image.GetSize()) * (-1, -1, 1), wanted, atol=1e-5)
