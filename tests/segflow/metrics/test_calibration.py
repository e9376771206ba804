"""Calibration errors and curve: scikit-learn's bins, and cells that are right as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from segflow.metrics.calibration import CalibrationMeter
from segflow.metrics.results import Calibration
from segflow.metrics.windows import run_meters
from tests.segflow.metrics.pairs import pair_of


def calibrated(right: np.ndarray, confidence: np.ndarray, cells: int = 1 << 22) -> Calibration:
    meter = CalibrationMeter(2)
    pair = pair_of(np.ones(right.shape, np.uint8), right.astype(np.uint8), 2, confidence)
    run_meters(pair, [meter], cells)
    return meter.result()


@given(st.integers(0, 1000), st.integers(1, 300))
def test_the_curve_is_scikit_learn_s_and_does_not_depend_on_windows(seed: int, cells: int) -> None:
    random = np.random.default_rng(seed)
    inside = [value for value in range(256) if value % 17]  # not on the border of two bins, where floats decide
    confidence = random.choice(np.array(inside, np.uint8), (23, 31))
    right = random.random(confidence.shape) < confidence / 255
    found = calibrated(right, confidence)
    true, said = calibration_curve(right.ravel(), confidence.ravel() / 255, n_bins=15)
    held = [item for item in found.bins if item.cells]
    assert [item.accuracy for item in held] == pytest.approx(true)
    assert [item.confidence for item in held] == pytest.approx(said)
    share = np.array([item.cells for item in held]) / found.cells
    assert found.ece == pytest.approx((share * np.abs(true - said)).sum())
    assert found.mce == pytest.approx(np.abs(true - said).max())
    assert calibrated(right, confidence, cells) == found


def test_cells_that_are_right_as_often_as_they_say_have_no_error() -> None:
    confidence = np.repeat(np.arange(0, 256, 51, dtype=np.uint8), 5).reshape(6, 5)
    right = np.arange(5)[None, :] < np.arange(6)[:, None]
    found = calibrated(right, confidence)
    assert found.ece == pytest.approx(0)
    assert found.mce == pytest.approx(0)


def test_a_network_that_is_sure_and_wrong_has_the_largest_error() -> None:
    found = calibrated(np.zeros((4, 4), bool), np.full((4, 4), 255, np.uint8))
    assert (found.ece, found.mce, found.accuracy, found.mean_confidence) == (1, 1, 0, 1)


def test_cells_that_are_not_scored_do_not_count() -> None:
    reference = np.array([[1, 2], [1, 2]])
    meter = CalibrationMeter(2)
    run_meters(pair_of(np.ones((2, 2), int), reference, 2, np.full((2, 2), 255, np.uint8)), [meter])
    assert (meter.result().cells, meter.result().ece) == (2, 0)


def test_without_a_scored_cell_there_is_no_error_to_tell() -> None:
    meter = CalibrationMeter(2)
    run_meters(pair_of(np.full((2, 2), 2), np.full((2, 2), 2), 2, np.zeros((2, 2), np.uint8)), [meter])
    found = meter.result()
    assert (found.cells, found.ece, found.mce, found.accuracy) == (0, None, None, None)
