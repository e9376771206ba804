"""How much patches overlap, and how large they are, against what trying everything gives."""

from __future__ import annotations

from itertools import product
from math import ceil, prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiling import Lattice, axis_of, blended_change, least_overlap, least_work
from tiling.strategies import profiles
from tiling.weights import running_sums
from tiling.window import Profile

LAWS = settings(max_examples=60, deadline=None, derandomize=True)


@st.composite
def falling(draw: st.DrawFn, cells: int) -> np.ndarray:
    """Changes by distance from a cut, never rising."""
    values = draw(st.lists(st.floats(0, 1), min_size=cells, max_size=cells))
    return np.array(sorted(values, reverse=True))


@given(st.integers(2, 40), st.data(), profiles)
@LAWS
def test_a_blended_change_is_the_largest_weighted_sum_between_inner_cuts(
    patch: int, data: st.DataObject, profile: Profile
) -> None:
    step = data.draw(st.integers(max(1, patch // 4), patch))
    changes = data.draw(falling(patch // 2 + 1))
    axis = axis_of(9 * patch, patch, step, profile)
    before, after = running_sums(axis, 60)
    weights = (after - before) / 2.0**60
    total = np.zeros(axis.starts[-1] + patch)
    for start, weight in zip(axis.starts, weights, strict=True):
        for cell in range(patch):
            total[start + cell] += weight[cell] * changes[min(cell, patch - 1 - cell)]
    inner = total[2 * patch : -2 * patch]
    assert blended_change(patch, step, changes, profile) == pytest.approx(inner.max(), abs=1e-9)


@given(st.integers(1, 8), st.integers(1, 6), st.data(), profiles, st.integers(1, 3), st.floats(0, 0.5))
@LAWS
def test_the_least_overlap_keeps_the_tolerance_and_one_stride_less_does_not(
    strides: int, stride: int, data: st.DataObject, profile: Profile, axes: int, tolerance: float
) -> None:
    patch = strides * stride
    changes = data.draw(falling(patch // 2 + 1))
    found = least_overlap(patch, stride, changes, profile, axes, tolerance)
    kept = {
        overlap: axes * blended_change(patch, patch - overlap, changes, profile) <= tolerance
        for overlap in range(0, patch, stride)
    }
    assert found == next((overlap for overlap, good in kept.items() if good), None)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=2),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(1, 4),
    st.integers(20, 2000),
)
@LAWS
def test_the_patch_of_least_work_is_the_best_of_all_that_memory_holds(
    shape: list[int], stride: int, overlaps: int, at_once: int, most: int
) -> None:
    overlap = overlaps * stride

    def work(patch: tuple[int, ...]) -> int:
        lattice = Lattice.of(shape, patch, [n - overlap for n in patch])
        return ceil(lattice.size / at_once) * at_once * prod(patch)

    sizes = [n for n in range(stride, 61 + stride, stride) if n > overlap]
    every = [patch for patch in product(sizes, repeat=len(shape)) if prod(patch) <= most]
    found = least_work(shape, stride, overlap, at_once, most)
    if not every:
        assert found is None
        return
    assert found is not None
    assert prod(found) <= most
    assert all(n % stride == 0 for n in found)
    assert work(found) == min(map(work, every))


def test_what_memory_does_not_hold_is_passed_over_and_squares_are_square() -> None:
    small = least_work((1000, 500), 8, 16, 1, 10**9, lambda patch: max(patch) <= 200)
    assert small is not None
    assert max(small) <= 200
    square = least_work((1000, 500), 8, 16, 1, 10**5, square=True)
    assert square is not None
    assert square[0] == square[1]
    assert least_work((1000, 500), 8, 16, 1, 10**9, lambda _: False) is None


def test_patches_that_are_run_to_settle_a_run_count_as_work() -> None:
    alone = least_work((1000, 1000), 8, 16, 1, 10**9)
    counted = least_work((1000, 1000), 8, 16, 1, 10**9, besides=3)
    assert alone == (1000, 1000)
    assert counted is not None
    assert prod(counted) < prod(alone)


def test_the_overhead_is_all_patches_cells_over_the_scenes() -> None:
    lattice = Lattice.of((100, 50), (40, 50), (30, 50))
    assert lattice.overhead == 3 * 40 * 50 / (100 * 50)
