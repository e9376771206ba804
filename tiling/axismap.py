"""Resampling along one axis: each target cell is a weighted mean of a few source cells around its centre.

A triangle filter: linear interpolation where the target is finer, and the same triangle stretched over the cells that
a target cell covers where it is coarser (anti-aliasing; the filter of PIL's and PyTorch's ``antialias=True``). The
taps of a target cell depend on its index alone, so the result does not depend on how the axis is cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Two grids over the same extent of one axis.

    Attributes:
        source: cells of the grid that is read.
        target: cells of the grid that is made.
    """

    source: int
    target: int

    def __post_init__(self) -> None:
        if self.source < 1 or self.target < 1:
            raise ValueError(f"an axis map needs cells on both sides, got {self.source} and {self.target}")

    @property
    def identity(self) -> bool:
        """Whether both grids are the same."""
        return self.source == self.target

    @property
    def _reach(self) -> float:
        return max(1.0, self.source / self.target)

    def centre(self, index: float) -> float:
        """Return where a target cell's centre lies, in source cells (0 = the centre of the first)."""
        return (index + 0.5) * self.source / self.target - 0.5

    def support(self, start: int, stop: int) -> tuple[int, int]:
        """Return the source cells, ``low <= i < high``, that the target cells ``start <= i < stop`` are made of."""
        if self.identity:
            return start, stop
        low = floor(self.centre(start) - self._reach)
        high = ceil(self.centre(stop - 1) + self._reach) + 1
        return max(0, low), min(self.source, high)

    def ready(self, stop: int) -> int:
        """Return how many target cells can be made of the source cells below `stop`."""
        if self.identity or stop >= self.source:
            return self.target if stop >= self.source else stop
        count = max(0, floor((stop + 0.5) * self.target / self.source) + 1)
        while count > 0 and self.support(count - 1, count)[1] > stop:
            count -= 1
        return min(count, self.target)

    def apply(self, values: NDArray[np.float32], axis: int, first: int, start: int, stop: int) -> NDArray[np.float32]:
        """Make target cells.

        Args:
            values: float32, holding along `axis` the source cells from `first` on, at least `support(start, stop)`.
            axis: axis of `values`.
            first: source index of the first cell held.
            start: first target cell.
            stop: behind the last target cell.

        Returns:
            float32, with ``stop - start`` cells along `axis`.
        """
        if self.identity:
            return np.ascontiguousarray(np.take(values, range(start - first, stop - first), axis))
        indices, weights = self._taps(start, stop)
        held = values.shape[axis]
        shape = [1] * values.ndim
        shape[axis] = stop - start
        out = np.zeros((*values.shape[:axis], stop - start, *values.shape[axis + 1 :]), np.float32)
        for tap in range(indices.shape[1]):
            weight = weights[:, tap]
            if not weight.any():
                continue
            cells = np.take(values, np.clip(indices[:, tap] - first, 0, held - 1), axis)
            out += cells * weight.reshape(shape)
        return out

    def _taps(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return source indices and weights, both (target, tap); the weights of a target sum to 1."""
        reach = self._reach
        centres = (np.arange(start, stop) + 0.5) * (self.source / self.target) - 0.5
        indices = np.floor(centres - reach).astype(np.int64)[:, None] + np.arange(2 * ceil(reach) + 2)
        weights = np.maximum(0.0, 1.0 - np.abs(indices - centres[:, None]) / reach)
        weights[(indices < 0) | (indices >= self.source)] = 0.0
        weights /= weights.sum(axis=1, keepdims=True)
        return indices, weights.astype(np.float32)
