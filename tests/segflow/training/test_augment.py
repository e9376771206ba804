"""Augmentation against scipy and numpy, and its promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.ndimage import affine_transform, center_of_mass, gaussian_filter, map_coordinates

from segflow.recipe import Augment, Train
from segflow.recipe.augment import PRESETS
from segflow.training.augment import Warp, blur, change_values, draw_blur, draw_warp, resample, soften_labels
from segflow.training.augment.place import draw_displacement
from segflow.training.labelled import IGNORED
from segflow.training.sampling import Window
from segflow.training.statistics import Statistics
from tiling.box import Box

ELASTIC = Augment(elastic=2.0, elastic_spacing=8.0, elastic_chance=1.0)
FILL = np.zeros(2, np.float32)


def window(shape: tuple[int, ...], seed: int = 0, centre: tuple[float, ...] | None = None) -> Window:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(2, *shape)).astype(np.float32)
    labels = rng.integers(0, 4, shape).astype(np.int16)
    middle = centre or tuple(n / 2 for n in shape)
    return Window(0, Box.whole(shape), middle, values, np.ones(shape, np.bool_), labels)


def offsets(warp: Warp) -> NDArray[np.float64]:
    """Offsets (axis, cell) of a patch's cells from its centre, moved as a warp says."""
    lines = [np.arange(n) - (n - 1) / 2 for n in warp.patch]
    plain = np.stack(np.meshgrid(*lines, indexing="ij")).reshape(len(warp.patch), -1)
    return plain if warp.moved is None else plain + warp.moved.reshape(plain.shape)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(30, 41), (18, 15, 21)]),
    augment=st.sampled_from([Augment(preset="aerial"), Augment(preset="volume"), Augment(preset="street"), ELASTIC]),
)
def test_resampling_equals_scipys(seed: int, shape: tuple[int, ...], augment: Augment) -> None:
    """Linear for values, nearest for labels, at the same places as scipy's map_coordinates, also beyond the border."""
    rng = np.random.default_rng(seed)
    warp = draw_warp(rng, augment, (6,) * len(shape), (0.9, 1.6), 1.0)
    one = window(shape, seed, tuple(float(rng.uniform(1, n - 1)) for n in shape))
    values, valid, labels = resample(one, warp, FILL)
    if warp.exact:
        return
    places = warp.matrix @ offsets(warp) + np.asarray(one.centre)[:, None] - 0.5
    for channel in range(2):
        expected = map_coordinates(one.image[channel], places, order=1, mode="reflect").reshape(warp.patch)
        assert np.allclose(values[channel].numpy(), expected, atol=2e-3)
    clear = (np.abs((places % 1) - 0.5) > 1e-3).all(axis=0).reshape(warp.patch)
    nearest = map_coordinates(one.labels, places, order=0, mode="reflect").reshape(warp.patch)
    assert np.array_equal(labels[clear], nearest[clear])
    assert bool(valid.all())


def test_a_linear_map_equals_scipys_affine_transform_of_a_smooth_image() -> None:
    axes = np.meshgrid(np.arange(80), np.arange(90), indexing="ij")
    smooth = (np.sin(axes[0] / 9) + np.cos(axes[1] / 7)).astype(np.float32)
    one = Window(
        0, Box.whole((80, 90)), (41.3, 44.8), smooth[None], np.ones((80, 90), np.bool_), np.zeros((80, 90), "i2")
    )
    warp = draw_warp(np.random.default_rng(1), Augment(rotate=40, shear=0.1), (32, 24), (1.0, 1.0), 1.0)
    start = np.asarray(one.centre) - 0.5 - warp.matrix @ ((np.asarray(warp.patch) - 1) / 2)
    expected = affine_transform(smooth, warp.matrix, start, warp.patch, order=3)
    assert np.allclose(resample(one, warp, FILL[:1])[0][0].numpy(), expected, atol=0.02)


