"""Laws of the cut into blocks: all is covered, memory is kept to, and what the user says is what is done."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.planning.layout import NoRoomError, Wish, layout_of
from tiling import Box, Demand, Lattice, Layout, Network, cut, demand, rows_of, share
from tiling.strategies import layouts

LAWS = settings(max_examples=150, deadline=None, derandomize=True)
NETWORK = Network(inputs=3, outputs=4, activation_bytes=1000, in_flight=2, base_bytes=5000)
AMPLE = 1 << 50
Wanted = int | Literal["auto", "whole"]

scenes = layouts(largest=400)
"""Only the lattice, the shape and the region of these are used."""
wishes: st.SearchStrategy[Wanted] = st.one_of(st.sampled_from(["auto", "whole"]), st.integers(1, 500))


def need(layout: Layout) -> Demand:
    return demand(layout, NETWORK, itemsize=2)


def lay(scene: Layout, wanted: Wanted, workers: int = 1, allowed: int = AMPLE, sweep: int | None = None) -> Layout:
    return layout_of(scene.lattice, scene.shape, scene.region, Wish(wanted, workers, workers, sweep), need, allowed)


def units_of(layout: Layout) -> list[int]:
    """What the cuts are multiples of: a chunk's rows where swept, elsewhere the step between patches."""
    steps = []
    for axis, size in zip(layout.lattice.axes, layout.shape, strict=True):
        step = axis.starts[1] if len(axis.starts) > 1 else axis.patch
        steps.append(max(1, round(step * size / axis.size)))
    steps[layout.sweep] = layout.rows
    return steps


@given(scenes, wishes, st.integers(1, 5))
@LAWS
def test_every_cell_of_the_region_is_in_one_block_and_one_chunk(scene: Layout, wanted: Wanted, workers: int) -> None:
    layout = lay(scene, wanted, workers)
    for boxes in (
        [layout.box(block) for block in layout],
        [chunk for block in layout for chunk in layout.chunks(block)],
    ):
        seen = np.zeros(scene.shape, np.uint8)
        for box in boxes:
            seen[box.slices] += 1
        assert seen[scene.region.slices].all()
        assert seen.max() == 1
        assert int(seen.sum()) == scene.region.size


@given(scenes, st.sampled_from(["auto", "whole"]))
@LAWS
def test_one_worker_with_ample_memory_gets_one_block(scene: Layout, wanted: Literal["auto", "whole"]) -> None:
    layout = lay(scene, wanted)
    assert len(layout) == 1
    assert layout.box((0,) * len(scene.shape)) == scene.region
    assert layout.forwards == layout.forwards_minimum


@given(scenes, wishes, st.integers(1, 4), st.floats(0.0, 1.2))
@LAWS
def test_a_layout_fits_the_allowance_or_is_refused(scene: Layout, wanted: Wanted, workers: int, part: float) -> None:
    allowed = int(part * need(lay(scene, "whole")).run_bytes(workers))
    refused = None
    try:
        layout = lay(scene, wanted, workers, allowed)
    except NoRoomError as error:
        refused = error
        layout = smallest(scene, workers) if wanted == "auto" else lay(scene, wanted, workers)
    if refused is not None:
        assert refused.least_bytes == need(layout).run_bytes(workers)
        assert (f"each of {workers} workers" in refused.found) == (workers > 1)
    assert (need(layout).run_bytes(workers) > allowed) == (refused is not None)


def smallest(scene: Layout, workers: int) -> Layout:
    """The layout of `auto` that is cut across as finely as can be."""
    coarse = lay(scene, "auto", workers)
    block = tuple(
        coarse.block[axis] if axis == coarse.sweep else cut(n, unit, unit)
        for axis, (n, unit) in enumerate(zip(scene.region.shape, units_of(coarse), strict=True))
    )
    return Layout(scene.lattice, scene.shape, scene.region, coarse.sweep, block, coarse.rows)


@given(scenes, st.integers(1, 9))
@LAWS
def test_auto_cuts_the_sweep_into_no_more_blocks_than_there_are_workers(scene: Layout, workers: int) -> None:
    layout = lay(scene, "auto", workers)
    assert len(layout) == layout.counts[layout.sweep] <= workers


@given(st.integers(1, 10_000), st.integers(1, 40), st.integers(1, 300))
@LAWS
def test_a_share_is_the_least_multiple_of_the_unit_of_which_so_many_hold_all(
    length: int, parts: int, unit: int
) -> None:
    found = share(length, parts, unit)
    assert found % unit == 0
    assert ceil(length / found) <= parts
    assert found == unit or ceil(length / (found - unit)) > parts


