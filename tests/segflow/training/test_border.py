"""The border map against brute force, and what it is for."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter

from segflow.recipe.train import Border
from segflow.training.border import border_map
from segflow.training.labelled import IGNORED


def flooded(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Cells (n, axes) of each object, by flooding from cell to touching cell of the same class."""
    left = {tuple(int(i) for i in cell) for cell in np.argwhere(labels > 0)}
    objects = []
    while left:
        front, members = [left.pop()], []
        while front:
            cell = front.pop()
            members.append(cell)
            touching = [
                other
                for other in left
                if labels[other] == labels[cell] and max(abs(a - b) for a, b in zip(cell, other, strict=True)) == 1
            ]
            left -= set(touching)
            front += touching
        objects.append(np.array(members))
    return objects


def brute(labels: NDArray[np.int64], border: Border) -> NDArray[np.float64]:
    """The formula of the paper, cell by cell, every distance measured; nothing is cut off."""
    objects = flooded(labels)
    result = np.zeros(labels.shape)
    for cell in np.ndindex(labels.shape):
        distances = sorted(np.sqrt(((members - np.array(cell)) ** 2).sum(1)).min() for members in objects)
        if len(distances) > 1 and labels[cell] != IGNORED:
            result[cell] = border.weight * np.exp(-((distances[0] + distances[1]) ** 2) / (2 * border.sigma**2))
    return result


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    shape=st.sampled_from([(9, 13), (1, 20), (5, 6, 4)]),
    share=st.floats(0.02, 0.4),
    sigma=st.sampled_from([0.5, 1.3, 5.0]),
)
def test_the_map_is_the_papers_formula(seed: int, shape: tuple[int, ...], share: float, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(shape) < share, rng.integers(1, 3, shape), 0).astype(np.int64)
    labels[rng.random(shape) < 0.1] = IGNORED
    border = Border(weight=10.0, sigma=sigma)
    found = border_map(labels, border)
    assert found.dtype == np.float32
    assert np.allclose(found, brute(labels, border), atol=10 * np.exp(-8) * 1.01)
    near = found > 0
    assert np.allclose(found[near], brute(labels, border)[near], rtol=1e-4)


def test_the_gap_between_two_objects_weighs_most_and_what_is_far_nothing() -> None:
    labels = np.zeros((60, 60), np.int64)
    labels[20:40, 10:29] = labels[20:40, 30:50] = 1
    found = border_map(labels, Border())
    assert found[30, 29] == pytest.approx(10 * np.exp(-(2**2) / 50), rel=1e-5)
    assert found.max() == found[30, 28] == pytest.approx(10 * np.exp(-(2**2) / 50), rel=1e-5)
    assert found[30, 29] > found[24, 5]
    assert found[0, 59] == 0.0


@pytest.mark.parametrize("objects", [0, 1])
def test_fewer_than_two_objects_have_no_border(objects: int) -> None:
    labels = np.zeros((12, 12), np.int64)
    labels[3:6, 3:6] = objects
    assert not border_map(labels, Border()).any()


def test_a_patch_of_many_cells_takes_less_than_a_transform_of_the_whole_for_each() -> None:
    """A few hundred objects of a microscopy patch: bounded windows, where whole transforms would take seconds."""
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(256, 256)), 5)
    labels = (noise > 0.05).astype(np.int64)
    began = time.perf_counter()
    border_map(labels, Border())
    mine = time.perf_counter() - began
    began = time.perf_counter()
    for _ in range(len(flooded(labels[::4, ::4]))):
        distance_transform_edt(labels == 0)
    assert mine < time.perf_counter() - began
