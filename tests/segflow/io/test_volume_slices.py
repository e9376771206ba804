"""Pictures for the report: turned as a radiologist hangs them, whatever the file's order."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from segflow.io.orientation import ORIENTATIONS
from segflow.io.slices import middle_slices, slices
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
    axial, coronal, sagittal = middle_slices(lambda box: source.read(box).values[0], source.grid)
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
    for picture in slices(VolumeSpec(str(tmp_path / "h.nii")), max_px):
        assert picture.dtype == np.uint8
        assert max(picture.shape) <= max_px


def test_values_that_are_not_finite_do_not_spoil_the_stretch(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 1000, dtype=np.float32).reshape(10, 10, 10)
    values[5, 5, 5] = np.nan
    values[5, 5, 4] = np.inf
    nib.Nifti1Image(values, inv_ornt_aff(axcodes2ornt("RAS"), (10, 10, 10))).to_filename(tmp_path / "n.nii")
    pictures = slices(VolumeSpec(str(tmp_path / "n.nii")), 10)
    assert {int(picture.max()) for picture in pictures} >= {255}
    assert all(picture.std() > 5 for picture in pictures)


@pytest.mark.real
def test_two_files_of_one_kind_of_head_look_alike(shared_data: Path) -> None:
    """The MNI head is RAS, the subject LIA: after turning, both are brighter inside and as tall as wide."""
    for name in ("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz", "subject01_t1.nii.gz"):
        axial, coronal, sagittal = slices(VolumeSpec(str(shared_data / "brain-t1" / name)), 128)
        for picture in (axial, coronal, sagittal):
            rows, columns = picture.shape
            assert picture[rows // 4 : -rows // 4, columns // 4 : -columns // 4].mean() > picture.mean()
        assert axial.shape[1] == coronal.shape[1]
        assert coronal.shape[0] == sagittal.shape[0]
