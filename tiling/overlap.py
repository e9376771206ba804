"""How much patches must overlap, and how large they should be: from what a cut changes, and what a cell costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tiling.window import Profile, window

_MOST_PATCHES = {1: 4096, 2: 512, 3: 48}


def blended_change(patch: int, step: int, changes: NDArray[np.float64], profile: Profile) -> float:
    """Return how much a cell between two cuts of one axis may change at most, once patches are blended.

    Args:
        patch: cells of a patch.
        step: cells from one patch to the next.
        changes: (at least half a patch) the largest change of a patch's result, by distance from its nearest cut;
            never rising.
        profile: of the blend. A `crop` drops ``(patch - step) // 2`` cells at each end.
    """
    if profile == "crop":
        return float(changes[(patch - step) // 2])
    weights = window(profile, patch)
    distance = np.minimum(np.arange(patch), patch - 1 - np.arange(patch))
    covers = -(-patch // step)
    beyond = covers * step - patch
    ours = np.pad(weights * changes[distance], (0, beyond)).reshape(covers, step)
    return float((ours.sum(0) / np.pad(weights, (0, beyond)).reshape(covers, step).sum(0)).max())


def least_overlap(
    patch: int, stride: int, changes: NDArray[np.float64], profile: Profile, axes: int, tolerance: float
) -> int | None:
    """Return the smallest overlap with which no cell changes by more than a tolerance; None where no overlap does.

    Where several axes are blended, the changes of a cell near cuts of all of them add up at most.

    Args:
        patch: cells of a patch, a multiple of the stride.
        stride: what overlaps are multiples of.
        changes: see `blended_change`.
        profile: of the blend.
        axes: how many are cut.
        tolerance: of a probability.
    """
    for overlap in range(0, patch, stride):
        if axes * blended_change(patch, patch - overlap, changes, profile) <= tolerance:
            return overlap
    return None


def least_work(
    shape: Sequence[int],
    stride: int,
    overlap: int,
    at_once: int,
    most_cells: int,
    fits: Callable[[tuple[int, ...]], bool] = lambda _: True,
    square: bool = False,
    besides: int = 0,
) -> tuple[int, ...] | None:
    """Return the patch with which a scene costs the fewest cells, all patches together; None where none fits.

    What overlaps, what hangs over the scene's end, and places that stay empty in the last round count as work. Of
    equal patches the smallest is taken.

    Args:
        shape: cells of the scene on each axis.
        stride: what sizes are multiples of.
        overlap: cells that neighbours share, a multiple of the stride.
        at_once: patches that run at the same time.
        most_cells: that a patch may have.
        fits: whether memory holds a run with such a patch; asked from the cheapest on.
        square: all axes alike.
        besides: patches that are run besides the scene's, to settle a run.
    """
    ways = [_ways(n, stride, overlap, _MOST_PATCHES[len(shape)]) for n in shape]
    if square:
        sizes = sorted({size for way in ways for size in way})
        candidates = [(size,) * len(shape) for size in sizes]
        counts = [tuple(_count(n, p, overlap) for n, p in zip(shape, patch, strict=True)) for patch in candidates]
        patches, many = np.array(candidates, np.int64), np.array(counts, np.int64)
    else:
        patches = _product([list(way) for way in ways])
        many = _product([list(way.values()) for way in ways])
    cells = patches.prod(axis=1)
    patches, many, cells = patches[cells <= most_cells], many[cells <= most_cells], cells[cells <= most_cells]
    rounds = -(-many.prod(axis=1) // at_once) * at_once + besides
    for row in np.lexsort((cells, rounds * cells)):
        patch = tuple(int(n) for n in patches[row])
        if fits(patch):
            return patch
    return None


def _ways(size: int, stride: int, overlap: int, most: int) -> dict[int, int]:
    """Return the smallest patch for each number of patches along an axis: size to number."""
    out: dict[int, int] = {}
    least = (overlap // stride + 1) * stride
    for count in range(1, most + 1):
        patch = max(-(-(size + (count - 1) * overlap) // (count * stride)) * stride, least)
        out[patch] = _count(size, patch, overlap)
        if patch == least:
            break
    return out


def _count(size: int, patch: int, overlap: int) -> int:
    return 1 if size <= patch else 1 + -(-(size - patch) // (patch - overlap))


def _product(lists: list[list[int]]) -> NDArray[np.int64]:
    """Return all combinations, one a row."""
    grids = np.meshgrid(*(np.array(values, np.int64) for values in lists), indexing="ij")
    return np.stack([grid.ravel() for grid in grids], axis=1)