@pytest.mark.parametrize("shape", [(12, 13), (8, 9, 10)])
def test_without_augmentation_a_patch_is_the_cells_themselves(shape: tuple[int, ...]) -> None:
    one = window(shape)
    warp = draw_warp(np.random.default_rng(0), Augment(), (4,) * len(shape), (1.0, 1.0), 1.0)
    values, valid, labels = resample(one, warp, FILL)
    cut = tuple(slice(round(c - 2), round(c - 2) + 4) for c in one.centre)
    assert np.array_equal(values.numpy(), one.image[(slice(None), *cut)])
    assert np.array_equal(labels, one.labels[cut])
    assert bool(valid.all())
    known = Statistics(FILL, FILL + 1, np.zeros((2, 8), np.float32))
    assert torch.equal(change_values(values, valid, known, Augment(), np.random.default_rng(0)), values)


@pytest.mark.parametrize(
    ("matrix", "same"),
    [
        ([[1, 0], [0, -1]], lambda a: a[..., ::-1]),
        ([[-1, 0], [0, 1]], lambda a: a[..., ::-1, :]),
        ([[0, -1], [1, 0]], lambda a: np.rot90(a, -1, (-2, -1))),
        ([[0, 1], [1, 0]], lambda a: np.swapaxes(a, -1, -2)),
    ],
)
def test_a_flip_is_exactly_a_flip_and_a_turn_a_turn(matrix: Any, same: Any) -> None:
    one = window((10, 10))
    warp = Warp(np.array(matrix, np.float64), (6, 6))
    assert warp.exact
    values, _, labels = resample(one, warp, FILL)
    assert np.array_equal(values.numpy(), same(one.image[:, 2:8, 2:8]))
    assert np.array_equal(labels, same(one.labels[2:8, 2:8]))


@settings(max_examples=80)
@given(seed=st.integers(0, 10_000), shape=st.sampled_from([(11, 14), (7, 9, 8)]))
def test_taking_whole_cells_is_the_limit_of_interpolating(seed: int, shape: tuple[int, ...]) -> None:
    """The short cut and the interpolation agree, also turned by right angles, mirrored, and beyond the border."""
    rng = np.random.default_rng(seed)
    augment = Augment(flips=(True,) * len(shape), quarter_turns=True)
    patch = tuple(int(n) for n in rng.integers(2, 13, len(shape)))
    warp = draw_warp(rng, augment, patch, (1.0, 1.0), 1.0)
    centre = tuple(round(float(rng.uniform(0, n)) - half) + half for n, half in zip(shape, warp.reach, strict=True))
    one = window(shape, seed, centre)
    values, valid, labels = resample(one, warp, FILL)
    slanted = Warp(warp.matrix * (1 + 1e-9), patch)
    assert warp.exact
    assert not slanted.exact
    values2, valid2, labels2 = resample(one, slanted, FILL)
    assert torch.allclose(values, values2, atol=1e-4)
    assert torch.equal(valid, valid2)
    assert np.array_equal(labels, labels2)


def test_the_eight_symmetries_of_a_square_come_equally_often() -> None:
    rng = np.random.default_rng(0)
    augment = Augment(flips=(True, True), quarter_turns=True)
    seen = [draw_warp(rng, augment, (4, 4), (1.0, 1.0), 1.0).matrix.round().astype(int).tobytes() for _ in range(1600)]
    counts = np.unique(seen, return_counts=True)[1]
    assert len(counts) == 8
    assert np.abs(counts - 200).max() < 60


def test_quarter_turns_alone_never_mirror() -> None:
    rng = np.random.default_rng(0)
    for axes, turns in ((2, 4), (3, 24)):
        found = [draw_warp(rng, Augment(quarter_turns=True), (4,) * axes, (1.0, 1.0), 1.0).matrix for _ in range(400)]
        assert all(np.linalg.det(matrix) == pytest.approx(1) for matrix in found)
        assert len({matrix.round().astype(int).tobytes() for matrix in found}) == turns


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    axes=st.sampled_from([2, 3]),
    augment=st.sampled_from([Augment(preset="aerial"), Augment(preset="volume"), ELASTIC]),
)
def test_labels_go_where_the_image_goes(seed: int, axes: int, augment: Augment) -> None:
    """A ball's centre of mass is the same in the image and in the labels, whatever the map."""
    shape, patch = (60,) * axes, (32,) * axes
    ball = sum((g - 30.5) ** 2 for g in np.meshgrid(*[np.arange(60)] * axes, indexing="ij")) < 81
    one = Window(
        0, Box.whole(shape), (30.0,) * axes, ball[None].astype(np.float32), np.ones(shape, np.bool_), ball.astype("i2")
    )
    warp = draw_warp(np.random.default_rng(seed), augment, patch, (0.9, 1.2), 1.0)
    values, _, labels = resample(one, warp, FILL[:1])
    assert np.allclose(center_of_mass(values[0].numpy()), center_of_mass(labels == 1), atol=0.4)
    agree = (values[0].numpy() > 0.5) == (labels == 1)
    assert agree[np.abs(values[0].numpy() - 0.5) > 0.499].all()


