"""Claims about the sieve."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio.features
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.postprocess.components import Connectivity
from segflow.postprocess.sieve import sieve
from tests.segflow.io.vectors.making import label_arrays
from tests.segflow.io.vectors.test_simplify import blobs


def sieved(labels: NDArray[np.uint8], height: int, size: int, connectivity: int) -> NDArray[np.uint16]:
    rows, columns = labels.shape
    way: Connectivity = "faces" if connectivity == 4 else "corners"
    found = sieve(lambda box: labels[box.slices], (rows, columns), size, way, 255, rows=height)
    return np.concatenate([values for _, values in found.strips()])


def by_gdal(labels: NDArray[np.uint8], size: int, connectivity: int) -> NDArray[np.uint8]:
    found: NDArray[np.uint8] = rasterio.features.sieve(labels, size, mask=labels != 255, connectivity=connectivity)
    return found


@given(label_arrays(20), st.integers(1, 21), st.integers(1, 12), st.sampled_from([4, 8]), st.integers(0, 2**32 - 1))
def test_the_sieve_in_strips_is_that_of_gdal_on_the_whole_array(
    labels: NDArray[np.uint8], height: int, size: int, connectivity: int, seed: int
) -> None:
    assume(size < labels.size)
    labels = np.where(np.random.default_rng(seed).random(labels.shape) < 0.1, 255, labels).astype(np.uint8)
    np.testing.assert_array_equal(sieved(labels, height, size, connectivity), by_gdal(labels, size, connectivity))


@pytest.mark.parametrize("connectivity", [4, 8])
def test_the_sieve_is_that_of_gdal_on_a_large_map(connectivity: int) -> None:
    labels = blobs((500, 400), seed=1, width=1.2)
    assert (by_gdal(labels, 30, connectivity) != labels).mean() > 0.05
    np.testing.assert_array_equal(sieved(labels, 64, 30, connectivity), by_gdal(labels, 30, connectivity))
