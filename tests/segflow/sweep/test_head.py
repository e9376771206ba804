"""Probabilities of classes from blended sums, against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from segflow.models.card import LOGIT_RANGE
from segflow.sweep import Head
from tiling import to_byte

SCALE = 2**24


def sums_of(seed: int, channels: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, SCALE + 1, (channels, 5, 7)).astype(np.int32)


@given(st.integers(0, 999))
def test_a_class_has_its_channels_sum(seed: int) -> None:
    sums = sums_of(seed, 3)
    found = np.stack(list(Head(3, (4, 1, 9)).probabilities(sums, SCALE)))
    np.testing.assert_array_equal(found, sums)


@given(st.integers(0, 999))
def test_averaged_logits_become_probabilities_by_softmax(seed: int) -> None:
    sums = sums_of(seed, 4) // 8
    head = Head(4, (0, 1, 2, 3), logits=True)
    found = np.stack(list(head.probabilities(sums, SCALE)))
    np.testing.assert_allclose(found / SCALE, softmax(sums / SCALE * LOGIT_RANGE, axis=0), atol=1e-5)
    decision = head.decide(sums, SCALE)
    np.testing.assert_array_equal(
        np.stack([to_byte(values, SCALE) for values in found]).max(axis=0),
        to_byte(head.confidence(sums, decision, SCALE), SCALE),
    )


@given(st.integers(0, 999))
def test_a_single_channel_is_the_foreground_and_its_rest_the_background(seed: int) -> None:
    sums = sums_of(seed, 1)
    background, foreground = Head(1, (0, 7), threshold=0.3).probabilities(sums, SCALE)
    np.testing.assert_array_equal(foreground, sums[0])
    np.testing.assert_array_equal(background, SCALE - sums[0])


@pytest.mark.parametrize("logits", [False, True])
def test_regions_overlap_and_the_background_is_what_the_largest_leaves(logits: bool) -> None:
    sums = sums_of(3, 4)  # the last channel is no region's
    regions = ((0, 1), (1, 2), (2, 2))
    head = Head(4, (0, 1, 2, 3), threshold=0.5, regions=regions, logits=logits)
    found = np.stack(list(head.probabilities(sums, SCALE))) / SCALE
    each = expit((sums / SCALE - 0.5) * 2 * LOGIT_RANGE) if logits else sums / SCALE
    wanted = [1 - each[:3].max(axis=0), each[0], each[1:3].max(axis=0), np.zeros((5, 7))]
    np.testing.assert_allclose(found, wanted, atol=1e-5)
