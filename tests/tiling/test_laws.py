"""The laws of blending: constants stay, weights are whole, and no order, cut or blank patch changes a bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiling import Box, Lattice, Layout, NumpyBand, Store, WeightCache, patch_weight, scale_of
from tiling.strategies import lattices, layouts

LAWS = settings(max_examples=40, deadline=None, derandomize=True)
STORES: tuple[Store, ...] = ("int32", "int16")
Sums = Callable[..., Any]


def scale_for(store: Store, lattice: Lattice) -> int:
    """The scale as a run takes it; small scenes with extreme overlaps get int32's."""
    try:
        return scale_of(store, lattice.most)
    except ValueError:
        return 30000


def noise(channels: int, patch: tuple[int, ...], seed: int) -> Callable[[tuple[int, ...]], Any]:
    """A network that says something else in every patch."""
    return lambda index: np.random.default_rng((seed, *index)).random((channels, *patch), np.float32)


@given(lattices(), st.sampled_from(STORES))
@LAWS
def test_weights_are_whole_numbers_that_sum_to_the_scale_at_every_cell(lattice: Lattice, store: Store) -> None:
    scale = scale_for(store, lattice)
    extent = tuple(axis.starts[-1] + axis.patch for axis in lattice.axes)
    total = np.zeros(extent, np.int64)
    for index in product(*map(range, lattice.counts)):
        weight = patch_weight(lattice, index, scale)
        assert weight.dtype == np.float32
        assert weight.shape == lattice.patch
        assert weight.min() >= 0
        assert (weight == np.rint(weight)).all()
        total[lattice.box(index).slices] += weight.astype(np.int64)
    assert (total == scale).all()


@given(lattices())
@LAWS
def test_cached_weights_are_the_weights(lattice: Lattice) -> None:
    cache = WeightCache(lattice, 2**24)
    for index in product(*map(range, lattice.counts)):
        assert np.array_equal(cache[index], patch_weight(lattice, index, 2**24))


def test_a_cache_that_is_too_small_still_gives_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiling.weights._CACHE_BYTES", 1)
    lattice = Lattice.of((20, 20), (8, 8), (4, 4))
    cache = WeightCache(lattice, 1000)
    for index in [*product(range(4), range(4)), (0, 0), (3, 3), (1, 2)]:
        assert np.array_equal(cache[index], patch_weight(lattice, index, 1000))
    assert len(cache._kept) == 1


@given(lattices(), st.sampled_from(STORES), st.sampled_from((0.0, 1.0)))
@LAWS
def test_constant_0_and_1_come_out_exactly(whole: Sums, lattice: Lattice, store: Store, value: float) -> None:
    scale = scale_for(store, lattice)
    sums = whole(lattice, lambda _: np.full((1, *lattice.patch), value, np.float32), 1, scale, store)
    assert (sums == value * scale).all()


@given(lattices(), st.sampled_from(STORES), st.floats(0, 1, width=32))
@LAWS
def test_constants_come_out_within_the_roundings(whole: Sums, lattice: Lattice, store: Store, value: float) -> None:
    scale = scale_for(store, lattice)
    sums = whole(lattice, lambda _: np.full((1, *lattice.patch), value, np.float32), 1, scale, store)
    # half a unit for each rounding to a whole number, and what float32 products lack: one unit in all at 2**24
    bound = (lattice.most + 1) / (2 * scale)
    assert np.abs(sums / scale - value).max() <= bound


@given(lattices(), st.randoms(use_true_random=False), st.integers(0, 99), st.sampled_from(STORES))
@LAWS
def test_sums_do_not_depend_on_the_order_of_patches(
    whole: Sums, lattice: Lattice, random: Any, seed: int, store: Store
) -> None:
    scale = scale_for(store, lattice)
    order = list(product(*map(range, lattice.counts)))
    network = noise(2, lattice.patch, seed)
    expected = whole(lattice, network, 2, scale, store, order)
    random.shuffle(order)
    assert np.array_equal(whole(lattice, network, 2, scale, store, order), expected)


@given(layouts(resampled=False), st.integers(0, 99), st.sampled_from(STORES), st.integers(0, 3))
@settings(LAWS, max_examples=80)
def test_sums_do_not_depend_on_blocks_bands_or_the_swept_axis(
    whole: Sums, swept: Sums, layout: Layout, seed: int, store: Store, slack: int
) -> None:
    scale = scale_for(store, layout.lattice)
    network = noise(2, layout.lattice.patch, seed)
    expected = whole(layout.lattice, network, 2, scale, store)[(slice(None), *layout.region.slices)]
    assert np.array_equal(swept(layout, network, 2, scale, store, slack), expected)


@given(layouts(resampled=False), st.integers(0, 2**32 - 1), st.floats(0, 1))
@settings(LAWS, max_examples=80)
def test_blank_patches_that_are_not_run_take_no_weight_from_valid_cells(
    whole: Sums, swept: Sums, layout: Layout, seed: int, share: float
) -> None:
    lattice = layout.lattice
    random = np.random.default_rng(seed)
    valid = random.random(lattice.shape) < share
    for _ in range(random.integers(0, 4)):
        start = [int(random.integers(0, n)) for n in lattice.shape]
        valid[tuple(slice(a, a + p) for a, p in zip(start, lattice.patch, strict=True))] = False

    def network(index: tuple[int, ...]) -> Any:
        inside = lattice.box(index).intersect(Box.whole(lattice.shape))
        assert inside is not None
        return np.ones((1, *lattice.patch), np.float32) if valid[inside.slices].any() else None

    everything = whole(lattice, network, 1, 2**24)
    assert (everything[0][valid] == 2**24).all()
    here = layout.region.slices
    assert (swept(layout, network, 1, 2**24)[0][valid[here]] == 2**24).all()


