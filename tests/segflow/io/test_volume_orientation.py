"""Laws of flips and permutations, against nibabel."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from segflow.errors import InputError
from segflow.io.orientation import ORIENTATIONS, canonical_affine, turn_of
from tiling.box import Box

shapes = st.tuples(*[st.integers(1, 6)] * 3)
orientations = st.sampled_from(ORIENTATIONS)


def affine_of(orientation: str, shape: tuple[int, int, int]) -> np.ndarray:
    """An affine of a file stored in an orientation, with unequal voxel sides and an origin."""
    return np.diag([1.5, 2.0, 0.75, 1.0]) @ inv_ornt_aff(axcodes2ornt(tuple(orientation)), (7, 8, 9)) @ np.eye(4)


@st.composite
def boxes(draw: st.DrawFn, shape: tuple[int, int, int]) -> Box:
    start = tuple(draw(st.integers(0, n - 1)) for n in shape)
    return Box(start, tuple(draw(st.integers(low + 1, n)) for low, n in zip(start, shape, strict=True)))


def test_there_are_48_orientations() -> None:
    assert len(set(ORIENTATIONS)) == 48


@given(shape=shapes, stored=orientations, wanted=orientations, data=st.data())
def test_boxes_and_arrays_go_there_and_back(
    shape: tuple[int, int, int], stored: str, wanted: str, data: st.DataObject
) -> None:
    turn = turn_of(affine_of(stored, shape), shape, wanted)
    box = data.draw(boxes(turn.shape))
    assert turn.to_canonical(turn.to_file(box)) == box
    array = np.arange(np.prod(shape)).reshape(shape)
    canonical = turn.array_to_canonical(array)
    assert canonical.shape == turn.shape
    np.testing.assert_array_equal(turn.array_to_file(canonical), array)
    np.testing.assert_array_equal(canonical[box.slices], turn.array_to_canonical(array[turn.to_file(box).slices]))


@given(shape=shapes, stored=orientations, wanted=orientations)
def test_turning_agrees_with_nibabel(shape: tuple[int, int, int], stored: str, wanted: str) -> None:
    array = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    image = nib.Nifti1Image(array, affine_of(stored, shape))
    start = nib.io_orientation(image.affine)
    oracle = image.as_reoriented(nib.orientations.ornt_transform(start, axcodes2ornt(tuple(wanted))))
    turn = turn_of(image.affine, shape, wanted)
    np.testing.assert_array_equal(turn.array_to_canonical(array), np.asanyarray(oracle.dataobj))
    affine = canonical_affine(image.affine, turn)
    np.testing.assert_allclose(affine, oracle.affine, atol=1e-12)
    assert "".join(nib.aff2axcodes(affine)) == wanted


@pytest.mark.parametrize("orientation", ["RRS", "XYZ", "ras", "RA", ""])
def test_what_is_no_orientation_is_refused(orientation: str) -> None:
    with pytest.raises(InputError, match="orientation"):
        turn_of(np.eye(4), (2, 2, 2), orientation)
