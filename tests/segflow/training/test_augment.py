"""Augmentation against scipy and numpy, and its promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates

from segflow.training.augment import blur, change_values, draw_matrix, reach_of, resample, soften_labels
from segflow.training.sampling import Statistics, Window
from tiling.box import Box


def window(shape: tuple[int, ...], seed: int = 0) -> Window:
    rng = np.random.default_rng(seed)
    centre = tuple(n / 2 for n in shape)
    values = rng.normal(size=(2, *shape)).astype(np.float32)
    labels = rng.integers(0, 4, shape).astype(np.int16)
    return Window(0, Box.whole(shape), centre, values, np.ones(shape, np.bool_), labels)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(30, 41), (18, 15, 21)]),
    augment=st.sampled_from(["aerial", "volume"]),
)
def test_resampling_equals_scipys(seed: int, shape: tuple[int, ...], augment: Any) -> None:
    """Linear for values, nearest for labels, at the same places as scipy's map_coordinates."""
    rng = np.random.default_rng(seed)
    matrix = draw_matrix(rng, augment, len(shape), (0.9, 1.6), 1.0)
    patch = (6,) * len(shape)
    one = window(shape, seed)
    values, valid, labels = resample(one, matrix, patch)
    offsets = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in patch], indexing="ij")).reshape(len(shape), -1)
    places = matrix @ offsets + np.asarray(one.centre)[:, None] - 0.5
    for channel in range(2):
        expected = map_coordinates(one.image[channel], places, order=1, mode="mirror").reshape(patch)
        assert np.allclose(values[channel].numpy(), expected, atol=2e-3)
    clear = (np.abs((places % 1) - 0.5) > 1e-3).all(axis=0).reshape(patch)
    nearest = map_coordinates(one.labels, places, order=0, mode="mirror").reshape(patch)
    assert np.array_equal(labels[clear], nearest[clear])
    assert bool(valid.all())


def test_without_augmentation_a_patch_is_a_plain_cut() -> None:
    one = window((12, 12))
    values, _, labels = resample(one, np.eye(2), (4, 6))
    assert np.allclose(values.numpy(), one.image[:, 4:8, 3:9], atol=1e-5)
    assert np.array_equal(labels, one.labels[4:8, 3:9])


def test_coarser_patches_are_averaged_not_aliased() -> None:
    """A checkerboard seen at a third of its size is grey, not black or white."""
    board = (np.indices((90, 90)).sum(axis=0) % 2).astype(np.float32)
    one = Window(0, Box.whole((90, 90)), (45.0, 45.0), board[None], np.ones((90, 90), np.bool_), board.astype(np.int16))
    values, _, _ = resample(one, 3 * np.eye(2), (20, 20))
    assert float((values - 0.5).abs().max()) < 0.2


def test_cells_without_input_become_the_mean_and_have_no_label() -> None:
    one = window((12, 12))
    one.valid[:, :6] = False
    values, valid, labels = resample(one, np.eye(2), (8, 8))
    assert not valid[:, :4].any()
    assert (labels[:, :4] == -1).all()
    known = Statistics(np.ones(2, np.float32), np.full(2, 2, np.float32), np.zeros((2, 8), np.float32))
    changed = change_values(values, valid, known, "none", np.random.default_rng(0))
    assert not changed[:, :, :4].any()
    assert torch.allclose(changed[:, :, 4:], (values[:, :, 4:] - 1) / 2)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 10_000), augment=st.sampled_from(["aerial", "volume"]), fineness=st.sampled_from([1.0, 3.0]))
def test_zoom_stays_in_its_range(seed: int, augment: Any, fineness: float) -> None:
    matrix = draw_matrix(np.random.default_rng(seed), augment, 2, (0.8, 3.0), fineness)
    scale = float(np.sqrt(abs(np.linalg.det(matrix))))
    assert min(fineness / 3.0, 0.8) * 0.6 < scale < fineness / 0.8 * 1.6


@given(seed=st.integers(0, 10_000))
def test_reach_holds_every_corner_of_the_patch(seed: int) -> None:
    matrix = draw_matrix(np.random.default_rng(seed), "volume", 3, (0.5, 2.0), 1.0)
    patch = (8, 6, 10)
    corners = np.array(np.meshgrid(*[(-n / 2, n / 2) for n in patch])).reshape(3, -1)
    assert (np.abs(matrix @ corners).max(axis=1) <= reach_of(matrix, patch) + 1e-9).all()


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_blur_equals_scipys(sigma: float) -> None:
    values = np.random.default_rng(0).normal(size=(1, 20, 17)).astype(np.float32)
    expected = gaussian_filter(values[0], sigma, mode="nearest", truncate=max(int(3 * sigma + 0.5), 1) / sigma)
    assert np.allclose(blur(torch.from_numpy(values), sigma)[0].numpy(), expected, atol=1e-5)


def test_labels_of_a_blurred_volume_are_those_of_the_largest_share_as_scipy_has_them() -> None:
    labels = np.random.default_rng(0).integers(0, 3, (12, 10, 11)).astype(np.int64)
    shares = np.stack(
        [gaussian_filter((labels == c).astype(np.float64), 1.0, mode="nearest", truncate=3) for c in range(3)]
    )
    ordered = np.sort(shares, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5
    assert np.array_equal(soften_labels(labels, 1.0, 3)[clear], shares.argmax(0)[clear])


def test_a_thin_gap_closes_under_blur_and_ignored_cells_stay_ignored() -> None:
    labels = np.ones((9, 9, 9), np.int64)
    labels[4] = 0
    labels[:, :, 0] = -1
    soft = soften_labels(labels, 1.5, 2)
    assert (soft[:, :, 1:] == 1).all()
    assert (soft[:, :, 0] == -1).all()


def test_changes_repeat_with_their_seed_and_differ_without() -> None:
    known = Statistics(np.zeros(2, np.float32), np.ones(2, np.float32), np.ones((2, 50), np.float32))
    values = torch.rand(2, 9, 9, 9)
    valid = torch.ones(9, 9, 9, dtype=torch.bool)

    def changed(seed: int) -> torch.Tensor:
        return change_values(values, valid, known, "volume", np.random.default_rng(seed))

    assert torch.equal(changed(1), changed(1))
    assert not torch.equal(changed(1), changed(2))


def test_statistics_follow_a_change_of_contrast() -> None:
    """A scene is normalised as it would be under the curve, in a mask as tight or tighter; else means were near 80."""
    rng = np.random.default_rng(0)
    sample = rng.gamma(4.0, 20.0, (1, 4096)).astype(np.float32)
    known = Statistics(sample.mean(1), sample.std(1), sample)
    values = torch.from_numpy(np.sort(sample).reshape(1, 16, 16, 16))  # smooth, so that blurring takes nothing away
    for seed in range(12):
        changed = change_values(
            values, torch.ones(16, 16, 16, dtype=torch.bool), known, "volume", np.random.default_rng(seed)
        )
        assert -1.3 < float(changed.mean()) < 0.5
        assert 0.6 < float(changed.std()) < 3.0