@given(lattices(), st.integers(0, 99))
@LAWS
def test_int16_never_overflows_where_patches_are_sure(whole: Sums, lattice: Lattice, seed: int) -> None:
    scale = scale_for("int16", lattice)
    assert scale <= 32767

    def sure(index: tuple[int, ...]) -> Any:
        one_hot = np.zeros((3, *lattice.patch), np.float32)
        one_hot[np.random.default_rng((seed, *index)).integers(3)] = np.float32(1 + 5e-5)
        return one_hot

    sums = whole(lattice, sure, 3, scale, "int16")
    assert sums.min() >= 0
    assert sums.max() <= scale
    assert (sums.sum(axis=0) == scale).all()


def test_two_halves_of_a_sure_pixel_do_not_wrap_around() -> None:
    lattice = Lattice.of((4,), (2,), (1,), "constant")
    band = NumpyBand(1, Box.whole((4,)), 0, 4, "int16")
    for k in range(3):
        band.add(np.ones((1, 2), np.float32), patch_weight(lattice, (k,), scale_of("int16", 2)), lattice.box((k,)))
    assert (band.sums(0, 4) == 32766).all()


def test_scale_leaves_room_for_all_roundings_and_refuses_where_they_would_show() -> None:
    assert scale_of("int32", 1) == scale_of("int32", 33554) == 2**24
    assert scale_of("int16", 1) == 32766
    assert scale_of("int16", 4) == 32765
    assert scale_of("int16", 65) == 32734
    with pytest.raises(ValueError, match="use accumulator: int32"):
        scale_of("int16", 66)
    with pytest.raises(ValueError, match="less overlap"):
        scale_of("int32", 33555)


@given(lattices(), st.integers(0, 99))
@LAWS
def test_sums_are_those_of_a_float64_blend(whole: Sums, lattice: Lattice, seed: int) -> None:
    network = noise(3, lattice.patch, seed)
    expected = float_blend(lattice, network, 3)
    for store in STORES:
        scale = scale_for(store, lattice)
        error = np.abs(whole(lattice, network, 3, scale, store) / scale - expected).max()
        # for every patch a weight and a product are rounded, and a running sum on every axis
        running = lattice.ndim * 2.0 ** -(60 // lattice.ndim)
        assert error <= lattice.most * (1.5 / scale + running) + 1e-7


@pytest.mark.parametrize("profile", ["gaussian", "hann", "linear", "constant", "crop"])
@pytest.mark.parametrize(("shape", "patch"), [((300, 300), (64, 64)), ((50, 40, 45), (24, 20, 16))])
def test_integer_sums_change_hardly_an_argmax_even_of_noise(
    whole: Sums, profile: Any, shape: tuple[int, ...], patch: tuple[int, ...]
) -> None:
    lattice = Lattice.of(shape, patch, [n // 2 for n in patch], profile)
    network = noise(6, patch, 1)
    expected = float_blend(lattice, network, 6).argmax(axis=0)
    for store, most in (("int32", 1e-5), ("int16", 2e-4)):
        labels = whole(lattice, network, 6, scale_of(store, lattice.most), store).argmax(axis=0)  # type: ignore[arg-type]
        assert (labels != expected).mean() <= most


def float_blend(lattice: Lattice, network: Callable[[tuple[int, ...]], Any], channels: int) -> Any:
    """A whole-array blend in float64 that divides by a map of weights, as everybody does; written for this test."""
    extent = [axis.starts[-1] + axis.patch for axis in lattice.axes]
    sums, weights = np.zeros((channels, *extent)), np.zeros(extent)
    for index in product(*map(range, lattice.counts)):
        weight = np.ones(())
        for axis, k in zip(lattice.axes, index, strict=True):
            t = (np.arange(axis.patch) + 0.5) / axis.patch
            one = {
                "gaussian": np.exp(-((t - 0.5) ** 2) * 32),
                "hann": 0.5 - 0.5 * np.cos(2 * np.pi * t),
                "linear": 0.5 - np.abs(t - 0.5),
                "nnunet": np.exp(-((np.arange(axis.patch) - axis.patch // 2) ** 2) * 32 / axis.patch**2),
            }.get(axis.profile, np.ones(axis.patch))
            if axis.profile == "crop":
                one = one.copy()
                one[: axis.margin if k > 0 else 0] = 0
                one[axis.patch - (axis.margin if k < len(axis.starts) - 1 else 0) :] = 0
            weight = weight[..., None] * one
        here = tuple(
            slice(axis.starts[k], axis.starts[k] + axis.patch) for axis, k in zip(lattice.axes, index, strict=True)
        )
        sums[(slice(None), *here)] += network(index).astype(np.float64) * weight
        weights[here] += weight
    return (sums / weights)[(slice(None), *(slice(0, n) for n in lattice.shape))]
