"""The scene's statistics: exact for integers, numpy's for floats, and refused where there are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segflow import normalise
from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import Standardiser, scene_statistics


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(("uint8", "int16", "uint16", "int32", "float32")),
    st.integers(0, 99),
    st.booleans(),
)
def test_statistics_are_numpys_whatever_the_slabs(dtype: str, seed: int, nonzero: bool) -> None:
    random = np.random.default_rng(seed)
    values = (random.normal(90, 60, (2, 13, 11, 9)).clip(0, 255)).astype(dtype)
    valid = random.random((13, 11, 9)) > 0.2
    source = ArraySource(values, Grid("volume", (13, 11, 9)), valid)
    whole = scene_statistics(source, nonzero)
    kept, normalise.SLAB_CELLS = normalise.SLAB_CELLS, 150
    try:
        sliced = scene_statistics(source, nonzero)
    finally:
        normalise.SLAB_CELLS = kept
    for channel in range(2):
        cells = values[channel][valid & ((values[channel] != 0) | (not nonzero))].astype(np.float64)
        assert whole.mean[channel] == pytest.approx(cells.mean(), rel=1e-12)
        assert whole.deviation[channel] == pytest.approx(cells.std(), rel=1e-9)
    if dtype != "float32":
        assert sliced == whole


def test_large_integers_do_not_overflow() -> None:
    values = np.full((1, 400, 400), 2**31 - 1, np.int32)
    values[0, :200] = -(2**31)
    made = scene_statistics(ArraySource(values, Grid("raster", (400, 400))), False)
    assert made.mean == (-0.5,)
    assert made.deviation[0] == pytest.approx(2**31 - 0.5, rel=1e-15)


@pytest.mark.parametrize("value", [0, 7])
def test_a_scene_without_contrast_is_refused(value: int) -> None:
    source = ArraySource(np.full((1, 8, 8), value, np.uint8), Grid("raster", (8, 8)))
    with pytest.raises(InputError, match="channel 1 of array"):
        scene_statistics(source, True)


def test_cells_without_valid_input_become_the_mean_whatever_they_hold() -> None:
    values = np.array([[[10.0, np.nan], [np.inf, 30.0]]], np.float32)
    valid = np.array([[True, False], [False, True]])
    made = Standardiser((20.0,), (10.0,))(values, valid)
    np.testing.assert_array_equal(made, [[[-1.0, 0.0], [0.0, 1.0]]])
