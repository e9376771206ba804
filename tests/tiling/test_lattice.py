"""Where patches lie: every cell is covered, phases agree, and what cannot be is refused."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices

from tiling import Axis, Box, Lattice, Rule, axis_of, step_of
from tiling.strategies import lattices

LAWS = settings(max_examples=80, deadline=None, derandomize=True)
sizes = st.integers(1, 60)


@st.composite
def tilings(draw: st.DrawFn) -> tuple[int, int, int]:
    patch = draw(st.integers(1, 25))
    return draw(sizes), patch, draw(st.integers(1, patch))


@given(tilings(), st.sampled_from(("overhang", "shifted", "even")))
@LAWS
def test_every_cell_is_covered_and_no_patch_is_idle(tiling: tuple[int, int, int], rule: Rule) -> None:
    size, patch, step = tiling
    for profile in ("gaussian", "crop"):
        axis = axis_of(size, patch, step, profile, rule)  # type: ignore[arg-type]
        covers = [sum(s <= cell < s + patch for s in axis.starts) for cell in range(size)]
        assert min(covers) >= 1
        assert max(covers) == axis.most
        assert axis.starts[-1] < size
        # the last is needed: without it the scene's last cell is bare
        assert len(axis.starts) == 1 or axis.starts[-2] + patch < size


@given(tilings())
@LAWS
def test_overhanging_starts_are_multiples_of_the_step(tiling: tuple[int, int, int]) -> None:
    assert all(start % tiling[2] == 0 for start in axis_of(*tiling).starts)


@given(tilings())
@LAWS
def test_shifted_starts_are_monais(tiling: tuple[int, int, int]) -> None:
    size, patch, step = tiling
    starts = axis_of(size, patch, step, rule="shifted").starts
    theirs = dense_patch_slices([max(size, patch)], [patch], [step])
    assert starts == tuple(window[0].start for window in theirs)


@given(tilings(), sizes, sizes)
@LAWS
def test_touching_finds_the_patches_that_share_a_cell(tiling: tuple[int, int, int], one: int, other: int) -> None:
    axis = axis_of(*tiling)
    low, high = min(one, other), max(one, other) + 1
    found = [k for k, start in enumerate(axis.starts) if start < high and start + axis.patch > low]
    assert list(axis.touching(low, high)) == found


@given(lattices())
@LAWS
def test_a_lattice_is_the_product_of_its_axes(lattice: Lattice) -> None:
    boxes = [lattice.box(index) for index in product(*map(range, lattice.counts))]
    assert len(set(boxes)) == len(boxes) == lattice.size
    scene = Box.whole(lattice.shape)
    assert all(box.intersect(scene) is not None and box.shape == lattice.patch for box in boxes)


@given(lattices(largest=9))
@LAWS
def test_most_is_the_largest_number_of_patches_over_a_cell(lattice: Lattice) -> None:
    boxes = [lattice.box(index) for index in product(*map(range, lattice.counts))]
    cells = product(*map(range, lattice.shape))
    assert lattice.most == max(
        sum(all(a <= i < b for a, i, b in zip(box.start, cell, box.stop, strict=True)) for box in boxes)
        for cell in cells
    )


@pytest.mark.parametrize(
    ("size", "patch", "starts", "margin", "message"),
    [
        (10, 4, (0, 5), 0, "cover|ascend"),
        (10, 4, (1, 5, 9), 0, "cover"),
        (10, 4, (0, 4), 0, "cover"),
        (10, 4, (), 0, "cover"),
        (10, 4, (0, 4, 4, 8), 0, "ascend"),
        (13, 4, (0, 5, 9), 0, "ascend"),
        (10, 6, (0, 4), 2, "crop margin of 2 .* at most 1"),
        (10, 6, (0, 4), -1, "margin"),
        (10, 6, (0, 4, 10), 0, "beyond the scene"),
        (0, 6, (0,), 0, "positive"),
        (5, 0, (0,), 0, "positive"),
    ],
)
def test_an_axis_that_leaves_cells_out_is_refused(
    size: int, patch: int, starts: tuple[int, ...], margin: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Axis(size, patch, starts, "crop", margin)


def test_unknown_blends_and_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="gaussian, hann"):
        Axis(5, 5, (0,), "cosine")  # type: ignore[arg-type]
    for step in (0, 6, -1):
        with pytest.raises(ValueError, match="step"):
            axis_of(20, 5, step)
    with pytest.raises(ValueError, match="one number an axis"):
        Lattice.of((5, 5), (2,), (1, 1))


@given(st.integers(1, 300), st.floats(0, 0.99), st.sampled_from((1, 2, 8, 16, 32)))
@LAWS
def test_step_is_a_multiple_of_the_stride_that_overlaps_enough(patch: int, overlap: float, stride: int) -> None:
    cells = round(patch * overlap)
    if cells == patch:
        with pytest.raises(ValueError, match="below the patch"):
            step_of(patch, overlap, stride)
        return
    step = step_of(patch, overlap, stride)
    assert 0 < step <= patch
    assert step % stride == 0 or step == patch < stride
    assert patch - step >= cells or step == min(stride, patch)
    assert step_of(patch, cells, stride) == step


@pytest.mark.parametrize("overlap", [1.0, 1.5, -0.1, 64, 65, -1])
def test_overlaps_outside_of_the_patch_are_refused(overlap: float | int) -> None:
    with pytest.raises(ValueError, match="overlap of"):
        step_of(64, overlap)