def test_coarser_patches_are_averaged_not_aliased() -> None:
    """A checkerboard seen at a third of its size is grey, not black or white."""
    board = (np.indices((90, 90)).sum(axis=0) % 2).astype(np.float32)
    one = Window(0, Box.whole((90, 90)), (45.0, 45.0), board[None], np.ones((90, 90), np.bool_), board.astype(np.int16))
    values, _, _ = resample(one, Warp(3 * np.eye(2), (20, 20)), FILL[:1])
    assert float((values - 0.5).abs().max()) < 0.2


def test_an_axis_that_alone_is_coarser_is_averaged_alone() -> None:
    stripes = np.tile(np.arange(60) % 2, (60, 1)).astype(np.float32)
    one = Window(0, Box.whole((60, 60)), (30.0, 30.0), stripes[None], np.ones((60, 60), np.bool_), stripes.astype("i2"))
    across, _, _ = resample(one, Warp(np.diag([1.0, 2.0]), (10, 10)), FILL[:1])
    along, _, _ = resample(one, Warp(np.diag([2.0, 1.0]), (10, 10)), FILL[:1])
    assert torch.allclose(across, torch.tensor(0.5))
    assert float((along - along.round()).abs().max()) < 1e-4


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    axes=st.sampled_from([2, 3]),
    preset=st.sampled_from(["none", "aerial", "volume", "street"]),
    nodata=st.sampled_from([-9999.0, float("nan"), float("inf")]),
)
def test_cells_without_input_are_0_and_ignored_and_do_not_reach_others(
    seed: int, axes: int, preset: Any, nodata: float
) -> None:
    """Whatever a file holds where it is not valid: neither interpolation, averaging nor blur may let it through."""
    rng = np.random.default_rng(seed)
    shape = (24,) * axes
    one = window(shape, seed)
    one.valid[rng.random(shape) < 0.2] = False
    one.labels[~one.valid] = IGNORED
    one.image[:, ~one.valid] = nodata
    augment = Augment(preset=preset, blur=(1.0, 2.0), blur_chance=1.0, elastic=1.0, elastic_spacing=6.0, drop_band=0.2)
    warp = draw_warp(rng, augment, (10,) * axes, (0.5, 2.0), 1.0)
    known = Statistics(FILL, FILL + 1, rng.normal(size=(2, 64)).astype(np.float32))
    values, valid, labels = resample(one, warp, known.mean)
    changed = change_values(values, valid, known, augment, rng, draw_blur(rng, augment))
    assert changed.dtype == torch.float32
    assert type(changed) is torch.Tensor
    assert torch.isfinite(changed).all()
    assert changed.abs().max() < 100
    assert not changed[:, ~valid].any()
    assert (labels[~valid.numpy()] == IGNORED).all()
    assert ((labels >= 0) == valid.numpy()).all()
    assert (soften_labels(labels, 1.0, 4)[~valid.numpy()] == IGNORED).all()


@settings(max_examples=50)
@given(seed=st.integers(0, 10_000), preset=st.sampled_from(["aerial", "volume"]), fineness=st.sampled_from([1.0, 3.0]))
def test_zoom_stays_in_its_range(seed: int, preset: Any, fineness: float) -> None:
    warp = draw_warp(np.random.default_rng(seed), Augment(preset=preset), (8, 8), (0.8, 3.0), fineness)
    scale = float(np.sqrt(abs(np.linalg.det(warp.matrix))))
    assert min(fineness / 3.0, 0.8) * 0.6 < scale < fineness / 0.8 * 1.6


