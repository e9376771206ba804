"""Voxels of DICOM series: the same as SimpleITK's, dcm2niix's and those that were written, however they are packed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from segflow.errors import InputError
from segflow.io.dicom import choose, series_in
from segflow.io.opening import files_of, open_source
from segflow.io.volume import VolumeSpec, open_volume
from segflow.io.volume_formats import read_header
from tests.dicoms import write_enhanced, write_series
from tests.segflow.io.test_dicom_series import affine_of, corners_of, volume
from tiling.box import Box

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "big endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "RLE": RLELossless,
    "JPEG 2000": JPEG2000Lossless,
    "JPEG-LS": JPEGLSLossless,
}


def path_of(place: Path) -> str:
    (series,) = choose(series_in(str(place)), None, str(place))
    return series.path


def stored(path: str) -> NDArray[np.generic]:
    """All voxels (column, row, slice), in the order of the files' own axes."""
    source = open_volume(VolumeSpec(path, "ijk"))
    try:
        return source.read(Box.whole(source.grid.shape)).values[0]
    finally:
        source.close()


@pytest.mark.parametrize("name", SYNTAXES)
def test_every_transfer_syntax_gives_the_voxels_that_were_written(tmp_path: Path, name: str) -> None:
    values = volume(3, (41, 35, 3))
    write_series(tmp_path / "a", values, affine_of(), syntax=SYNTAXES[name])
    assert np.array_equal(stored(path_of(tmp_path / "a")), values)


