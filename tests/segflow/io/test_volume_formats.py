"""NRRD and MetaImage: every physical point and every voxel is where SimpleITK has it, packed or not."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segflow.errors import InputError
from segflow.io.nifti import write_label_nifti
from segflow.io.opening import files_of
from segflow.io.orientation import ORIENTATIONS
from segflow.io.volume import VolumeSpec, open_volume
from segflow.io.volume_formats import read_header
from tests.making import classes
from tests.segflow.io.test_dicom_series import affine_of, corners_of
from tiling.box import Box

DTYPES = ("u1", "i1", "i2", "u2", "i4", "u4", "f4", "f8")
SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")


def image_of(dtype: str, angles: tuple[float, float, float], flip: float = 1.0) -> sitk.Image:
    values = np.random.default_rng(0).integers(0, 100, (6, 5, 7)).astype(dtype)
    image = sitk.GetImageFromArray(values)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_of(angles, flip)
    sides = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(sides.tolist())
    image.SetDirection((lps[:3, :3] / sides).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dtype=st.sampled_from(DTYPES),
    suffix=st.sampled_from(SUFFIXES),
    packed=st.booleans(),
    angles=st.tuples(*[st.floats(-3.0, 3.0)] * 3),
    flip=st.sampled_from([1.0, -1.0]),
    orientation=st.sampled_from(ORIENTATIONS),
)
def test_points_and_voxels_are_those_of_simpleitk(
    tmp_path: Path,
    dtype: str,
    suffix: str,
    packed: bool,
    angles: tuple[float, float, float],
    flip: float,
    orientation: str,
) -> None:
    folder = tmp_path / "x"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / f"v{suffix}"
    sitk.WriteImage(image_of(dtype, angles, flip), str(path), packed)
    image = sitk.ReadImage(str(path))
    header = read_header(str(path))
    assert header.compressed == packed
    wanted = [image.TransformIndexToPhysicalPoint((x, y, z)) for x in (0, 6) for y in (0, 4) for z in (0, 5)]
    assert np.allclose(corners_of(header.matrix, (7, 5, 6)) * (-1, -1, 1), wanted, atol=1e-4)
    source = open_volume(VolumeSpec(str(path), orientation, None, str(folder / "scratch")))
    assert source.name == "v"
    values = source.read(Box.whole(source.grid.shape)).values[0]
    index = np.rint(np.linalg.solve(header.matrix, source.grid.matrix)).astype(int)
    places = np.stack(np.meshgrid(*(np.arange(n) for n in values.shape), indexing="ij"), axis=-1)
    there = places @ index[:3, :3].T + index[:3, 3]
    theirs = sitk.GetArrayFromImage(image).transpose(2, 1, 0)
    assert np.array_equal(values, theirs[tuple(np.moveaxis(there, -1, 0))])
    source.close()


@pytest.mark.parametrize("space", ["RAS", "LAS", "LPS", "right-anterior-superior"])
def test_spaces_of_nrrd_are_those_of_simpleitk(tmp_path: Path, space: str) -> None:
    header = {
        "space": space,
        "space directions": affine_of()[:3, :3].T,
        "space origin": [3.0, -4.0, 5.0],
        "encoding": "gzip",
    }
    path = str(tmp_path / "a.nrrd")
    nrrd.write(path, np.zeros((7, 5, 6), np.int16), header)
    image = sitk.ReadImage(path)
    wanted = [image.TransformIndexToPhysicalPoint((x, y, z)) for x in (0, 6) for y in (0, 4) for z in (0, 5)]
    assert np.allclose(corners_of(read_header(path).matrix, (7, 5, 6)) * (-1, -1, 1), wanted, atol=1e-4)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_label_map_of_another_format_lies_on_its_voxels(tmp_path: Path, suffix: str) -> None:
    path = str(tmp_path / f"a{suffix}")
    sitk.WriteImage(image_of("i2", (0.3, -0.2, 0.4), -1.0), path)
    labels = np.random.default_rng(1).integers(0, 3, (7, 5, 6)).astype(np.uint8)
    out = tmp_path / "a_dseg.nii.gz"
    write_label_nifti(out, lambda box: labels[box.slices], path, "ijk", classes((0, 1, 2)), description="x")
    image = nib.load(out)
    assert np.array_equal(np.asanyarray(image.dataobj), labels)
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    theirs = sitk.ReadImage(str(out))
    mine = sitk.ReadImage(path)
    for corner in ((0, 0, 0), (6, 4, 5), (6, 0, 5)):
        assert np.allclose(
            theirs.TransformIndexToPhysicalPoint(corner), mine.TransformIndexToPhysicalPoint(corner), atol=1e-4
        )
    assert np.allclose(image.header.get_qform(), image.header.get_sform(), atol=1e-4)


def test_a_detached_header_counts_with_its_data(tmp_path: Path) -> None:
    for suffix, data in ((".nhdr", ".raw"), (".mhd", ".raw")):
        path = tmp_path / f"{suffix[1:]}_v{suffix}"
        sitk.WriteImage(image_of("i2", (0, 0, 0)), str(path))
        spec = VolumeSpec(str(path))
        assert [file.name for file in files_of(spec)] == [path.name, path.stem + data]
        before = open_volume(spec).identity()
        raw = path.with_suffix(data)
        raw.write_bytes(b"\1" + raw.read_bytes()[1:])
        assert open_volume(spec).identity() != before
        raw.unlink()
        with pytest.raises(InputError, match="data file that is not there"):
            open_volume(spec)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, suffix: str, packed: bool) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image_of("i2", (0, 0, 0)), str(path), packed)
    whole = path.read_bytes()
    for left in (len(whole) - 20, 60, 4, 0):
        path.write_bytes(whole[:left])
        with pytest.raises(InputError, match="a" + suffix):
            open_volume(VolumeSpec(str(path))).read(Box.whole((7, 5, 6)))


def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = str(tmp_path / "a.nrrd")
    nrrd.write(path, np.zeros((7, 5, 6), np.int16), {"encoding": "ascii"})
    with pytest.raises(InputError, match="its encoding is ascii"):
        read_header(path)
    colours = sitk.GetImageFromArray(np.zeros((6, 5, 7, 3), np.uint8), isVector=True)
    for suffix in (".nrrd", ".mha"):
        sitk.WriteImage(colours, str(tmp_path / f"rgb{suffix}"))
        with pytest.raises(InputError, match="volume of its own"):
            read_header(str(tmp_path / f"rgb{suffix}"))


def test_values_that_are_counted_from_the_end_of_the_file_are_found(tmp_path: Path) -> None:
    values = np.arange(210, dtype=np.int16).reshape(7, 5, 6)
    (tmp_path / "a.raw").write_bytes(b"header of unknown length" + values.tobytes(order="F"))
    nrrd_text = "NRRD0004\ntype: short\ndimension: 3\nsizes: 7 5 6\nendian: little\nencoding: raw\nbyte skip: -1\n"
    (tmp_path / "a.nhdr").write_text(nrrd_text + "data file: a.raw\n")
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 7 5 6\nElementType = MET_SHORT\nHeaderSize = -1\n"
    (tmp_path / "a.mhd").write_text(meta + "ElementDataFile = a.raw\n")
    for name in ("a.nhdr", "a.mhd"):
        source = open_volume(VolumeSpec(str(tmp_path / name), "ijk"))
        assert np.array_equal(source.read(Box.whole((7, 5, 6))).values[0], values)
        source.close()