@given(scenes, st.floats(0.0, 1.0))
@LAWS
def test_auto_cuts_across_only_when_memory_is_short_and_never_the_sweep_of_one_worker(
    scene: Layout, part: float
) -> None:
    whole, least = lay(scene, "auto"), smallest(scene, 1)
    low, high = need(least).total_bytes, need(whole).total_bytes
    allowed = max(low, int(low + part * (high - low)))
    layout = lay(scene, "auto", allowed=allowed)
    assert layout.counts[layout.sweep] == 1
    assert (len(layout) == 1) == (high <= allowed)


@given(scenes, st.integers(1, 500), st.integers(1, 4))
@LAWS
def test_a_number_cuts_every_axis_to_about_that_many_cells(scene: Layout, number: int, workers: int) -> None:
    layout = lay(scene, number, workers)
    for length, block, unit in zip(scene.region.shape, layout.block, units_of(layout), strict=True):
        assert block % unit == 0
        whole = ceil(length / unit) * unit
        assert abs(block - number) <= unit / 2 or block == (unit if number < unit else whole)
        assert block <= whole


@given(scenes, wishes)
@LAWS
def test_the_sweep_goes_along_the_longest_axis_unless_the_file_demands_another(scene: Layout, wanted: Wanted) -> None:
    free = lay(scene, wanted)
    assert scene.region.shape[free.sweep] == max(scene.region.shape)
    for axis in range(len(scene.shape)):
        assert lay(scene, wanted, sweep=axis).sweep == axis


def square(cells: int, patch: int = 64) -> tuple[Lattice, tuple[int, int], Box]:
    lattice = Lattice.of((cells, cells), (patch, patch), (patch // 2, patch // 2))
    return lattice, (cells, cells), Box.whole((cells, cells))


@pytest.mark.parametrize("workers", [2, 3, 4])
def test_auto_gives_every_worker_a_run_along_the_sweep(workers: int) -> None:
    lattice, shape, region = square(workers * 640)
    layout = layout_of(lattice, shape, region, Wish("auto", workers, workers), need, AMPLE)
    assert layout.counts == (workers, 1)


def test_tile7_on_four_workers_repeats_no_more_than_a_tenth_of_its_patches() -> None:
    """The Dubai mosaic's seventh tile, at 25 % overlap."""
    shape = (6184, 5450)
    lattice = Lattice.of(shape, (256, 256), (192, 192))
    layout = layout_of(lattice, shape, Box.whole(shape), Wish("auto", 4, 4), need, AMPLE)
    assert layout.counts == (4, 1)
    assert layout.forwards / layout.forwards_minimum <= 1.10


@pytest.mark.parametrize(("patch", "step", "most"), [(64, 32, 1.15), (128, 64, 1.31), (128, 96, 1.44)])
def test_a_volume_cut_two_by_two_repeats_one_row_of_patches_a_cut(patch: int, step: int, most: float) -> None:
    shape = (512, 512, 512)
    lattice = Lattice.of(shape, (patch,) * 3, (step,) * 3)
    whole = Box.whole(shape)
    half, rows = share(512, 2, step), rows_of(step)
    room = need(Layout(lattice, shape, whole, 0, (share(512, 1, rows), half, half), rows)).run_bytes(1)
    layout = layout_of(lattice, shape, whole, Wish("auto", 1, 1), need, room)
    count = lattice.counts[0]
    assert layout.counts == (1, 2, 2)
    assert layout.forwards / layout.forwards_minimum == pytest.approx(((count + 1) / count) ** 2)
    assert layout.forwards / layout.forwards_minimum <= most


def test_memory_for_a_third_of_a_cross_section_cuts_it_into_three_and_no_more() -> None:
    shape = (4096, 1536)
    lattice = Lattice.of(shape, (64, 64), (64, 64))
    whole = Box.whole(shape)
    rows = layout_of(lattice, shape, whole, Wish("auto", 1, 1), need, AMPLE).rows
    room = need(Layout(lattice, shape, whole, 0, (4096, 512), rows)).run_bytes(1)
    assert layout_of(lattice, shape, whole, Wish("auto", 1, 1), need, room).counts == (1, 3)


def test_a_refusal_names_the_parts_of_what_is_needed() -> None:
    lattice, shape, region = square(2048)
    mib = 1 << 20
    parts: Callable[[Layout], Demand] = lambda _: Demand(  # noqa: E731
        1 << 30, mib, 2 * mib, 3 * mib, 4 * mib, 5 * mib, 6 * mib, 7 * mib
    )
    with pytest.raises(NoRoomError) as caught:
        layout_of(lattice, shape, region, Wish("auto", 2, 2), parts, 1 << 30)
    for said in ("3.0 GiB", "process 1.0 GiB", "input 3.0 MiB", "patches in flight 10.0 MiB", "each of 2 workers"):
        assert said in caught.value.found
    assert caught.value.expected == "at most 1.0 GiB"
    assert "compute.memory" in caught.value.remedy