@given(seed=st.integers(0, 10_000), augment=st.sampled_from([Augment(preset="volume"), ELASTIC]))
def test_reach_holds_every_cell_of_the_patch(seed: int, augment: Augment) -> None:
    warp = draw_warp(np.random.default_rng(seed), augment, (8, 6, 10), (0.5, 2.0), 1.0)
    assert (np.abs(warp.matrix @ offsets(warp)).max(axis=1) <= warp.reach + 1e-6).all()
    if warp.moved is None:
        corners = np.array(np.meshgrid(*[(-n / 2, n / 2) for n in warp.patch])).reshape(3, -1)
        assert np.allclose(np.abs(warp.matrix @ corners).max(axis=1), warp.reach)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    patch=st.sampled_from([(40, 33), (20, 25, 18)]),
    deviation=st.sampled_from([1.0, 4.0, 50.0]),
)
def test_a_displacement_is_smooth_and_never_folds(seed: int, patch: tuple[int, ...], deviation: float) -> None:
    """The determinant of its Jacobian stays above 0, however large a deviation is asked for."""
    field = draw_displacement(np.random.default_rng(seed), patch, deviation, 12.0).astype(np.float64)
    gradients = np.stack([np.stack(np.gradient(component)) for component in field])
    jacobian = np.moveaxis(gradients, (0, 1), (-2, -1)) + np.eye(len(patch))
    assert (np.linalg.det(jacobian) > 0).all()
    assert np.abs(np.diff(gradients, axis=-1)).max() < 0.2  # no kinks: the slope changes by little from cell to cell


@pytest.mark.parametrize("patch", [(256, 256), (64, 64, 64)])
def test_a_displacement_has_the_deviation_that_is_asked_for(patch: tuple[int, ...]) -> None:
    fields = [draw_displacement(np.random.default_rng(seed), patch, 1.5, 32.0) for seed in range(10)]
    assert np.std(fields) == pytest.approx(1.5, rel=0.15)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.0])
def test_blur_equals_monais_but_at_the_edges(sigma: float) -> None:
    from monai.networks.layers.convutils import gaussian_1d
    from monai.networks.layers.simplelayers import separable_filtering

    values = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 20, 17)).astype(np.float32))
    taps = gaussian_1d(torch.tensor(sigma), 3.0, "sampled", normalize=True)
    expected = separable_filtering(values[None], [taps, taps], mode="replicate")[0]
    assert np.allclose(blur(values.numpy(), sigma), expected.numpy(), atol=1e-5)


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


def changed(augment: Augment, seed: int = 0, values: torch.Tensor | None = None) -> torch.Tensor:
    given_values = torch.rand(3, 9, 9, generator=torch.Generator().manual_seed(1)) if values is None else values
    valid = torch.ones(given_values.shape[1:], dtype=torch.bool)
    ones = np.ones(len(given_values), np.float32)
    flat = Statistics(0 * ones, ones, np.ones((len(ones), 50), np.float32))
    return change_values(given_values.clone(), valid, flat, augment, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "augment",
    [
        Augment(preset="aerial", noise_chance=1.0),
        Augment(preset="volume", noise_chance=1.0),
        Augment(preset="street", noise_chance=1.0, drop_band=0.5, band_noise=0.1),
    ],
)
def test_changes_repeat_with_their_seed_and_differ_without(augment: Augment) -> None:
    assert torch.equal(changed(augment, 1), changed(augment, 1))
    assert not torch.equal(changed(augment, 1), changed(augment, 2))


def test_band_noise_is_a_gain_and_an_offset_for_each_band() -> None:
    values = torch.rand(3, 9, 9)
    result = changed(Augment(band_noise=0.2), 3, values)
    fits = [np.polyfit(before.flatten(), after.flatten(), 1) for before, after in zip(values, result, strict=True)]
    for (gain, offset), before, after in zip(fits, values, result, strict=True):
        assert np.allclose(after, gain * before + offset, atol=1e-5)
    assert len({round(float(gain), 4) for gain, _ in fits}) == 3