@pytest.mark.parametrize(
    "name",
    [
        *("MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "MR_small_padded.dcm"),
        *("MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "CT_small.dcm", "693_J2KI.dcm"),
        *("J2K_pixelrep_mismatch.dcm", "examples_overlay.dcm"),
    ],
)
def test_files_of_scanners_are_read_as_simpleitk_reads_them(tmp_path: Path, name: str) -> None:
    """Files that pydicom's package holds."""
    path = tmp_path / name
    path.write_bytes((Path(pydicom.__file__).parent / "data" / "test_files" / name).read_bytes())
    image = sitk.ReadImage(str(path))
    header = read_header(path_of(path))
    assert np.allclose(header.matrix[:3, 3] * (-1, -1, 1), image.GetOrigin(), atol=1e-3)
    assert np.array_equal(stored(path_of(path)), sitk.GetArrayFromImage(image).transpose(2, 1, 0))


@pytest.mark.system
def test_jpeg_lossless_of_dcmtk_is_read(tmp_path: Path) -> None:
    """Process 14, selection value 1, which pydicom cannot write."""
    values = np.abs(volume(3)).astype(np.uint16)
    for path in write_series(tmp_path / "a", values, affine_of()):
        subprocess.run(["dcmcjpeg", "+e1", str(path), str(path)], check=True)
    assert np.array_equal(stored(path_of(tmp_path / "a")), values)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4"])
def test_every_width_and_sign_is_read(tmp_path: Path, dtype: str) -> None:
    info = np.iinfo(dtype)
    values = np.random.default_rng(1).integers(info.min, info.max, (7, 5, 3), np.dtype(dtype), endpoint=True)
    write_series(tmp_path / "a", values, affine_of())
    found = stored(path_of(tmp_path / "a"))
    assert found.dtype == values.dtype
    assert np.array_equal(found, values)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_beyond_those_that_are_stored_do_not_count(tmp_path: Path, signed: bool) -> None:
    low, high = (-2048, 2048) if signed else (0, 4096)
    values = np.random.default_rng(2).integers(low, high, (7, 5, 3)).astype(np.int16 if signed else np.uint16)
    dirty = (values.view(np.uint16) & 0x0FFF) | np.uint16(0xA000)
    write_series(tmp_path / "a", dirty, affine_of(), BitsStored=12, HighBit=11, PixelRepresentation=int(signed))
    assert np.array_equal(stored(path_of(tmp_path / "a")), values)


def test_slices_are_rescaled_each_by_its_own_numbers(tmp_path: Path) -> None:
    values = volume(4)
    own = [{"RescaleSlope": str(1 + k / 4), "RescaleIntercept": str(-10 * k)} for k in range(6)]
    write_series(tmp_path / "a", values, affine_of(), per_slice=own, Modality="PT")
    wanted = values * (1 + np.arange(6) / 4) - 10.0 * np.arange(6)
    assert np.allclose(stored(path_of(tmp_path / "a")), wanted, rtol=1e-6)


def test_slices_that_are_rescaled_alike_keep_their_stored_values(tmp_path: Path) -> None:
    values = volume(4)
    write_series(tmp_path / "a", values, affine_of(), RescaleSlope="2", RescaleIntercept="-1024", Modality="CT")
    header = read_header(path_of(tmp_path / "a"))
    assert (header.slope, header.inter, header.dtype) == (2.0, -1024.0, np.dtype("<i2"))
    assert np.array_equal(stored(path_of(tmp_path / "a")), values * 2.0 - 1024)


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_monochrome1_is_turned_round_as_simpleitk_does_it(tmp_path: Path, dtype: type) -> None:
    values = np.abs(volume(5)).astype(dtype)
    write_series(tmp_path / "a", values, affine_of(), PhotometricInterpretation="MONOCHROME1")
    path = path_of(tmp_path / "a")
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "a")))
    assert np.array_equal(stored(path), sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    assert any("MONOCHROME1" in notice for notice in read_header(path).notices)


def test_monochrome1_of_measurements_is_read_as_it_is(tmp_path: Path) -> None:
    values = volume(5)
    write_series(tmp_path / "a", values, affine_of(), PhotometricInterpretation="MONOCHROME1", Modality="CT")
    assert np.array_equal(stored(path_of(tmp_path / "a")), values)


def test_an_enhanced_file_gives_the_voxels_and_rescaling_of_every_frame(tmp_path: Path) -> None:
    values = volume(6)
    own = [
        {"PixelValueTransformationSequence": {"RescaleSlope": k + 1.0, "RescaleIntercept": float(k)}} for k in range(6)
    ]
    write_enhanced(tmp_path / "a.dcm", values, affine_of(), per_frame=own)
    assert np.allclose(stored(path_of(tmp_path / "a.dcm")), values * np.arange(1.0, 7.0) + np.arange(6.0))


@pytest.mark.parametrize(
    ("group", "key"), [("FrameContentSequence", "TemporalPositionIndex"), ("MREchoSequence", "EffectiveEchoTime")]
)
def test_volumes_of_one_enhanced_file_are_told_apart_by_frame(tmp_path: Path, group: str, key: str) -> None:
    values = volume(7, (7, 5, 12))
    places = [[str(round(10.0 + 0.5 * k, 2)) for k in (0, 0, number % 6)] for number in range(12)]
    own = [
        {"PlanePositionSequence": {"ImagePositionPatient": place}, group: {key: 1 + number // 6}}
        for number, place in enumerate(places)
    ]
    write_enhanced(tmp_path / "a.dcm", values, np.diag([-0.5, -0.5, 0.5, 1.0]), per_frame=own)
    found = series_in(str(tmp_path / "a.dcm"))
    assert [len(item.frames) for item in found] == [6, 6]
    for number in (1, 2):
        (series,) = choose(found, {key: f"{number}*"}, "")
        assert np.array_equal(stored(series.path), values[:, :, 6 * (number - 1) : 6 * number])


def test_slices_of_a_series_that_are_left_out_are_told(tmp_path: Path) -> None:
    """The last slice has another size: nothing else would tell of it."""
    paths = write_series(tmp_path / "a", volume(), affine_of(), series="x")
    paths[-1].unlink()
    write_series(tmp_path / "a", volume(shape=(9, 5, 1)), affine_of(), series="x")
    (notice,) = read_header(path_of(tmp_path / "a")).notices
    assert "1 more slices of the series are no part of this volume" in notice


def test_a_zip_has_the_identity_and_the_voxels_of_its_folder(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", volume(), affine_of())
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, path in enumerate(paths):
            archive.write(path, f"{number}")
    one, two = (VolumeSpec(path_of(tmp_path / name)) for name in ("a", "b.zip"))
    with_folder, with_zip = open_source(one), open_source(two)
    box = Box.whole(with_folder.grid.shape)
    assert np.array_equal(with_folder.read(box).values, with_zip.read(box).values)
    assert with_folder.identity() == with_zip.identity()
    assert [*files_of(two)] == [tmp_path / "b.zip"]
    assert sorted(files_of(one)) == sorted(paths)
    write_series(tmp_path / "a", volume() + 1, affine_of())
    changed = open_source(one)
    assert changed.identity() != with_folder.identity()
    for source in (with_folder, with_zip, changed):
        source.close()


def test_compressed_pixels_that_are_cut_short_are_refused_by_name(tmp_path: Path) -> None:
    paths = write_series(tmp_path / "a", volume(), affine_of(), syntax=RLELossless)
    paths[2].write_bytes(paths[2].read_bytes()[:-60])
    with pytest.raises(InputError, match=paths[2].name):
        stored(path_of(tmp_path / "a"))


def test_unpacking_takes_memory_for_slices_and_not_for_the_series(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 4000, (512, 512, 200)).astype(np.uint16)
    matrix = np.diag([-0.5, -0.5, 1.0, 1.0])
    write_enhanced(tmp_path / "big" / "a.dcm", values, matrix)
    code = (
        "import resource, sys, numpy\n"
        "from segflow.io.dicom import choose, series_in\n"
        "from segflow.io.volume import VolumeSpec, open_volume\n"
        "from tiling.box import Box\n"
        "(series,) = choose(series_in(sys.argv[1]), None, '')\n"
        "source = open_volume(VolumeSpec(series.path, 'ijk', None, sys.argv[2]))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "source.read(Box((0, 0, 0), (8, 8, 1)))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "big"), str(tmp_path / "scratch")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(done.stdout) < 30_000, "kilobytes; the series has 100,000"


@pytest.mark.system
@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.3, -0.2, 0.4), (1.3, 0.8, -2.0)])
def test_voxels_and_corners_are_those_of_dcm2niix(tmp_path: Path, angles: tuple[float, float, float]) -> None:
    write_series(tmp_path / "a", volume(), affine_of(angles))
    _compare_with_dcm2niix(tmp_path / "a", tmp_path / "out")


@pytest.mark.system
def test_frames_of_an_enhanced_file_are_those_of_dcm2niix(tmp_path: Path) -> None:
    """Not SimpleITK's, which leaves frames in the order of the file."""
    write_enhanced(tmp_path / "a" / "a.dcm", volume(), affine_of())
    _compare_with_dcm2niix(tmp_path / "a", tmp_path / "out")


@pytest.mark.system
def test_what_dcm2niix_makes_of_a_gantry_tilt_is_read(tmp_path: Path) -> None:
    matrix = np.diag([-0.5, -0.5, 3.0, 1.0])
    matrix[1, 2] = 3.0 * np.tan(np.radians(15))
    write_series(tmp_path / "a", volume(shape=(40, 40, 10)), matrix, Modality="CT")
    with pytest.raises(InputError, match="_Tilt"):
        read_header(path_of(tmp_path / "a"))
    words = ["dcm2niix", "-o", str(tmp_path), "-f", "x", "-b", "n", str(tmp_path / "a")]
    subprocess.run(words, check=True, capture_output=True)
    (upright,) = tmp_path.glob("x_Tilt*.nii")
    assert read_header(str(upright)).file_shape[2] == 10


@pytest.mark.system
@pytest.mark.real
def test_real_series_are_those_of_dcm2niix(shared_data: Path, tmp_path: Path) -> None:
    for number, place in enumerate(sorted((shared_data / "dicom-mr").glob("*/*"))):
        _compare_with_dcm2niix(place, tmp_path / str(number))


def _compare_with_dcm2niix(place: Path, out: Path) -> None:
    out.mkdir()
    subprocess.run(["dcm2niix", "-o", str(out), "-f", "x", "-b", "n", str(place)], check=True, capture_output=True)
    image = nib.load(out / "x.nii")
    theirs = np.asanyarray(image.dataobj)
    header, ours = read_header(path_of(place)), stored(path_of(place))
    assert theirs.shape == ours.shape
    mine, other = corners_of(header.matrix, ours.shape), corners_of(image.affine, theirs.shape)
    apart = np.linalg.norm(mine[:, None] - other[None], axis=2)
    assert apart.min(axis=1).max() < 1e-3, "a corner of ours lies where none of theirs does"
    index = np.linalg.solve(image.affine, header.matrix)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in ours.shape), indexing="ij"), axis=-1)
    there = np.rint(places @ index[:3, :3].T + index[:3, 3]).astype(int)
    assert np.array_equal(ours, theirs[tuple(np.moveaxis(there, -1, 0))])


@pytest.mark.real
def test_real_series_have_the_voxels_of_simpleitk(shared_data: Path) -> None:
    for series in choose(series_in(str(shared_data / "dicom-mr")), None, ""):
        image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(series.place))
        assert np.array_equal(stored(series.path), sitk.GetArrayFromImage(image).transpose(2, 1, 0))
