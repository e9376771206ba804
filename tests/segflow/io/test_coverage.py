"""The coverage band is an erosion of the whole scene, whatever the windows that it is computed in."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_erosion

from segflow.io.exports.coverage import surrounded
from tiling import Box


@settings(deadline=None, max_examples=80)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    margin=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    rows=st.integers(1, 15),
    columns=st.integers(1, 41),
    seed=st.integers(0, 999),
)
def test_windows_give_the_erosion_of_the_whole_array(
    shape: tuple[int, int], margin: tuple[int, int], rows: int, columns: int, seed: int
) -> None:
    valid = np.random.default_rng(seed).random(shape) > 0.02
    found = np.zeros(shape, bool)
    for top in range(0, shape[0], rows):
        for left in range(0, shape[1], columns):
            box = Box((top, left), (min(shape[0], top + rows), min(shape[1], left + columns)))
            found[box.slices] = surrounded(lambda box: valid[box.slices].copy(), box, shape, margin)
    structure = np.ones([2 * m + 1 for m in margin], bool)
    np.testing.assert_array_equal(found, binary_erosion(valid, structure, border_value=0))
