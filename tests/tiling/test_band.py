"""The rolling band against a plain array, and what it refuses."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiling import Accumulator, Box, NumpyBand, Store

LAWS = settings(max_examples=60, deadline=None, derandomize=True)


def held_rows(band: NumpyBand, sweep: int) -> tuple[int, int]:
    return band.box.start[sweep], band.box.stop[sweep]


def a_box(random: np.random.Generator, side: int) -> Box:
    start = random.integers(0, side - 1, 3)
    return Box(tuple(start.tolist()), tuple(random.integers(start + 1, side).tolist()))


@given(st.integers(0, 2), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from(("int32", "int16")))
@LAWS
def test_a_band_holds_what_a_whole_array_holds_whatever_is_done_to_it(
    sweep: int, depth: int, seed: int, store: Store
) -> None:
    random = np.random.default_rng(seed)
    scene = Box((3, 5, 2), (10, 11, 9))
    band: Accumulator = NumpyBand(2, scene, sweep, depth, store)
    plain = np.zeros((2, 14, 14, 14), np.int64)
    first, end = scene.start[sweep], scene.stop[sweep]
    while first < end:
        behind = min(first + depth, end)
        assert band.box == scene.replace_axis(sweep, first, behind)
        for _ in range(3):
            where = a_box(random, 14)
            weight = np.rint(random.random(where.shape) * 900).astype(np.float32)
            values = random.random((2, *where.shape), np.float32)
            shared = where.intersect(scene)
            if shared is not None and shared.stop[sweep] > behind:
                with pytest.raises(IndexError, match="held"):
                    band.add(values, weight, where)
                continue
            band.add(values, weight, where)
            plain[(slice(None), *where.slices)] += np.rint(values * weight).astype(np.int64)
        low = int(random.integers(first, behind))
        high = int(random.integers(low, behind)) + 1
        rows = scene.replace_axis(sweep, low, high)
        assert np.array_equal(band.sums(low, high), plain[(slice(None), *rows.slices)])
        runs = list(band.runs(low, high))
        assert [row for run in runs for row in range(*run)] == list(range(low, high))
        assert all(band.sums(*run).base is not None for run in runs)  # a view, not a copy
        moved = int(random.integers(first - 1, first + 4))
        band.drop(moved)
        first = max(first, moved)
        # the band forgets: rows that it let go of are not added to any more, and no test reads them
    with pytest.raises(ValueError, match="empty"):
        _ = band.box


def test_rows_enter_as_zeros_where_the_band_moves_past_its_depth() -> None:
    band = NumpyBand(1, Box.whole((20, 2)), 0, 4)
    ones = np.ones((1, 4, 2), np.float32)
    band.add(ones, ones[0] * 5, Box((0, 0), (4, 2)))
    band.drop(11)
    assert held_rows(band, 0) == (11, 15)
    assert not band.sums(11, 15).any()
    band.add(ones, ones[0] * 5, Box((11, 0), (15, 2)))
    band.drop(11)
    band.drop(3)
    assert (band.sums(11, 15) == 5).all()


def test_a_band_that_dropped_everything_takes_patches_without_a_trace() -> None:
    band = NumpyBand(1, Box.whole((6,)), 0, 4)
    band.drop(9)
    band.add(np.ones((1, 4), np.float32), np.ones(4, np.float32), Box((4,), (8,)))
    with pytest.raises(IndexError, match="held"):
        band.sums(4, 6)


def test_cells_outside_of_the_block_are_left_out() -> None:
    band = NumpyBand(1, Box((4, 4), (8, 8)), 0, 4)
    for start in ((0, 0), (2, 2), (6, 3), (8, 8), (20, 20)):
        where = Box(start, (start[0] + 4, start[1] + 4))
        band.add(np.ones((1, 4, 4), np.float32), np.full((4, 4), 10, np.float32), where)
    expected = np.zeros((12, 12), int)
    expected[2:6, 2:6] += 10
    expected[6:10, 3:7] += 10
    assert np.array_equal(band.sums(4, 8)[0], expected[4:8, 4:8])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_not_finite_is_refused_and_its_place_named(bad: float) -> None:
    band = NumpyBand(2, Box.whole((8, 8)), 0, 4)
    values = np.full((2, 4, 4), 0.5, np.float32)
    values[1, 3, 2] = bad
    with pytest.raises(FloatingPointError, match=r"not finite in the patch at \(4, 2\)"):
        band.add(values, np.ones((4, 4), np.float32), Box((4, 2), (8, 6)))
    assert not band.sums(0, 4).any()


@pytest.mark.parametrize("bad", [-0.01, 1.01, 255.0])
def test_outputs_outside_of_0_to_1_are_refused(bad: float) -> None:
    band = NumpyBand(1, Box.whole((8,)), 0, 8)
    with pytest.raises(ValueError, match="no probabilities"):
        band.add(np.array([[0.1, bad]], np.float32), np.ones(2, np.float32), Box((0,), (2,)))
    assert not band.sums(0, 8).any()


def test_what_float_rounding_lets_stand_out_is_clipped() -> None:
    band = NumpyBand(1, Box.whole((2,)), 0, 2)
    band.add(np.array([[-5e-5, 1 + 5e-5]], np.float32), np.full(2, 2**24, np.float32), Box((0,), (2,)))
    assert band.sums(0, 2)[0].tolist() == [0, 2**24]


def test_shapes_that_do_not_fit_are_refused_instead_of_broadcast() -> None:
    band = NumpyBand(2, Box.whole((8, 8)), 0, 4)
    where = Box((0, 0), (4, 4))
    good, weight = np.ones((2, 4, 4), np.float32), np.ones((4, 4), np.float32)
    for values, weights in ((good[:1], weight), (good[:, :, :1], weight), (good, weight[:1]), (good[0], weight)):
        with pytest.raises(ValueError, match="do not fit"):
            band.add(values, weights, where)


def test_rows_that_would_be_lost_are_an_error() -> None:
    band = NumpyBand(1, Box.whole((20,)), 0, 8)
    patch = np.ones((1, 8), np.float32)
    with pytest.raises(IndexError, match=r"beyond the rows 0\.\.8"):
        band.add(patch, patch[0], Box((4,), (12,)))
    assert not band.sums(0, 8).any()
    band.drop(4)
    band.add(patch, patch[0], Box((4,), (12,)))
    for start, stop in ((0, 5), (3, 5), (5, 13), (6, 6), (7, 6)):
        with pytest.raises(IndexError, match="held"):
            band.sums(start, stop)


@pytest.mark.parametrize(("channels", "sweep", "depth"), [(0, 0, 4), (1, 2, 4), (1, -1, 4), (1, 0, 0)])
def test_bands_that_cannot_be_are_refused(channels: int, sweep: int, depth: int) -> None:
    with pytest.raises(ValueError, match="no band"):
        NumpyBand(channels, Box.whole((8, 8)), sweep, depth)


@pytest.mark.parametrize("sweep", [0, 1, 2])
def test_moving_the_band_copies_nothing(sweep: int) -> None:
    shape: Any = [40, 40, 40]
    shape[sweep] = 1000
    band = NumpyBand(4, Box.whole(tuple(shape)), sweep, 32)
    tracemalloc.start()
    try:
        for start in range(0, 900, 12):
            band.drop(start)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < band.nbytes / 20


def test_the_last_rows_of_a_block_are_a_view() -> None:
    band = NumpyBand(4, Box.whole((997, 10)), 0, 32)
    for start in range(0, 966, 5):
        band.drop(start)
    band.drop(965)
    assert band.sums(965, 997).base is not None
    assert band.nbytes == 4 * 4 * 32 * 10
