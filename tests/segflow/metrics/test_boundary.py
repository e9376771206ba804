"""Boundary IoU: the paper's erosion by scipy, windows, and what it is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from segflow.metrics.boundary import BoundaryMeter, boundary_width
from segflow.metrics.results import BoundaryScores
from segflow.metrics.windows import run_meters
from tests.segflow.metrics.pairs import Maps, label_pairs, pair_of


def scored(
    prediction: NDArray[Any], reference: NDArray[Any], classes: int, width: int, code: int = 0, cells: int = 1 << 22
) -> BoundaryScores:
    meter = BoundaryMeter(classes, width)
    run_meters(pair_of(prediction, reference, classes), [meter], cells)
    return meter.scores(code)


@given(label_pairs(axes=(2,), void=False), st.integers(1, 6))
def test_it_is_the_iou_of_what_an_erosion_takes_away(maps: tuple[Maps, int], width: int) -> None:
    (prediction, reference), classes = maps
    regions = []
    for mask in (reference == 0, prediction == 0):
        regions.append(mask & ~binary_erosion(mask, np.ones((3, 3)), iterations=width, border_value=0))
    both, either = (regions[0] & regions[1]).sum(), (regions[0] | regions[1]).sum()
    found = scored(prediction, reference, classes, width)
    assert found.iou == (pytest.approx(both / either) if either else None)
    assert (found.cells_reference, found.cells_prediction) == (regions[0].sum(), regions[1].sum())


@given(label_pairs(axes=(2,)), st.integers(1, 6), st.integers(1, 100))
def test_windows_give_what_the_whole_array_gives(maps: tuple[Maps, int], width: int, cells: int) -> None:
    (prediction, reference), classes = maps
    assert scored(prediction, reference, classes, width, cells=cells) == scored(prediction, reference, classes, width)


@given(label_pairs(axes=(2,)), st.integers(1, 4))
def test_it_is_symmetric_and_does_not_depend_on_flips(maps: tuple[Maps, int], width: int) -> None:
    (prediction, reference), classes = maps
    here = scored(prediction, reference, classes, width).iou
    assert scored(reference, prediction, classes, width).iou == here
    assert scored(prediction[::-1], reference[::-1], classes, width).iou == here
    assert scored(reference, reference, classes, width).iou in (1.0, None)


def test_a_class_on_one_side_only_scores_0() -> None:
    empty, full = np.zeros((9, 9), np.uint8), np.ones((9, 9), np.uint8)
    assert scored(full, empty, 2, 2, code=1).iou == 0
    assert scored(empty, full, 2, 2, code=1).iou == 0


def test_a_large_interior_does_not_hide_a_shifted_contour() -> None:
    reference, shifted = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    reference[20:180, 20:180], shifted[22:182, 20:180] = 1, 1
    plain = (reference & shifted).sum() / (reference | shifted).sum()
    found = scored(shifted, reference, 2, 3, code=1)
    assert plain > 0.97
    assert found.iou is not None
    assert found.iou < 0.75


def test_the_width_is_the_paper_s_for_a_picture_and_bounded_for_a_scene() -> None:
    assert boundary_width((480, 640)) == 15
    assert boundary_width((120, 160)) == 4
    assert boundary_width((30_000, 30_000)) == 15
    assert boundary_width((3, 3)) == 1
