"""Changes of whole label maps: what scipy does to the array as a whole, whatever the slabs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage

from segflow.postprocess import changes, components
from segflow.recipe.postprocess import Postprocess
from tiling import Box


@st.composite
def label_maps(draw: st.DrawFn) -> NDArray[np.uint8]:
    """Small maps of few classes, in which regions of all sizes occur."""
    axes = draw(st.integers(2, 3))
    shape = tuple(draw(st.integers(1, 9 if axes == 3 else 14)) for _ in range(axes))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = random.integers(0, draw(st.integers(1, 3)) + 1, shape)
    for _ in range(draw(st.integers(0, 2))):
        labels = ndimage.median_filter(labels, 3)
    return labels.astype(np.uint8)


def changed(labels: NDArray[Any], wanted: Postprocess, slab_cells: int) -> NDArray[Any]:
    for change in changes(wanted):
        out = np.full_like(labels, 77)

        def write(box: Box, values: NDArray[Any], out: NDArray[Any] = out) -> None:
            out[box.slices] = values

        change(lambda box, labels=labels: labels[box.slices], labels.shape, write, slab_cells)
        labels = out
    return labels


def structure(axes: int, connectivity: str) -> NDArray[np.bool_]:
    return np.asarray(ndimage.generate_binary_structure(axes, 1 if connectivity == "faces" else axes))


connectivities = st.sampled_from(("faces", "corners"))
slabs = st.sampled_from((1, 10, 40, 10**6))


@given(label_maps(), connectivities, slabs)
def test_components_are_scipys_whatever_the_slabs(
    labels: NDArray[np.uint8], connectivity: Any, slab_cells: int
) -> None:
    found = components(
        lambda box: labels[box.slices], labels.shape, lambda part: part.astype(np.uint32), connectivity, slab_cells
    )
    ours = np.full(labels.shape, -1, np.int64)
    for box, _, number in found.cells():
        ours[box.slices] = number
    assert ((ours == -1) == (labels == 0)).all()
    seen = 0
    for value in (1, 2, 3):
        truth, count = ndimage.label(labels == value, structure(labels.ndim, connectivity))
        seen += count
        for k in range(1, count + 1):
            (one,) = np.unique(ours[truth == k])
            assert found.size[one] == (truth == k).sum()
            assert found.value[one] == value
            assert found.first[one] == np.flatnonzero(truth.ravel() == k)[0]
            inner = np.zeros(labels.shape, np.bool_)
            inner[(slice(1, -1),) * labels.ndim] = True
            assert found.enclosed[one] == inner[truth == k].all()
    assert seen == len(found.size)


@given(label_maps(), connectivities, slabs, st.integers(2, 12))
def test_small_regions_become_background(
    labels: NDArray[np.uint8], connectivity: Any, slab_cells: int, size: int
) -> None:
    expected = labels.copy()
    for value in (1, 2):
        truth, _ = ndimage.label(labels == value, structure(labels.ndim, connectivity))
        small = np.bincount(truth.ravel()) < size
        small[0] = False
        expected[small[truth]] = 0
    wanted = Postprocess(min_size={1: size, 2: size}, connectivity=connectivity)
    assert np.array_equal(changed(labels, wanted, slab_cells), expected)


@given(label_maps(), connectivities, slabs)
def test_of_the_largest_regions_the_first_is_kept(
    labels: NDArray[np.uint8], connectivity: Any, slab_cells: int
) -> None:
    truth, count = ndimage.label(labels == 1, structure(labels.ndim, connectivity))
    expected = labels.copy()
    if count:
        expected[(truth != 0) & (truth != 1 + np.bincount(truth.ravel())[1:].argmax())] = 0
    wanted = Postprocess(keep_largest=(1,), connectivity=connectivity)
    assert np.array_equal(changed(labels, wanted, slab_cells), expected)


@given(label_maps(), slabs)
def test_holes_are_those_of_scipy_and_other_classes_inside_stay(labels: NDArray[np.uint8], slab_cells: int) -> None:
    expected = labels.copy()
    for value in (2, 1):
        expected[ndimage.binary_fill_holes(expected == value) & (expected == 0)] = value
    assert np.array_equal(changed(labels, Postprocess(fill_holes=(2, 1)), slab_cells), expected)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "changes nothing"),
        ({"keep_largest": [0]}, "background"),
        ({"min_size": {1: 1}}, "from 2 up"),
        ({"sieve": 1}, "greater than or equal to 2"),
    ],
)
def test_what_cannot_be_meant_is_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Postprocess(**keys)
