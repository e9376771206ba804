"""Borders of patches in the labels: shown where they are, and not seen where they are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_cdt

from segflow.metrics.results import Seam
from segflow.metrics.seam import FARTHEST, SeamMeter
from segflow.metrics.windows import run_meters
from tests.segflow.metrics.pairs import Maps, blobs, label_pairs, pair_of


def seamed(prediction: NDArray[Any], reference: NDArray[Any], borders: Any, classes: int, cells: int = 1 << 22) -> Seam:
    meter = SeamMeter(reference.shape, borders, classes)
    run_meters(pair_of(prediction, reference, classes), [meter], cells)
    return meter.result()


@given(label_pairs(), st.integers(1, 7), st.integers(1, 80))
def test_windows_give_what_the_whole_array_gives(maps: tuple[Maps, int], step: int, cells: int) -> None:
    (prediction, reference), classes = maps
    borders = [range(step, n, step) for n in reference.shape]
    whole = seamed(prediction, reference, borders, classes)
    assert seamed(prediction, reference, borders, classes, cells) == whole


@given(label_pairs(axes=(2,), void=False), st.integers(2, 9))
def test_every_cell_and_every_pair_is_counted_once_at_its_distance(maps: tuple[Maps, int], step: int) -> None:
    (prediction, reference), classes = maps
    borders = [range(step, n, step) for n in reference.shape]
    found = seamed(prediction, reference, borders, classes)
    beside = np.zeros(reference.shape, bool)
    for axis, lines in enumerate(borders):
        for p in lines:
            np.moveaxis(beside, axis, 0)[p - 1 : p + 1] = True
    near = distance_transform_cdt(~beside, "chessboard") if beside.any() else np.full(reference.shape, FARTHEST)
    cells = {item.distance: item.cells for item in found.bins}
    assert sum(cells.values()) == reference.size
    assert cells.get(0, 0) == beside.sum()
    assert sum(item.pairs for item in found.bins) == sum(reference.size - reference.size // n for n in reference.shape)
    changes = sum(np.count_nonzero(np.diff(prediction.astype(int), axis=axis)) for axis in range(2))
    assert sum(item.changes for item in found.bins) == changes
    right = prediction == reference
    if beside.any():
        assert found.accuracy_near == pytest.approx(right[near == 0].mean())


def test_patches_put_side_by_side_are_seen() -> None:
    """Each patch is a smooth map of its own: what a network without overlap makes of it, only more so."""
    reference = blobs((256, 256), 3, 1, 6.0)
    parts = [[blobs((32, 32), 3, 100 + 8 * i + j, 4.0) for j in range(8)] for i in range(8)]
    prediction = np.block(parts)
    found = seamed(prediction, reference, [range(32, 256, 32)] * 2, 3)
    assert found.visible is True
    assert found.score is not None
    assert found.score > 3
    assert found.reference_score == pytest.approx(1, abs=0.4)


def test_a_map_that_knows_of_no_patches_shows_no_seam() -> None:
    reference, prediction = blobs((256, 256), 3, 1, 4.0), blobs((256, 256), 3, 2, 4.0)
    found = seamed(prediction, reference, [range(32, 256, 32)] * 2, 3)
    assert found.visible is False
    assert found.score == pytest.approx(1, abs=0.3)
    assert found.borders == (7, 7)


def test_patches_that_are_wrong_at_their_edges_are_less_accurate_near_borders() -> None:
    reference = np.zeros((64, 64), np.uint8)
    prediction = reference.copy()
    prediction[31:33] = 1
    found = seamed(prediction, reference, [[32], []], 2)
    assert (found.accuracy_near, found.accuracy_far) == (0, 1)
    assert [item.accuracy for item in found.bins][:2] == [0, 1]


def test_a_scene_of_one_patch_has_no_border_and_no_score() -> None:
    labels = blobs((20, 20), 2, 0)
    found = seamed(labels, labels, [[], []], 2)
    assert (found.score, found.visible, found.accuracy_near, found.borders) == (None, None, None, (0, 0))


def test_the_steps_in_which_a_network_upsamples_are_no_seams() -> None:
    """Labels that change on every second line only, as nearest upsampling makes them: borders lie on such lines."""
    labels = blobs((128, 128), 3, 1, 1.5).repeat(2, 0).repeat(2, 1)
    found = seamed(labels, labels, [range(32, 256, 32)] * 2, 3)
    assert found.score == pytest.approx(1, abs=0.2)
    assert found.visible is False
