"""A grid's crop against affine and nibabel; what agrees and what does not."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from segflow.errors import GridMismatchError
from segflow.grid import Grid
from tiling import Box
from tiling.strategies import boxes

RASTER = Affine(28.5, 3.0, 634_000.0, -2.0, -28.5, 228_000.0)
VOLUME = np.array([[-1.5, 0.1, 0.0, 90.0], [0.0, 2.0, 0.3, -126.0], [0.2, 0.0, 0.75, -72.0]])


def raster(affine: Affine = RASTER) -> Grid:
    return Grid("raster", (40, 30), tuple(affine[:6]), spacing=(28.5, 28.5))


def volume() -> Grid:
    return Grid("volume", (7, 8, 9), tuple(VOLUME.ravel()), spacing=(1.5, 2.0, 0.8))


@given(boxes((40, 30)))
def test_a_rasters_crop_is_its_affine_after_a_shift(box: Box) -> None:
    part = raster().crop(box)
    assert part.shape == box.shape
    assert part.affine == pytest.approx(tuple((RASTER @ Affine.translation(box.start[1], box.start[0]))[:6]))


@given(boxes((7, 8, 9)))
def test_a_volumes_crop_lies_where_nibabels_does(box: Box) -> None:
    image = nib.Nifti1Image(np.zeros((7, 8, 9), np.uint8), np.vstack([VOLUME, (0, 0, 0, 1)]))
    part = volume().crop(box)
    assert part.shape == box.shape
    np.testing.assert_allclose(part.matrix, image.slicer[box.slices].affine)


def test_the_matrix_takes_indices_to_the_world() -> None:
    column_row = np.array([5.0, 11.0, 1.0])
    np.testing.assert_allclose((raster().matrix @ column_row)[:2], RASTER @ (5.0, 11.0))
    np.testing.assert_array_equal(volume().matrix, np.vstack([VOLUME, (0, 0, 0, 1)]))
    np.testing.assert_array_equal(Grid("volume", (2, 2, 2)).matrix, np.eye(4))


@pytest.mark.parametrize(("cells", "same"), [(0.005, True), (0.02, False)])
def test_a_hundredth_of_a_cell_is_the_limit_of_one_place(cells: float, same: bool) -> None:
    moved = raster(RASTER @ Affine.translation(cells, 0.0))
    if same:
        raster().require_same_place(moved, "a.tif", "b.tif")
    else:
        with pytest.raises(GridMismatchError, match=r"b\.tif lies elsewhere than a\.tif"):
            raster().require_same_place(moved, "a.tif", "b.tif")


def test_a_small_stretch_is_seen_at_the_far_end() -> None:
    with pytest.raises(GridMismatchError):
        raster().require_same_place(raster(RASTER @ Affine.scale(1.001, 1.0)), "a.tif", "b.tif")


@given(st.floats(0.01, 1000.0), st.floats(0.01, 1000.0))
def test_a_cell_measures_what_its_sides_multiply_to(y: float, x: float) -> None:
    assert Grid("raster", (1, 1), spacing=(y, x)).cell_area_m2 == y * x
    assert Grid("raster", (1, 1)).cell_area_m2 is None
    assert Grid("volume", (1, 1, 1), spacing=(y, x, 1.0)).cell_volume_ml == y * x / 1000.0
