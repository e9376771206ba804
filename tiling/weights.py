"""The weight of each patch in whole units, so that the weights of all patches at a cell sum to exactly one scale.

Along an axis each patch's window is divided by the sum of all windows there. The running sums of these fractions, in
binary fixed point, order the patches that cover a cell from 0 to 1. Patches of several axes are ordered
lexicographically, and a patch's weight is the difference of two *rounded* running sums: the roundings cancel, whatever
the number of patches, and no count map is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np
from numpy.typing import NDArray

from tiling.lattice import Axis, Lattice
from tiling.window import window

_BITS = 60
_CACHE_BYTES = 64 << 20
_PIECE = 1 << 15
"""Cells of a weight that are worked out at once: in 64 bits, they stay in the cache of a core."""


@lru_cache(maxsize=64)
def running_sums(axis: Axis, bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return each patch's running sums before and after it: two arrays (patches, patch), ``0 <= sum <= 2**bits``.

    At a cell, `after` of one patch is `before` of the next that covers it; the first starts from 0 and the last ends
    at ``2**bits``. Cells beyond the scene's end count as cells.
    """
    count, patch = len(axis.starts), axis.patch
    profiles = np.repeat(window(axis.profile, patch)[None], count, axis=0)
    if axis.margin:
        profiles[1:, : axis.margin] = 0.0
        profiles[:-1, patch - axis.margin :] = 0.0
    extent = axis.starts[-1] + patch
    total = np.zeros(extent)
    for start, profile in zip(axis.starts, profiles, strict=True):
        total[start : start + patch] += profile
    before, after = np.empty((count, patch), np.int64), np.empty((count, patch), np.int64)
    running, reached = np.zeros(extent), np.zeros(extent, np.int64)
    for k, (start, profile) in enumerate(zip(axis.starts, profiles, strict=True)):
        here = slice(start, start + patch)
        before[k] = reached[here]
        running[here] += profile
        reached[here] = np.rint(running[here] / total[here] * 2.0**bits).astype(np.int64)
        after[k] = reached[here]
    before.setflags(write=False)
    after.setflags(write=False)
    return before, after


def patch_weight(lattice: Lattice, index: Sequence[int], scale: int) -> NDArray[np.float32]:
    """Return a patch's weight: (*patch) float32 holding whole numbers from 0 to `scale`.

    At every cell of the scene the weights of all patches that cover it sum to exactly `scale`.
    """
    axes, bits = lattice.axes, _BITS // lattice.ndim
    unit = scale / 2.0 ** (bits * lattice.ndim)
    low, high = (sums[index[-1]] for sums in running_sums(axes[-1], bits))
    for depth, (axis, k) in enumerate(zip(axes[-2:0:-1], index[-2:0:-1], strict=True), 1):
        before, after = (sums[k] for sums in running_sums(axis, bits))
        column = (-1,) + (1,) * depth
        base = before.reshape(column) << np.int64(bits * depth)
        width = (after - before).reshape(column)
        low, high = base + width * low, base + width * high
    if lattice.ndim == 1:
        return (_rounded(high, unit) - _rounded(low, unit)).astype(np.float32)
    weight = np.empty(lattice.patch, np.float32)
    before, after = (sums[index[0]].reshape((-1,) + (1,) * (lattice.ndim - 1)) for sums in running_sums(axes[0], bits))
    rows = max(1, _PIECE // prod(lattice.patch[1:]))
    for start in range(0, len(weight), rows):
        here = slice(start, start + rows)
        base, width = before[here] << np.int64(bits * (lattice.ndim - 1)), after[here] - before[here]
        weight[here] = _rounded(base + width * high, unit) - _rounded(base + width * low, unit)
    return weight


def _rounded(sums: NDArray[np.int64], unit: float) -> NDArray[np.float64]:
    whole: NDArray[np.float64] = np.rint(sums * unit)
    return whole


class WeightCache:
    """Weights of a lattice's patches, kept for the few shapes that they have (interior, first, last, ...)."""

    def __init__(self, lattice: Lattice, scale: int) -> None:
        self._lattice = lattice
        self._scale = scale
        self._alike = tuple(_alike(axis, _BITS // lattice.ndim) for axis in lattice.axes)
        self._kept: dict[tuple[int, ...], NDArray[np.float32]] = {}
        self._room = max(1, _CACHE_BYTES // (4 * int(np.prod(lattice.patch))))

    def __getitem__(self, index: Sequence[int]) -> NDArray[np.float32]:
        """Return `patch_weight` of the patch."""
        key = tuple(alike[k] for alike, k in zip(self._alike, index, strict=True))
        weight = self._kept.pop(key, None)
        if weight is None:
            weight = patch_weight(self._lattice, key, self._scale)
            if len(self._kept) >= self._room:
                del self._kept[next(iter(self._kept))]
        self._kept[key] = weight
        return weight


def kept_bytes(lattice: Lattice) -> int:
    """Return the most that a `WeightCache` of a lattice holds."""
    size = 4 * int(np.prod(lattice.patch))
    shapes = int(np.prod([len(set(_alike(axis, _BITS // lattice.ndim))) for axis in lattice.axes]))
    return min(shapes, max(1, _CACHE_BYTES // size)) * size


@lru_cache(maxsize=64)
def _alike(axis: Axis, bits: int) -> tuple[int, ...]:
    """For each patch, the first patch on the axis with the same running sums."""
    first: dict[bytes, int] = {}
    before, after = running_sums(axis, bits)
    return tuple(
        first.setdefault(low.tobytes() + high.tobytes(), k)
        for k, (low, high) in enumerate(zip(before, after, strict=True))
    )
