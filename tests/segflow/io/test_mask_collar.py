"""Claims about the collar: it is what scipy's labelling finds, however the rows are cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from segflow.io.collar import collar_runs
from tiling.box import Box

BLANKS = st.tuples(st.integers(1, 14), st.integers(1, 14)).flatmap(
    lambda shape: arrays(np.bool_, shape, elements=st.booleans())
)


def oracle(blank: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Label the whole array 4-connected; keep what touches the border."""
    labels, _ = ndimage.label(blank)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return np.isin(labels, edge[edge > 0])


def cut(blank: NDArray[np.bool_], heights: list[int]) -> list[NDArray[np.bool_]]:
    strips, top, turn = [], 0, 0
    while top < blank.shape[0]:
        strips.append(blank[top : top + heights[turn % len(heights)]])
        top += heights[turn % len(heights)]
        turn += 1
    return strips


@given(BLANKS, st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_the_collar_is_what_a_whole_array_labelling_finds(
    blank: NDArray[np.bool_], heights: list[int], data: st.DataObject
) -> None:
    runs = collar_runs(cut(blank, heights), blank.shape[1])
    truth = oracle(blank)
    np.testing.assert_array_equal(runs.inside(Box.whole(blank.shape)), truth)
    low = [data.draw(st.integers(0, n - 1)) for n in blank.shape]
    high = [data.draw(st.integers(a + 1, n)) for a, n in zip(low, blank.shape, strict=True)]
    box = Box(tuple(low), tuple(high))
    np.testing.assert_array_equal(runs.inside(box), truth[box.slices])


@pytest.mark.parametrize("density", [0.3, 0.59, 0.65, 0.9])
def test_noise_near_percolation_is_labelled_exactly(density: float) -> None:
    blank = np.random.default_rng(3).random((300, 211)) < density
    runs = collar_runs(cut(blank, [64]), blank.shape[1])
    np.testing.assert_array_equal(runs.inside(Box.whole(blank.shape)), oracle(blank))


def test_a_spiral_that_enters_at_the_bottom_is_followed_to_its_heart() -> None:
    size = 61
    blank = np.zeros((size, size), dtype=np.bool_)
    y, x, dy, dx = size - 1, 1, -1, 0
    blank[y, x] = True
    for _ in range(4 * size * size):
        ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
        if not (1 <= ahead[0] < size - 1 and 1 <= ahead[1] < size - 1) or (
            0 <= beyond[0] < size and 0 <= beyond[1] < size and blank[beyond]
        ):
            dy, dx = dx, -dy
            ahead = (y + dy, x + dx)
            if blank[ahead] or blank[ahead[0] + dy, ahead[1] + dx]:
                break
        y, x = ahead
        blank[y, x] = True
    assert blank.sum() > size * size // 3
    runs = collar_runs(cut(blank, [5]), size)
    np.testing.assert_array_equal(runs.inside(Box.whole(blank.shape)), oracle(blank))
    assert runs.inside(Box.whole(blank.shape))[size // 2 - 4 : size // 2 + 4].any()


def test_a_lake_inside_is_forgotten_and_the_collar_kept_small() -> None:
    blank = np.zeros((400, 300), dtype=np.bool_)
    blank[:20] = True
    blank[100:200, 100:200] = True
    runs = collar_runs(cut(blank, [32]), 300)
    assert runs.start.size == 20
