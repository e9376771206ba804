"""Claims about polygons as bytes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.io.vectors import rings
from segflow.io.vectors.geometry import geometries
from segflow.io.vectors.wkb import well_known
from tests.segflow.io.vectors.making import label_arrays, swept

AFFINES = [(1, 0, 0, 0, 1, 0), (0.5, 0, 500000, 0, -0.5, 5400000), (0.4, 0.3, 10, 0.3, -0.4, 20), (-1, 0.5, 0, 0, 1, 7)]


@given(label_arrays(), st.integers(1, 15), st.booleans(), st.sampled_from(AFFINES))
def test_bytes_are_those_of_geos_with_outer_rings_counter_clockwise(
    labels: NDArray[np.uint8], height: int, many: bool, affine: tuple[float, ...]
) -> None:
    a, b, c, d, e, f = affine
    for batch in swept(labels, height, 8 if many else 4):
        out, ends = well_known(batch, affine, many)
        found = [out[first:end].tobytes() for first, end in pairwise(ends)]
        placed = shapely.transform(geometries(batch, many=many), lambda xy: xy @ np.array([[a, d], [b, e]]) + (c, f))
        read = shapely.from_wkb(found)
        assert shapely.equals_exact(shapely.normalize(read), shapely.normalize(placed), 1e-9).all()
        assert shapely.to_wkb(read).tolist() == found
        parts = shapely.get_parts(read)
        assert all(part.exterior.is_ccw and not any(hole.is_ccw for hole in part.interiors) for part in parts)


def test_large_polygons_are_written_some_rings_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[1::3, 1::3] = 1
    (whole,) = swept(labels, 60)
    before = well_known(whole, AFFINES[1], False)
    monkeypatch.setattr(rings, "_AT_ONCE", 50)
    (whole,) = swept(labels, 60)
    after = well_known(whole, AFFINES[1], False)
    np.testing.assert_array_equal(before[0], after[0])
    np.testing.assert_array_equal(before[1], after[1])
