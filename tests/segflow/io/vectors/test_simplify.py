"""Claims about borders with fewer corners."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from segflow.io.vectors.simplify import Coverage
from tests.segflow.io.vectors.making import label_arrays, ours, swept


def blobs(shape: tuple[int, int], seed: int = 0, width: float = 3.0) -> NDArray[np.uint8]:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), width)
    return np.digitize(noise, np.quantile(noise, [0.3, 0.6, 0.8])).astype(np.uint8)


@given(label_arrays(30), st.integers(1, 31), st.sampled_from([4, 8]), st.sampled_from([0.5, 1.0, 2.0, 6.0, 50.0]))
def test_simplified_polygons_are_valid_and_share_their_borders_in_all_strips(
    labels: NDArray[np.uint8], height: int, connectivity: int, tolerance: float
) -> None:
    shapes = np.array(
        [shape for _, shape in ours(labels, height, connectivity, simplifier=Coverage(tolerance, (1, 2)))]
    )
    assert shapely.is_valid(shapes).all()
    assert shapely.coverage_is_valid(shapes)
    assert np.isclose(shapely.area(shapes).sum(), labels.size)
    assert len(shapes) == len(ours(labels, height, connectivity))


@pytest.mark.parametrize("height", [40, 300])
def test_corners_go_and_classes_keep_their_share(height: int) -> None:
    labels = blobs((300, 260))
    plain, simple = swept(labels, height), swept(labels, height, simplifier=Coverage(2.0, (1.0, 1.0)))
    before, after = (sum(len(batch.parts.rings.points) for batch in batches) for batches in (plain, simple))
    assert after < 0.45 * before
    for value in range(4):
        area = sum(
            shape.area for label, shape in ours(labels, height, simplifier=Coverage(2.0, (1, 1))) if label == value
        )
        assert abs(area - (labels == value).sum()) < 0.01 * labels.size


def test_a_border_between_wanted_and_unwanted_is_simplified_as_in_the_whole_map() -> None:
    labels = blobs((120, 90), seed=4)
    wanted = np.arange(256) == 2
    some = ours(labels, 32, simplifier=Coverage(2.0, (1, 1)), wanted=wanted)
    every = ours(labels, 32, simplifier=Coverage(2.0, (1, 1)))
    assert sorted(shape.wkt for _, shape in some) == sorted(shape.wkt for value, shape in every if value == 2)
