"""Blocks part the region, chunks part blocks, and patches are counted once whatever the cut."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiling import AxisMap, Box, Lattice, Layout, cut, rows_of
from tiling.strategies import layouts

LAWS = settings(max_examples=60, deadline=None, derandomize=True)


def indices(ranges: tuple[range, ...]) -> set[tuple[int, ...]]:
    return set(product(*ranges))


def needed(layout: Layout, box: Box) -> set[tuple[int, ...]]:
    """The patches that hold a model cell with a weight in one of the box's output cells, by brute force."""
    per_axis = []
    for axis, a, b, target in zip(layout.lattice.axes, box.start, box.stop, layout.shape, strict=True):
        weights = AxisMap(axis.size, target).apply(np.eye(axis.size, dtype=np.float32), 1, 0, a, b)
        cells = set(np.flatnonzero(weights.any(axis=1)).tolist())
        per_axis.append([k for k, s in enumerate(axis.starts) if cells & set(range(s, s + axis.patch))])
    return set(product(*per_axis))


@given(layouts())
@LAWS
def test_blocks_part_the_region_and_chunks_part_blocks(layout: Layout) -> None:
    blocks = np.zeros(layout.shape, int)
    chunks = np.zeros(layout.shape, int)
    for block in layout:
        box = layout.box(block)
        blocks[box.slices] += 1
        parts = layout.chunks(block)
        assert parts[0].start == box.start
        assert parts[-1].stop == box.stop
        assert all(part.shape[layout.sweep] == layout.rows for part in parts[:-1])
        for part in parts:
            assert box.contains(part)
            chunks[part.slices] += 1
    expected = np.zeros(layout.shape, int)
    expected[layout.region.slices] = 1
    assert np.array_equal(blocks, expected)
    assert np.array_equal(chunks, expected)
    assert len(list(layout)) == len(layout)


@given(layouts(largest=24))
@LAWS
def test_a_block_has_all_patches_that_it_needs_and_no_other(layout: Layout) -> None:
    for block in layout:
        assert indices(layout.patches(block)) == needed(layout, layout.box(block))


@given(layouts(largest=24))
@LAWS
def test_every_patch_that_touches_the_region_is_owned_once(layout: Layout) -> None:
    owned = [index for block in layout for index in indices(layout.owned(block))]
    assert len(owned) == len(set(owned)) == layout.forwards_minimum
    assert set(owned) == needed(layout, layout.region)
    for block in layout:
        assert indices(layout.owned(block)) <= indices(layout.patches(block))


@given(layouts(largest=24))
@LAWS
def test_forwards_are_those_of_all_blocks_together(layout: Layout) -> None:
    assert layout.forwards == sum(len(indices(layout.patches(block))) for block in layout)
    assert layout.forwards >= layout.forwards_minimum
    if len(layout) == 1:
        assert layout.forwards == layout.forwards_minimum
    if layout.region == Box.whole(layout.shape):
        assert layout.forwards_minimum == layout.lattice.size
        assert layout.overhead == layout.lattice.overhead


@given(layouts())
@LAWS
def test_the_model_box_covers_what_each_cell_is_made_of(layout: Layout) -> None:
    scene = Box.whole(layout.lattice.shape)
    for block in layout:
        box = layout.box(block)
        model = layout.model_box(box)
        assert scene.contains(model)
        for axis, axis_map in enumerate(layout.maps):
            supports = [axis_map.support(i, i + 1) for i in range(box.start[axis], box.stop[axis])]
            assert (min(s[0] for s in supports), max(s[1] for s in supports)) == (model.start[axis], model.stop[axis])
        if not layout.resampled:
            assert model == box


@given(layouts(largest=24), st.data())
@LAWS
def test_a_preview_runs_patches_of_the_full_runs_lattice(layout: Layout, data: st.DataObject) -> None:
    full = Layout(layout.lattice, layout.shape, Box.whole(layout.shape), layout.sweep, layout.block, layout.rows)
    assert layout.forwards_minimum <= full.forwards_minimum
    assert layout.model_box(layout.region) == full.model_box(layout.region)


LATTICE = Lattice.of((20, 20), (8, 8), (4, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (20,)}, "rank"),
        ({"block": (8,)}, "rank"),
        ({"region": Box((0,), (20,))}, "rank"),
        ({"region": Box((0, 0), (20, 21))}, "reaches out"),
        ({"region": Box((-1, 0), (20, 20))}, "reaches out"),
        ({"block": (8, 0)}, "positive"),
        ({"rows": 0}, "positive"),
        ({"rows": 5}, "multiple of 5 rows"),
    ],
)
def test_layouts_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    good = {
        "lattice": LATTICE,
        "shape": (20, 20),
        "region": Box.whole((20, 20)),
        "sweep": 0,
        "block": (8, 8),
        "rows": 4,
    }
    assert len(Layout(**good)) == 9
    with pytest.raises(ValueError, match=message):
        Layout(**(good | change))


@given(st.integers(1, 10**6), st.one_of(st.none(), st.integers(1, 10**6)), st.integers(1, 2000))
@LAWS
def test_cuts_are_multiples_of_the_unit_and_never_longer_than_needed(
    length: int, wanted: int | None, unit: int
) -> None:
    extent = cut(length, wanted, unit)
    assert extent > 0
    assert extent % unit == 0
    assert extent < length + unit
    if wanted is None:
        assert extent >= length


@given(st.floats(0.1, 600), st.integers(1, 200))
@LAWS
def test_rows_of_a_chunk_are_a_multiple_of_the_step_and_enough(step: float, least: int) -> None:
    rows = rows_of(step, least)
    assert rows >= least
    assert rows % max(1, round(step)) == 0
    assert rows < least + max(1, round(step))
