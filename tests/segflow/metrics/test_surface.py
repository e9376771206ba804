"""Distances between surfaces: those of MONAI to the last digit, DeepMind's within a cell, and their laws."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import (
    compute_average_surface_distance,
    compute_hausdorff_distance,
    compute_surface_dice,
)
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from surface_distance import metrics as deepmind

from segflow.metrics.results import SurfaceScores
from segflow.metrics.surface import SurfaceMeter, diagonal, summarise_surfaces, surface_scores
from segflow.metrics.windows import run_meters
from tests.segflow.metrics.pairs import Maps, blobs, label_pairs, pair_of

SPACINGS = {2: (0.5, 2.0), 3: (0.5, 1.0, 3.0)}


def measured(
    prediction: NDArray[Any],
    reference: NDArray[Any],
    matrix: NDArray[np.float64],
    *,
    code: int = 1,
    classes: int = 2,
    tolerance: float = 1.0,
    cells: int = 1 << 22,
) -> SurfaceScores:
    meter = SurfaceMeter(reference.shape, [code])
    run_meters(pair_of(prediction, reference, classes), [meter], cells)
    return surface_scores(*meter.surface(code), reference.shape, matrix, tolerance)


def two_balls(shape: tuple[int, ...] = (20, 24, 16)) -> Maps:
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    middle = np.array([n / 2 for n in shape]).reshape(-1, 1, 1, 1)
    one = ((at - middle) ** 2).sum(axis=0) < 36
    two = ((at - middle - np.array([2, -1, 1]).reshape(-1, 1, 1, 1)) ** 2).sum(axis=0) < 30
    return one.astype(np.uint8), two.astype(np.uint8)


def as_monai(mask: NDArray[Any]) -> torch.Tensor:
    return torch.as_tensor(np.stack([1 - mask, mask])[None].astype(np.float32))


@pytest.mark.filterwarnings("ignore:.*always_return_as_numpy:FutureWarning")  # MONAI calls itself so
@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_distances_are_those_of_monai(ndim: int, seed: int) -> None:
    shape = (24, 30) if ndim == 2 else (14, 12, 16)
    spacing = SPACINGS[ndim]
    reference = (blobs(shape, 2, seed) == 1).astype(np.uint8)
    prediction = (blobs(shape, 2, seed + 50, 1.5) == 1).astype(np.uint8)
    found = measured(prediction, reference, np.diag(spacing))
    ours, theirs = as_monai(prediction), as_monai(reference)
    settings: dict[str, Any] = {"include_background": False, "spacing": spacing}
    hd = compute_hausdorff_distance(ours, theirs, **settings)
    hd95 = compute_hausdorff_distance(ours, theirs, percentile=95, **settings)
    assd = compute_average_surface_distance(ours, theirs, symmetric=True, **settings)
    one_way = compute_average_surface_distance(ours, theirs, **settings)
    nsd = compute_surface_dice(ours, theirs, class_thresholds=[1.0], **settings)
    assert found.hd == pytest.approx(float(hd), rel=1e-5)
    assert found.hd95_max == pytest.approx(float(hd95), rel=1e-5)
    assert found.assd == pytest.approx(float(assd), rel=1e-5)
    assert found.to_reference == pytest.approx(float(one_way), rel=1e-5)
    assert found.nsd == pytest.approx(float(nsd), rel=1e-5)


def test_distances_are_those_of_deepmind_within_a_cell() -> None:
    prediction, reference = two_balls()
    spacing = (1.0, 1.5, 2.0)
    found = measured(prediction, reference, np.diag(spacing))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it asks scipy for names that moved
        theirs = deepmind.compute_surface_distances(reference == 1, prediction == 1, spacing)
    a_cell = float(np.linalg.norm(spacing))
    assert found.hd95_max == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 95), abs=a_cell)
    assert found.hd == pytest.approx(deepmind.compute_robust_hausdorff(theirs, 100), abs=a_cell)
    back, forth = deepmind.compute_average_surface_distance(theirs)
    assert found.masd == pytest.approx((back + forth) / 2, abs=a_cell / 4)
    wide = measured(prediction, reference, np.diag(spacing), tolerance=3.0)
    assert wide.nsd == pytest.approx(deepmind.compute_surface_dice_at_tolerance(theirs, 3.0), abs=0.06)


@given(label_pairs(), st.integers(1, 200))
def test_windows_give_what_the_whole_array_gives(maps: tuple[Maps, int], cells: int) -> None:
    (prediction, reference), classes = maps
    matrix = np.diag(SPACINGS[reference.ndim])
    whole = measured(prediction, reference, matrix, code=0, classes=classes)
    assert measured(prediction, reference, matrix, code=0, classes=classes, cells=cells) == whole


@given(label_pairs(void=False))
def test_distances_are_those_of_scipy_s_distance_transform(maps: tuple[Maps, int]) -> None:
    (prediction, reference), classes = maps
    spacing = SPACINGS[reference.ndim]
    found = measured(prediction, reference, np.diag(spacing), code=0, classes=classes)
    edges = []
    for mask in (reference == 0, prediction == 0):
        padded = np.pad(mask, 1)
        inner = padded.copy()
        for axis in range(mask.ndim):
            inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
        edges.append(padded & ~inner)
    assert (found.surface_cells_reference, found.surface_cells_prediction) == tuple(int(e.sum()) for e in edges)
    if found.state == "measured":
        back = distance_transform_edt(~edges[1], sampling=spacing)[edges[0]]
        forth = distance_transform_edt(~edges[0], sampling=spacing)[edges[1]]
        pooled = np.concatenate((back, forth))
        assert found.hd == pytest.approx(pooled.max(), rel=1e-9)
        assert found.hd95_pooled == pytest.approx(np.percentile(pooled, 95), rel=1e-9)
        assert found.masd == pytest.approx((back.mean() + forth.mean()) / 2, rel=1e-9)
        assert found.nsd == pytest.approx((pooled <= 1 + 1e-9).mean(), rel=1e-9)


@given(label_pairs())
def test_distances_are_symmetric_and_do_not_depend_on_the_way_the_axes_run(maps: tuple[Maps, int]) -> None:
    (prediction, reference), classes = maps
    matrix = np.diag(SPACINGS[reference.ndim])
    here = measured(prediction, reference, matrix, code=0, classes=classes)
    there = measured(reference, prediction, matrix, code=0, classes=classes)
    turned = measured(np.flip(prediction), np.flip(reference), matrix, code=0, classes=classes)
    for key in ("hd", "hd95_max", "hd95_pooled", "assd", "masd", "nsd"):
        for other in (there, turned):
            one, two = getattr(here, key), getattr(other, key)
            assert one == (two if two is None else pytest.approx(two, rel=1e-9, abs=1e-12))


@given(label_pairs())
def test_what_is_identical_has_distance_0(maps: tuple[Maps, int]) -> None:
    (_, reference), classes = maps
    found = measured(reference, reference, np.diag(SPACINGS[reference.ndim]), code=0, classes=classes, tolerance=0)
    if found.state == "measured":
        assert (found.hd, found.hd95_max, found.hd95_pooled, found.assd, found.masd, found.nsd) == (0, 0, 0, 0, 0, 1)


def test_an_oblique_grid_gives_what_the_upright_one_gives() -> None:
    prediction, reference = two_balls()
    spacing = np.diag((1.0, 1.5, 2.0))
    angle = 0.4
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, -1]])
    upright, oblique = (measured(prediction, reference, matrix) for matrix in (spacing, turn @ spacing))
    assert oblique.hd == pytest.approx(upright.hd, rel=1e-12)
    assert oblique.assd == pytest.approx(upright.assd, rel=1e-12)
    assert oblique.nsd == upright.nsd


def test_a_sheared_grid_is_measured_in_the_world_and_not_in_cells() -> None:
    """A tilted gantry moves each slice: two cells of one column lie apart by more than the slices do."""
    reference, prediction = np.zeros((5, 5, 5), np.uint8), np.zeros((5, 5, 5), np.uint8)
    reference[2, 2, 0] = prediction[2, 2, 2] = 1
    sheared = np.array([[1.0, 0, 0], [0, 1.0, 0.5], [0, 0, 2.0]])
    assert measured(prediction, reference, sheared).hd == pytest.approx(np.hypot(1.0, 4.0))


def test_a_missed_organ_never_improves_a_mean() -> None:
    """MONAI #9095: its HD95 is NaN, and what is averaged over the rest looks better than it is."""
    reference = np.zeros((20, 20), np.uint8)
    reference[2:8, 2:8], reference[12:18, 12:18] = 1, 2
    good, missing = reference.copy(), reference.copy()
    good[12, 12], missing[missing == 2] = 0, 0
    worst = diagonal(reference.shape, np.eye(2))

    def summary(prediction: NDArray[Any]) -> Any:
        found = [(f"class {c}", measured(prediction, reference, np.eye(2), code=c, classes=3)) for c in (1, 2)]
        return summarise_surfaces(found, "mm", 1.0, worst)

    one, two = summary(good), summary(missing)
    assert (two.classes_measured, two.classes_missed, two.classes_invented) == (1, 1, 0)
    assert two.mean_hd95_max == 0
    assert two.mean_hd95_max_worst == pytest.approx(worst / 2)
    assert two.mean_hd95_max_worst > one.mean_hd95_max_worst
    assert two.mean_nsd == 0.5
    assert "not predicted" in two.denominators
    assert "class 2" in two.denominators


def test_an_invented_class_counts_as_0_and_an_absent_one_not_at_all() -> None:
    empty, full = np.zeros((6, 6), np.uint8), np.ones((6, 6), np.uint8)
    invented = measured(full, empty, np.eye(2))
    absent = measured(empty, empty, np.eye(2))
    assert (invented.state, invented.nsd, invented.hd) == ("invented", 0, None)
    assert (absent.state, absent.nsd) == ("absent", None)
    both = summarise_surfaces([("a", invented), ("b", absent)], "m", 1.0, 9.0)
    assert (both.mean_nsd, both.mean_hd, both.mean_hd95_max_worst) == (0, None, 9.0)


def test_surfaces_that_are_too_large_are_given_up_and_not_kept() -> None:
    labels = np.indices((20, 20)).sum(axis=0) % 2
    meter = SurfaceMeter(labels.shape, [0, 1], most=100)
    run_meters(pair_of(labels, labels, 2), [meter])
    assert meter.too_many
    assert meter.surface(1)[0].size == 0