def test_intensity_is_one_gain_and_one_offset_for_all() -> None:
    values = torch.rand(3, 9, 9)
    result = changed(Augment(intensity=0.2), 3, values)
    gain, offset = np.polyfit(values.flatten(), result.flatten(), 1)
    assert np.allclose(result, gain * values + offset, atol=1e-5)


def test_one_band_is_dropped_as_often_as_asked_and_never_the_only_one() -> None:
    results = [changed(Augment(drop_band=0.3), seed) for seed in range(300)]
    empty = [[not bool(band.any()) for band in result] for result in results]
    assert all(sum(bands) <= 1 for bands in empty)
    assert 60 < sum(sum(bands) for bands in empty) < 120
    assert changed(Augment(drop_band=1.0), values=torch.rand(1, 9, 9)).any()


def test_noise_has_at_most_the_deviation_that_is_asked_for() -> None:
    augment = Augment(noise=0.5, noise_chance=1.0)
    found = [float(changed(augment, seed, torch.zeros(3, 40, 40)).std()) for seed in range(40)]
    assert 0.4 < max(found) < 0.52
    assert np.mean(found) == pytest.approx(0.25, abs=0.06)


def test_a_bias_field_is_smooth_and_of_its_strength() -> None:
    augment = Augment(bias_field=0.15)
    fields = [changed(augment, seed, torch.ones(3, 32, 32)).log() for seed in range(30)]
    assert max(float(field.std()) for field in fields) < 0.3
    assert max(float(field.diff(dim=-1).abs().max()) for field in fields) < 0.05


def test_statistics_follow_a_change_of_contrast() -> None:
    """A scene is normalised as it would be under the curve, in a mask as tight or tighter; else means were near 80."""
    rng = np.random.default_rng(0)
    for low in (0.0, -400.0):
        sample = rng.gamma(4.0, 20.0, (1, 4096)).astype(np.float32) + np.float32(low)
        known = Statistics(sample.mean(1), sample.std(1), sample)
        values = torch.from_numpy(np.sort(sample).reshape(1, 16, 16, 16))  # smooth: blurring takes nothing away
        everywhere = torch.ones(16, 16, 16, dtype=torch.bool)
        for seed in range(12):
            result = change_values(values, everywhere, known, Augment(preset="volume"), np.random.default_rng(seed))
            assert -1.3 < float(result.mean()) < 0.5
            assert 0.6 < float(result.std()) < 3.0


@pytest.mark.parametrize("preset", ["aerial", "volume", "street"])
def test_a_preset_is_what_its_keys_are_and_any_key_may_be_laid_over_it(preset: Any) -> None:
    made = Augment(preset=preset)
    assert {key: getattr(made, key) for key in PRESETS[preset]} == PRESETS[preset]
    other = Augment(preset=preset, noise=0.7)
    assert other == made.model_copy(update={"noise": 0.7})


def test_the_presets_that_models_were_trained_with_keep_their_strength() -> None:
    aerial, volume = Augment(preset="aerial"), Augment(preset="volume")
    assert (aerial.rotate, aerial.rotate_chance, aerial.stretch, aerial.colour) == (45.0, 0.5, 0.05, 1.0)
    assert (aerial.blur, aerial.blur_chance, aerial.noise, aerial.intensity) == ((0.3, 1.2), 0.3, 0.2, 0.05)
    assert (volume.rotate, volume.stretch, volume.shear, volume.bias_field) == (15.0, 0.06, 0.04, 0.15)
    assert (volume.blur, volume.blur_chance, volume.noise, volume.intensity) == ((0.4, 3.0), 0.6, 0.2, 0.05)


@pytest.mark.parametrize(
    "keys", [{"blur": [2.0, 1.0]}, {"blur": [0.0, 0.01]}, {"drop_band": 1.5}, {"elastic_spacing": 0}, {"wobble": 1}]
)
def test_what_cannot_be_meant_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Augment(**keys)


def test_a_preset_for_another_number_of_axes_is_refused() -> None:
    classes = [{"id": i, "name": f"class {i}", "colour": "#000000"} for i in range(2)]
    train = {"name": "x", "classes": classes, "channels": ["t1"], "patch": [8, 8, 8], "augment": "aerial"}
    with pytest.raises(ValidationError, match=r"flips is for 2 axes.*take the preset volume"):
        Train.model_validate(train)
