"""Pictures for the report: turned as a radiologist hangs them, whatever the file's order."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt

from segflow.io.orientation import ORIENTATIONS
from segflow.io.slices import orthogonal_slices
from segflow.io.volume import VolumeSpec, open_volume


def head(stored: str) -> nib.Nifti1Image:
    """A head of 12 x 14 x 10 voxels in RAS: 1 right, 2 front, 4 top, as bits; saved in any order."""
    x, y, z = np.meshgrid(np.arange(12), np.arange(14), np.arange(10), indexing="ij")
    values = ((x >= 6) * 1 + (y >= 7) * 2 + (z >= 5) * 4).astype(np.uint8)
    image = nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0]))
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), axcodes2ornt(tuple(stored)))
    return image.as_reoriented(turn)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stored=st.sampled_from(ORIENTATIONS), wanted=st.sampled_from(ORIENTATIONS))
def test_right_is_left_front_and_top_are_up_whatever_the_orientations(tmp_path: Path, stored: str, wanted: str) -> None:
    head(stored).to_filename(tmp_path / "h.nii")
    source = open_volume(VolumeSpec(str(tmp_path / "h.nii"), wanted))
    axial, coronal, sagittal = orthogonal_slices(lambda box: source.read(box).values[0], source.grid)
    assert (axial.shape, coronal.shape, sagittal.shape) == ((14, 12), (20, 12), (20, 14))
    assert axial[0, 0] & 3 == 3, "top left of the axial picture: right and front"
    assert axial[-1, -1] & 3 == 0
    assert coronal[0, 0] & 5 == 5, "top left of the coronal picture: right and top"
    assert sagittal[0, 0] & 6 == 6, "top left of the sagittal picture: front and top"
    assert coronal[-1, -1] & 5 == sagittal[-1, -1] & 6 == 0


@given(max_px=st.integers(1, 40))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pictures_are_no_larger_than_asked_for(tmp_path: Path, max_px: int) -> None:
    head("LIA").to_filename(tmp_path / "h.nii")
    source = open_volume(VolumeSpec(str(tmp_path / "h.nii")))
    for picture in orthogonal_slices(lambda box: source.read(box).values[0], source.grid, max_px):
        assert picture.dtype == np.uint8
        assert max(picture.shape) <= max_px


@given(stored=st.sampled_from(ORIENTATIONS), at=st.tuples(st.integers(0, 11), st.integers(0, 13), st.integers(0, 9)))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_all_slices_go_through_the_voxel_that_is_named(tmp_path: Path, stored: str, at: tuple[int, int, int]) -> None:
    head(stored).to_filename(tmp_path / "h.nii")
    grid = open_volume(VolumeSpec(str(tmp_path / "h.nii"), stored)).grid
    voxel = tuple(min(i, n - 1) for i, n in zip(at, grid.shape, strict=True))
    marked = np.zeros(grid.shape, np.uint8)
    marked[voxel] = 1
    for picture in orthogonal_slices(lambda box: marked[box.slices], grid, at=voxel):
        assert picture.any()
