"""Prepared volumes against nnU-Net's own preprocessor, and against its resampling."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nnunetv2.preprocessing.normalization import default_normalization_schemes as theirs
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.io.prepared import PreparedVolume
from segflow.io.settling import settle
from segflow.io.source import PreparedSource
from segflow.io.zoom import zoom_volume
from segflow.models.card import ChannelScheme, Preparation
from tiling import Box

FACTS = {"mean": 90.0, "std": 40.0, "percentile_00_5": 12.0, "percentile_99_5": 170.0}
CT = ChannelScheme(scheme="fixed", lower=12.0, upper=170.0, mean=90.0, deviation=40.0)
PAIRS = {
    "ZScoreNormalization": ChannelScheme(scheme="zscore"),
    "masked": ChannelScheme(scheme="zscore", masked=True),
    "CTNormalization": CT,
    "NoNormalization": ChannelScheme(scheme="fixed"),
    "RescaleTo01Normalization": ChannelScheme(scheme="rescale"),
    "RGBTo01Normalization": ChannelScheme(scheme="fixed", deviation=255.0),
}


def head_in_air(shape: tuple[int, ...] = (17, 30, 26), channels: int = 2) -> NDArray[np.float32]:
    """Two channels of a noisy body with a hole, in an uneven margin of zeros."""
    random = np.random.default_rng(4)
    values = random.uniform(5, 250, (channels, *shape)).astype(np.float32)
    body = np.zeros(shape, bool)
    body[3:-2, 6:-3, 1:-5] = True
    body[8, 14:17, 12:14] = False
    body[4, 6, 1:4] = False  # at the border: not enclosed
    values[:, ~body] = 0
    return values


def source_of(values: NDArray[Any], spacing: tuple[float, float, float]) -> ArraySource:
    shape = values.shape[1:]
    affine = tuple(float(v) for v in np.hstack([np.diag(spacing), np.zeros((3, 1))]).ravel())
    return ArraySource(values, Grid("volume", shape, affine=affine, spacing=spacing))


def their_preprocessing(
    values: NDArray[np.float32], spacing: tuple[float, ...], target: tuple[float, ...], names: list[str]
) -> NDArray[np.float32]:
    """What nnU-Net's preprocessor makes of an array, by its own code."""
    resample = lambda data, shape, old, new: resample_data_or_seg_to_shape(  # noqa: E731
        data, shape, old, new, is_seg=False, order=3, order_z=0, force_separate_z=None
    )
    configuration = SimpleNamespace(
        spacing=list(target),
        normalization_schemes=[name if name != "masked" else "ZScoreNormalization" for name in names],
        use_mask_for_norm=[name == "masked" for name in names],
        resampling_fn_data=resample,
        resampling_fn_seg=resample,
    )
    plans = SimpleNamespace(
        transpose_forward=[0, 1, 2],
        foreground_intensity_properties_per_channel={str(k): FACTS for k in range(len(names))},
    )
    made, _, _ = DefaultPreprocessor(verbose=False).run_case_npy(
        values, None, {"spacing": list(spacing)}, plans, configuration, {}
    )
    found: NDArray[np.float32] = made
    return found


@pytest.mark.parametrize("spacings", [((1.0, 1.0, 1.0),) * 2, ((2.1, 1.3, 0.9), (1.2, 1.2, 1.1)),
                                      ((4.0, 1.0, 0.9), (3.1, 0.8, 1.0)), ((1.1, 0.9, 4.2), (1.0, 1.2, 5.0)),
                                      ((1.0, 1.0, 1.0), (1.0, 4.0, 0.9))])  # fmt: skip
@pytest.mark.parametrize("names", [["ZScoreNormalization", "masked"], ["CTNormalization", "NoNormalization"],
                                   ["RescaleTo01Normalization", "RGBTo01Normalization"]])  # fmt: skip
