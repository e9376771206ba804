"""Resampling along one axis: each target cell is a weighted mean of a few source cells around its centre.

A triangle filter: linear interpolation where the target is finer, and the same triangle stretched over the cells that
a target cell covers where it is coarser (anti-aliasing; the filter of PIL's and PyTorch's ``antialias=True``). The
taps of a target cell depend on its index alone, so the result does not depend on how the axis is cut.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    def _longer(self) -> int:
        return max(self.source, self.target)

    def centre(self, index: float) -> float:
        """Return where a target cell's centre lies, in source cells (0 = the centre of the first)."""
        return (index + 0.5) * self.source / self.target - 0.5

    def support(self, start: int, stop: int) -> tuple[int, int]:
        """Return the source cells, ``low <= i < high``, that the target cells ``start <= i < stop`` are made of.

        No cell more: the first and the last have a weight, and whether they do is worked out in whole numbers.
        """
        if self.identity:
            return start, stop
        low, high = self._bounds(np.array((start, stop - 1), np.int64))
        return max(0, int(low[0])), min(self.source, int(high[1]))

    def _bounds(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for target cells, the first source cell within reach and the one behind the last, borders aside."""
        middle, reach = (2 * index + 1) * self.source - self.target, 2 * self._longer
        return (middle - reach) // (2 * self.target) + 1, -(-(middle + reach) // (2 * self.target))

    def ready(self, stop: int) -> int:
        """Return how many target cells can be made of the source cells below `stop`: the largest such number."""
        if stop >= self.source:
            return self.target
        if self.identity:
            return max(0, stop)
        return max(0, ((2 * stop + 1) * self.target - 2 * self._longer + self.source) // (2 * self.source))

    @property
    def lag(self) -> int:
        """How many source cells below `stop`, at most, the target cells from ``ready(stop)`` on still need."""
        return 0 if self.identity else -(-2 * self._longer // self.target)

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

        Raises:
            ValueError: source cells are missing from `values`.
        """
        low, high = self.support(start, stop)
        if low < first or high > first + values.shape[axis]:
            raise ValueError(f"cells {low}..{high} are needed, {first}..{first + values.shape[axis]} were given")
        if self.identity:
            return values[(slice(None),) * axis + (slice(start - first, stop - first),)].copy()
        indices, weights = self._taps(start, stop)
        shape = [1] * values.ndim
        shape[axis] = stop - start
        out = np.zeros((*values.shape[:axis], stop - start, *values.shape[axis + 1 :]), np.float32)
        for tap in range(indices.shape[1]):
            cells = np.take(values, indices[:, tap] - first, axis)
            cells *= weights[:, tap].reshape(shape)
            out += cells
        return out

    def _taps(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return source indices and weights, both (target, tap); the weights of a target sum to 1.

        A tap without weight points to a cell that has one, so that no cell outside of the support is ever looked at.
        """
        cells = np.arange(start, stop, dtype=np.int64)
        low, high = (bound[:, None] for bound in self._bounds(cells))
        indices = low + np.arange(self.lag)
        # distance to the centre, in units of 1 / (2 target) source cells: whole numbers, exact
        distance = np.abs((2 * indices + 1) * self.target - (2 * cells[:, None] + 1) * self.source)
        weights = np.maximum(0, 2 * self._longer - distance).astype(np.float64)
        weights[(indices < 0) | (indices >= self.source)] = 0.0
        weights /= weights.sum(axis=1, keepdims=True)
        held = np.clip(indices, np.maximum(low, 0), np.minimum(high, self.source) - 1)
        return held, weights.astype(np.float32)
