"""Scores of regions and tiles: those of scikit-learn on the cells inside."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from segflow.metrics.places import Region, RegionMeter, TileMeter
from segflow.metrics.windows import run_meters
from tests.segflow.metrics.pairs import Maps, label_pairs, pair_of
from tiling import Box


def held_in(mask: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
    return mask[box.slices]


@settings(max_examples=40)
@given(label_pairs(), st.integers(0, 99), st.integers(1, 99))
def test_a_region_has_scikit_learn_s_scores_of_its_cells(maps: tuple[Maps, int], seed: int, cells: int) -> None:
    (prediction, reference), classes = maps
    mask = np.random.default_rng(seed).random(reference.shape) < 0.6
    regions = [
        Region("some", Box.whole(mask.shape), partial(held_in, mask)),
        Region("beyond", None, partial(held_in, mask)),
    ]
    meter = RegionMeter(regions, list(range(10, 10 + classes)))
    run_meters(pair_of(prediction, reference, classes), [meter], cells)
    some, beyond = meter.result()
    true, said = reference[mask & (reference < classes)], prediction[mask & (reference < classes)]
    assert (some.cells, beyond.cells, beyond.mean_iou) == (true.size, 0, None)
    if true.size:
        present = np.union1d(true, said)
        assert some.pixel_accuracy == pytest.approx(accuracy_score(true, said))
        assert some.mean_iou == pytest.approx(jaccard_score(true, said, labels=present, average="macro"))
        assert some.mean_dice == pytest.approx(f1_score(true, said, labels=present, average="macro"))


@settings(max_examples=15)  # scikit-learn takes a while for each tile
@given(label_pairs(axes=(2,)), st.integers(3, 9), st.integers(1, 99))
def test_a_tile_has_scikit_learn_s_scores_of_its_cells(maps: tuple[Maps, int], tile: int, cells: int) -> None:
    (prediction, reference), classes = maps
    meter = TileMeter(reference.shape, tile, classes)
    run_meters(pair_of(prediction, reference, classes), [meter], cells)
    found = meter.result()
    for row in range(found.rows):
        for column in range(found.columns):
            part = np.s_[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile]
            scored = reference[part] < classes
            true, said = reference[part][scored], prediction[part][scored]
            assert found.cells[row][column] == true.size
            if not true.size:
                assert found.mean_iou[row][column] is found.pixel_accuracy[row][column] is None
                continue
            labels = np.union1d(true, said)
            expected = jaccard_score(true, said, labels=labels, average="macro")
            assert found.mean_iou[row][column] == pytest.approx(expected, abs=1e-4)
            assert found.pixel_accuracy[row][column] == pytest.approx(accuracy_score(true, said), abs=1e-4)