def test_the_prepared_volume_is_nnunets(spacings: tuple[tuple[float, float, float], ...], names: list[str]) -> None:
    values = head_in_air()
    wanted = their_preprocessing(values, *spacings, names)
    source = source_of(values, spacings[0])
    rule = Preparation(schemes=tuple(PAIRS[name] for name in names))
    settled = settle(source, rule, spacings[1], (1, 1, 1))
    assert settled.shape == wanted.shape[1:]
    assert settled.padded == settled.shape
    seen = PreparedVolume(source, settled)
    found = seen.read_model(Box.whole(settled.shape))
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, atol=2e-5 * scale)
    part = Box((1, 3, 2), tuple(n - 1 for n in settled.shape))
    np.testing.assert_array_equal(seen.read_model(part), found[(slice(None), *part.slices)])
    seen.close()


@given(
    st.tuples(*[st.integers(2, 9)] * 3),
    st.tuples(*[st.integers(1, 12)] * 3),
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([1, 3]),
)
@settings(max_examples=40, deadline=None)
def test_splines_axis_by_axis_are_nnunets_resampling(
    shape: tuple[int, ...], target: tuple[int, ...], apart: int | None, order: int
) -> None:
    values = np.random.default_rng(0).normal(0, 50, shape).astype(np.float32)
    new = [1.0, 1.0, 1.0]
    if apart is not None:
        new[apart] = 9.0
    wanted = resample_data_or_seg_to_shape(
        values[None], target, [1.0, 1.0, 1.0], new, is_seg=False, order=order, order_z=1, force_separate_z=None
    )[0]
    found = zoom_volume(values.copy(), target, order, apart, 1)
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_what_is_smaller_than_a_patch_lies_in_the_middle_of_zeros() -> None:
    source = source_of(head_in_air(channels=1) + 1, (1.0, 1.0, 1.0))
    settled = settle(source, Preparation(schemes=(ChannelScheme(scheme="fixed"),)), None, (24, 30, 31))
    assert settled.padded == (24, 30, 31)
    seen = PreparedVolume(source, settled)
    assert isinstance(seen, PreparedSource)
    found = seen.read_model(Box.whole(settled.padded))
    np.testing.assert_array_equal(found[:, 3:20, :, 2:28], head_in_air(channels=1) + 1)
    assert not found[:, :3].any()
    assert not found[:, 20:].any()
    assert not found[..., :2].any()
    assert not found[..., 28:].any()
    seen.close()


def test_workers_share_one_prepared_file_and_other_settings_have_another(tmp_path: Path) -> None:
    source = source_of(head_in_air(), (1.0, 1.0, 1.0))
    rule = Preparation(schemes=(ChannelScheme(scheme="zscore"), CT))
    settled = settle(source, rule, (2.0, 2.0, 2.0), (4, 4, 4))
    for _ in range(2):
        PreparedVolume(source, settled, str(tmp_path)).read_model(Box((0, 0, 0), (1, 1, 1)))
    assert len(list(tmp_path.iterdir())) == 1
    finer = settle(source, rule, (0.7, 2.0, 2.0), (4, 4, 4))
    one, two = PreparedVolume(source, settled), PreparedVolume(source, finer, str(tmp_path))
    assert one.identity() != two.identity() != source.identity()
    two.read_model(Box((0, 0, 0), (1, 1, 1)))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_volume_of_zeros_and_one_with_nan_are_refused() -> None:
    rule = Preparation(schemes=(CT,))
    with pytest.raises(InputError, match="0 everywhere"):
        settle(source_of(np.zeros((1, 4, 4, 4)), (1.0, 1.0, 1.0)), rule, None, (4, 4, 4))
    values = np.ones((1, 4, 4, 4))
    values[0, 2, 1, 3] = np.nan
    with pytest.raises(InputError, match=r"NaN or infinity, first at voxel \(2, 1, 3\)"):
        settle(source_of(values, (1.0, 1.0, 1.0)), rule, None, (4, 4, 4))


def test_their_schemes_are_all_known() -> None:
    known = {name for name in vars(theirs) if name.endswith("Normalization") and name != "ImageNormalization"}
    assert known == set(PAIRS) - {"masked"}
