"""Boxes are never empty, and their laws are those of sets of indices."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiling import Box
from tiling.strategies import boxes

LAWS = settings(max_examples=80, deadline=None, derandomize=True)
SHAPE = (7, 6)
pairs = st.tuples(boxes(SHAPE), boxes(SHAPE))


def indices(box: Box) -> set[tuple[int, ...]]:
    return set(product(*map(range, box.start, box.stop)))


@given(pairs)
@LAWS
def test_intersect_and_contains_are_those_of_sets(pair: tuple[Box, Box]) -> None:
    one, other = pair
    both = one.intersect(other)
    assert (indices(both) if both else set()) == indices(one) & indices(other)
    assert both == other.intersect(one)
    assert one.contains(other) == (indices(other) <= indices(one))
    assert one.intersect(one) == one
    assert one.size == len(indices(one)) == np.prod(one.shape)


@given(pairs)
@LAWS
def test_within_finds_the_same_cells(pair: tuple[Box, Box]) -> None:
    one, other = pair
    scene = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    both = one.intersect(other)
    if both is not None:
        assert np.array_equal(scene[one.slices][both.within(one)], scene[both.slices])
        assert Box.whole(SHAPE).contains(both)


@given(boxes(SHAPE), st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
@LAWS
def test_shift_moves_every_index(box: Box, by: tuple[int, int]) -> None:
    assert indices(box.shift(by)) == {(y + by[0], x + by[1]) for y, x in indices(box)}


def test_within_refuses_a_box_that_reaches_out_instead_of_wrapping_around() -> None:
    with pytest.raises(ValueError, match="reaches out"):
        Box((-2,), (3,)).within(Box((0,), (5,)))
    with pytest.raises(ValueError, match="reaches out"):
        Box((2,), (6,)).within(Box((0,), (5,)))


def test_empty_boxes_and_unequal_ranks_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        Box((0, 3), (2, 3))
    with pytest.raises(ValueError, match="empty"):
        Box((4,), (3,))
    with pytest.raises(ValueError, match="same rank"):
        Box((0,), (1, 1))
    flat, deep = Box((0, 0), (2, 2)), Box((0, 0, 0), (2, 2, 2))
    for meet in (flat.intersect, flat.contains, flat.within):
        with pytest.raises(ValueError, match="axes"):
            meet(deep)


def test_replace_axis_changes_one_axis_alone_and_knows_no_negative_one() -> None:
    box = Box((1, 2, 3), (4, 5, 6))
    assert box.replace_axis(1, 0, 9) == Box((1, 0, 3), (4, 9, 6))
    for axis in (-1, 3):
        with pytest.raises(ValueError, match="no axis"):
            box.replace_axis(axis, 0, 1)
