"""Labels against plain loops over cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from tiling import argmax, over, to_byte, write_regions

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
SCALE = 1000
stores = st.sampled_from((np.int32, np.int16, np.float32))


@st.composite
def sums(draw: st.DrawFn, channels: int | None = None) -> np.ndarray:
    shape = draw(npst.array_shapes(min_dims=1, max_dims=3, max_side=6))
    count = draw(st.integers(1, 5)) if channels is None else channels
    seed = draw(st.integers(0, 2**32 - 1))
    # few values, so that ties are many
    values = np.random.default_rng(seed).integers(0, draw(st.sampled_from((3, SCALE + 1))), (count, *shape))
    return values.astype(draw(stores))


@given(sums(), st.randoms(use_true_random=False))
@LAWS
def test_argmax_is_numpys_with_ties_to_the_lowest_channel(values: np.ndarray, random: np.random.Generator) -> None:
    ids = random.sample(range(65536), len(values))
    decision = argmax(values, ids)
    assert np.array_equal(decision.labels, np.array(ids)[values.argmax(axis=0)])
    assert np.array_equal(decision.confidence, values.max(axis=0))
    assert decision.labels.dtype == np.uint16
    assert decision.confidence.dtype == np.float32


@pytest.mark.parametrize("shape", [(700, 300), (3, 100, 900), (200001,), (1, 200001)])
def test_argmax_is_numpys_over_many_pieces(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 30, (5, *shape), np.int16)
    assert np.array_equal(argmax(values, range(5)).labels, values.argmax(axis=0))


@pytest.mark.parametrize("channels", [1, 2, 255, 256, 257, 300])
def test_argmax_is_numpys_for_many_classes(channels: int) -> None:
    values = np.random.default_rng(0).integers(0, 30000, (channels, 40, 50), np.int16)
    assert np.array_equal(argmax(values, range(channels)).labels, values.argmax(axis=0))


def test_argmax_reads_views_and_leaves_the_sums_alone() -> None:
    whole = np.random.default_rng(0).integers(0, 9, (4, 20, 30, 10), np.int32)
    view, before = whole[:, 3:17, :, 2:9], whole.copy()
    assert np.array_equal(argmax(view, range(4)).labels, view.argmax(axis=0))
    assert np.array_equal(whole, before)


def test_argmax_wants_one_id_a_channel() -> None:
    with pytest.raises(ValueError, match="3 channels and 2 class ids"):
        argmax(np.zeros((3, 2), np.int32), (0, 1))


@given(sums(channels=1), st.sampled_from((0.0, 0.25, 0.5, 0.9, 1.0)))
@LAWS
def test_over_takes_the_foreground_from_the_threshold_on(values: np.ndarray, threshold: float) -> None:
    decision = over(values, (7, 9), threshold, SCALE)
    for cell in np.ndindex(values.shape[1:]):
        value = float(values[(0, *cell)])
        inside = value >= threshold * SCALE
        assert decision.labels[cell] == (9 if inside else 7)
        assert decision.confidence[cell] == (value if inside else SCALE - value)
    assert decision.labels.dtype == np.uint16
    assert decision.confidence.dtype == np.float32


@given(sums(channels=3), st.permutations([(0, 4), (1, 2), (2, 2)]), st.sampled_from((0.25, 0.5, 0.9)))
@LAWS
def test_regions_are_written_one_over_the_other(
    values: np.ndarray, regions: list[tuple[int, int]], threshold: float
) -> None:
    decision = write_regions(values, regions, 1, threshold, SCALE)
    for cell in np.ndindex(values.shape[1:]):
        label, sure = 1, SCALE - max(float(values[(channel, *cell)]) for channel, _ in regions)
        for channel, identity in regions:
            if values[(channel, *cell)] >= threshold * SCALE:
                label, sure = identity, float(values[(channel, *cell)])
        assert decision.labels[cell] == label
        assert decision.confidence[cell] == sure
    assert decision.labels.dtype == np.uint16


@pytest.mark.parametrize("scale", [2**24, 32766, 32734, 1])
def test_a_byte_holds_the_whole_range_of_confidence(scale: int) -> None:
    confidence = np.array([0, scale, scale / 2, scale / 4], np.float32)
    assert to_byte(confidence, scale).tolist() == [0, 255, 128, 64]
    assert to_byte(confidence, scale).dtype == np.uint8
    many = np.random.default_rng(0).random(10000).astype(np.float32)
    expected = np.rint(many.astype(np.float64) * 255)
    assert np.abs(to_byte(many * np.float32(scale), scale) - expected).max() <= 1
    assert (to_byte(many * np.float32(scale), scale) != expected).mean() < 1e-3
