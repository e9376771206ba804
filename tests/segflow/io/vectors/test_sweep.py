"""Claims about polygons that are made strip by strip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from segflow.io.vectors.chains import no_chains
from segflow.io.vectors.sweep import _Sweep
from segflow.io.vectors.walks import walks
from tests.segflow.io.vectors.making import ALL, comparable, label_arrays, ours, strips, swept, theirs

HEIGHTS = st.integers(1, 15)
CONNECTIVITY = st.sampled_from([4, 8])


@given(label_arrays(), HEIGHTS, CONNECTIVITY)
def test_polygons_are_those_of_gdal_on_the_whole_array(
    labels: NDArray[np.uint8], height: int, connectivity: int
) -> None:
    assert comparable(ours(labels, height, connectivity)) == comparable(theirs(labels, connectivity))


@given(label_arrays(), HEIGHTS, CONNECTIVITY)
def test_every_polygon_is_valid_with_its_first_ring_outside_and_counts_its_cells(
    labels: NDArray[np.uint8], height: int, connectivity: int
) -> None:
    for batch in swept(labels, height, connectivity):
        shapes = [shape for _, shape in ours(labels, height, connectivity)]
        assert shapely.is_valid(np.array(shapes)).all()
        rings = batch.parts.rings
        assert np.array_equal(np.unique(rings.owner), np.arange(len(batch.parts)))
    total = sum(int(batch.cells.sum()) for batch in swept(labels, height, connectivity))
    assert total == labels.size
    areas = [shape.area for _, shape in ours(labels, height, connectivity)]
    cells = np.concatenate([batch.cells for batch in swept(labels, height, connectivity)])
    np.testing.assert_array_equal(areas, cells)


@given(label_arrays(), HEIGHTS, CONNECTIVITY)
def test_polygons_put_back_on_the_grid_give_the_labels(
    labels: NDArray[np.uint8], height: int, connectivity: int
) -> None:
    shapes = ((shape, value) for value, shape in ours(labels, height, connectivity))
    found = rasterio.features.rasterize(shapes, out_shape=labels.shape, fill=255, dtype="uint8")
    np.testing.assert_array_equal(found, labels)


@given(label_arrays(), HEIGHTS, HEIGHTS, CONNECTIVITY)
def test_the_bytes_of_a_polygon_do_not_depend_on_the_strips(
    labels: NDArray[np.uint8], one: int, other: int, connectivity: int
) -> None:
    first, second = (
        sorted((value, shapely.to_wkb(shape)) for value, shape in ours(labels, height, connectivity))
        for height in (one, other)
    )
    assert first == second


@given(label_arrays(), HEIGHTS, CONNECTIVITY, st.sets(st.integers(0, 3)))
def test_labels_that_are_not_wanted_leave_the_others_as_they_are(
    labels: NDArray[np.uint8], height: int, connectivity: int, chosen: set[int]
) -> None:
    wanted = np.zeros(256, bool)
    wanted[list(chosen)] = True
    some = ours(labels, height, connectivity, wanted=wanted)
    every = ours(labels, height, connectivity)
    assert comparable(some) == comparable([(value, shape) for value, shape in every if value in chosen])


@given(label_arrays(), HEIGHTS, CONNECTIVITY)
def test_weights_are_summed_over_each_polygon(labels: NDArray[np.uint8], height: int, connectivity: int) -> None:
    weights = np.random.default_rng(labels.size).integers(0, 256, labels.shape).astype(np.uint8)
    shapes = ours(labels, height, connectivity)
    sums = np.concatenate([batch.weights for batch in swept(labels, height, connectivity, weights=weights)])
    for (_, shape), found in zip(shapes, sums, strict=True):
        inside = rasterio.features.rasterize([shape], out_shape=labels.shape).astype(bool)
        assert weights[inside].sum() == found


def _ring_of_rings() -> NDArray[np.uint8]:
    """A background that holds a ring, which holds a hole, which holds an island."""
    labels = np.zeros((40, 40), np.uint8)
    for label, inset in ((1, 4), (0, 8), (2, 12), (0, 16)):
        labels[inset:-inset, inset:-inset] = label
    return labels


@pytest.mark.parametrize("height", [1, 7, 40])
def test_holes_in_holes_are_right(height: int) -> None:
    labels = _ring_of_rings()
    found = ours(labels, height)
    assert sorted((value, len(shape.geoms[0].interiors), int(shape.area)) for value, shape in found) == [
        (0, 0, 64),
        (0, 1, 576 - 256),
        (0, 1, 1600 - 1024),
        (1, 1, 1024 - 576),
        (2, 1, 256 - 64),
    ]


def test_a_diagonal_is_one_feature_of_many_polygons_with_8_neighbours_and_many_with_4() -> None:
    labels = np.eye(9, dtype=np.uint8)
    ones = [[shape for value, shape in ours(labels, 2, connectivity) if value == 1] for connectivity in (4, 8)]
    assert [len(found) for found in ones] == [9, 1]
    assert len(ones[1][0].geoms) == 9


def test_only_what_is_open_is_kept() -> None:
    """A comb of bars that end, over a background that does not: after each strip, the bars that ended are gone."""
    labels = np.zeros((400, 60), np.uint8)
    for row in range(2, 400, 4):
        labels[row, 1:-1:2] = 1
    wanted = ALL.copy()
    wanted[0] = False
    sweep = _Sweep(wanted, 8, None)
    kept = []
    for strip in strips(labels, 20):
        sweep.features(strip)
        kept.append(len(sweep._regions) + len(sweep._groups) + len(sweep._chains.up_x))
    assert max(kept) == 0


@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_walks_follow_every_list_to_its_end(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    following: NDArray[Any] = random.permutation(size)
    following[random.random(size) < 0.2] = -1
    found = walks(following)
    assert sorted(found.order.tolist()) == list(range(size))
    for first, end in zip(found.starts[:-1], found.starts[1:], strict=True):
        run = found.order[first:end]
        assert following[run[:-1]].tolist() == run[1:].tolist()
        assert following[run[-1]] in (-1, run[0])
        if following[run[-1]] == -1:
            assert run[0] not in following
        else:
            assert run[0] == run.min()


def test_nothing_is_open_before_the_first_strip() -> None:
    assert len(no_chains().up_x) == len(no_chains().points) == 0
