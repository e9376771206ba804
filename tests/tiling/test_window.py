"""Blend profiles against scipy's and MONAI's."""

from __future__ import annotations

import numpy as np
import pytest
from monai.data.utils import compute_importance_map
from scipy.signal import windows

from tiling import PROFILES, Profile, window


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("patch", [1, 2, 3, 7, 8, 64, 255, 512])
def test_windows_are_positive_up_to_their_edges_and_symmetric(profile: Profile, patch: int) -> None:
    weights = window(profile, patch)
    assert weights.shape == (patch,)
    assert weights.dtype == np.float64
    assert weights.min() > 0
    if profile != "nnunet":
        assert np.allclose(weights, weights[::-1], rtol=1e-12)
    assert (np.diff(weights[: (patch + 1) // 2]) >= 0).all()


@pytest.mark.parametrize("patch", [2, 5, 64, 96])
def test_gaussian_is_scipys_and_monais_before_its_floor(patch: int) -> None:
    ours = window("gaussian", patch)
    assert np.allclose(ours, windows.gaussian(patch, patch / 8), rtol=1e-12)
    theirs = compute_importance_map((patch,), mode="gaussian", sigma_scale=0.125).numpy()
    assert np.allclose(np.maximum(ours, 1e-3), theirs, rtol=1e-5)


@pytest.mark.parametrize("patch", [1, 4, 7, 128])
def test_hann_and_linear_are_scipys_sampled_at_cell_centres(patch: int) -> None:
    assert np.allclose(window("hann", patch), windows.hann(2 * patch + 1)[1::2])
    linear = window("linear", patch)
    assert np.allclose(linear / patch * 2, np.interp(np.arange(patch) + 0.5, [0, patch / 2, patch], [0, 1, 0]))
