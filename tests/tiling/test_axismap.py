"""Resampling along an axis against PyTorch's and PIL's anti-aliased triangle, and independence of the cut."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import map_coordinates

from tiling import AxisMap, Filter, PlacedMap

LAWS = settings(max_examples=80, deadline=None, derandomize=True)
sizes = st.integers(1, 60)
maps = st.builds(AxisMap, sizes, sizes)
all_maps = st.builds(AxisMap, sizes, sizes, st.sampled_from(get_args(Filter)))


def rows(axis_map: AxisMap, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, axis_map.source)).astype(np.float32)


@given(maps)
@LAWS
def test_resampling_is_pytorchs_antialiased_linear_interpolation(axis_map: AxisMap) -> None:
    values = rows(axis_map)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None].double(),
        size=(3, axis_map.target),
        mode="bilinear",
        antialias=True,
        align_corners=False,
    )
    ours = axis_map.apply(values, 1, 0, 0, axis_map.target)
    assert np.allclose(ours, theirs[0, 0].numpy(), atol=1e-6)


@given(maps.filter(lambda m: m.target >= m.source))
@LAWS
def test_upsampling_is_plain_linear_interpolation(axis_map: AxisMap) -> None:
    values = rows(axis_map)
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None].double(), size=axis_map.target, mode="linear", align_corners=False
    )
    assert np.allclose(axis_map.apply(values, 1, 0, 0, axis_map.target), theirs[0].numpy(), atol=1e-6)


@given(maps)
@LAWS
def test_resampling_is_pils(axis_map: AxisMap) -> None:
    values = rows(axis_map)
    image = Image.fromarray(values).resize((axis_map.target, 3), Image.Resampling.BILINEAR)
    assert np.allclose(axis_map.apply(values, 1, 0, 0, axis_map.target), np.asarray(image), atol=3e-6)


def test_large_grids_agree_with_pytorch_too() -> None:
    for source, target in ((10007, 3001), (3001, 10007), (5000, 61), (4096, 4095)):
        axis_map = AxisMap(source, target)
        values = rows(axis_map)
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(values)[None, None].double(), size=(3, target), mode="bilinear", antialias=True
        )
        assert np.allclose(axis_map.apply(values, 1, 0, 0, target), theirs[0, 0].numpy(), atol=1e-5)


@given(all_maps, st.data())
@LAWS
def test_no_bit_depends_on_where_the_axis_is_cut(axis_map: AxisMap, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis_map.target - 1))
    stop = data.draw(st.integers(start + 1, axis_map.target))
    low, high = axis_map.support(start, stop)
    first = data.draw(st.integers(0, low))
    values = rows(axis_map)
    values[:, :first] = values[:, high:] = np.nan
    all_cells = axis_map.apply(rows(axis_map), 1, 0, 0, axis_map.target)
    part = axis_map.apply(values[:, first:], 1, first, start, stop)
    assert part.dtype == np.float32
    assert part.tobytes() == np.ascontiguousarray(all_cells[:, start:stop]).tobytes()


@given(all_maps, st.data())
@LAWS
def test_support_is_what_has_weight_and_no_more(axis_map: AxisMap, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, axis_map.target - 1))
    stop = data.draw(st.integers(start + 1, axis_map.target))
    ones = axis_map.apply(np.eye(axis_map.source, dtype=np.float32), 1, 0, start, stop)
    used = np.flatnonzero(ones.any(axis=1))
    assert (used[0], used[-1] + 1) == axis_map.support(start, stop)


@given(all_maps)
@LAWS
def test_weights_are_positive_and_sum_to_one(axis_map: AxisMap) -> None:
    ones = axis_map.apply(np.eye(axis_map.source, dtype=np.float32), 1, 0, 0, axis_map.target)
    assert ones.min() >= 0
    assert np.abs(ones.astype(np.float64).sum(axis=0) - 1).max() < 1e-6


@given(all_maps, st.integers(0, 70))
@LAWS
def test_ready_is_the_largest_number_of_cells_that_can_be_made(axis_map: AxisMap, stop: int) -> None:
    makeable = [n for n in range(1, axis_map.target + 1) if axis_map.support(0, n)[1] <= stop]
    assert axis_map.ready(stop) == max(makeable, default=0)


@given(all_maps)
@LAWS
def test_lag_is_enough_for_every_cell_that_is_not_ready(axis_map: AxisMap) -> None:
    for stop in range(axis_map.source):
        following = axis_map.ready(stop)
        assert axis_map.support(following, following + 1)[0] >= stop - axis_map.lag


@given(all_maps)
@LAWS
def test_centres_map_the_extent_onto_itself(axis_map: AxisMap) -> None:
    assert axis_map.centre(-0.5) == pytest.approx(-0.5)
    assert axis_map.centre(axis_map.target - 0.5) == pytest.approx(axis_map.source - 0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("target", [4, 7, 11])
def test_any_axis_can_be_resampled(axis: int, target: int) -> None:
    values = np.random.default_rng(0).random((7, 7, 7), np.float32)
    moved = AxisMap(7, target).apply(np.ascontiguousarray(np.moveaxis(values, axis, 0)), 0, 0, 0, target)
    assert np.array_equal(AxisMap(7, target).apply(values, axis, 0, 0, target), np.moveaxis(moved, 0, axis))


def test_the_result_is_never_a_view_of_what_was_given() -> None:
    values = np.ones((2, 5), np.float32)
    out = AxisMap(5, 5).apply(values, 1, 0, 0, 5)
    out[:] = 9
    assert (values == 1).all()


@pytest.mark.parametrize("target", [5, 8, 3])
def test_missing_cells_are_reported_and_not_made_up(target: int) -> None:
    axis_map = AxisMap(5, target)
    with pytest.raises(ValueError, match="are needed"):
        axis_map.apply(np.ones((1, 4), np.float32), 1, 0, 0, target)
    with pytest.raises(ValueError, match="are needed"):
        axis_map.apply(np.ones((1, 4), np.float32), 1, 1, 0, target)


def test_axes_without_cells_are_refused() -> None:
    for source, target in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="cells on both sides"):
            AxisMap(source, target)


@given(sizes, sizes)
@LAWS
def test_linear_samples_as_scipy_does_where_the_target_is_coarser_too(source: int, target: int) -> None:
    values = rows(AxisMap(source, target))
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    for rule, order in (("linear", 1), ("nearest", 0)):
        if order == 0 and (np.abs((centres + 0.5) % 1) < 1e-9).any():
            continue  # between two cells scipy's floats decide
        theirs = [map_coordinates(line.astype(float), centres[None], order=order, mode="nearest") for line in values]
        ours = AxisMap(source, target, rule).apply(values, 1, 0, 0, target)  # type: ignore[arg-type]
        assert np.allclose(ours, theirs, atol=1e-6)


@st.composite
def placed(draw: st.DrawFn) -> PlacedMap:
    part = draw(all_maps)
    start = draw(st.integers(0, 9))
    return PlacedMap(part, draw(st.integers(0, 9)), start, start + part.target + draw(st.integers(0, 9)))


@given(placed(), st.data())
@LAWS
def test_a_placed_map_is_its_part_repeated_at_the_ends(found: PlacedMap, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, found.target - 1))
    stop = data.draw(st.integers(start + 1, found.target))
    low, high = found.support(start, stop)
    inner = rows(found.part)
    source = np.concatenate([np.full((3, found.source_start), np.nan, np.float32), inner], 1)
    whole = np.pad(
        found.part.apply(inner, 1, 0, 0, found.part.target),
        ((0, 0), (found.target_start, found.target - found.target_start - found.part.target)),
        mode="edge",
    )
    assert np.array_equal(found.apply(source[:, low:high], 1, low, start, stop), whole[:, start:stop])


@given(placed(), st.integers(0, 80))
@LAWS
def test_what_a_placed_map_has_ready_can_be_made_and_its_lag_is_enough(found: PlacedMap, stop: int) -> None:
    ready = found.ready(stop)
    makeable = [n for n in range(1, found.target + 1) if found.support(0, n)[1] <= stop]
    assert ready == max(makeable, default=0)
    if ready < found.target:
        assert found.support(ready, ready + 1)[0] >= min(stop, found.source_start + found.part.source) - found.lag


def test_a_part_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        PlacedMap(AxisMap(3, 5), 0, 2, 6)
