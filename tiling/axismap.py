"""Resampling along one axis: each target cell is a weighted mean of a few source cells around its centre.

A triangle filter: linear interpolation where the target is finer, and the same triangle stretched over the cells that
a target cell covers where it is coarser (anti-aliasing; the filter of PIL's and PyTorch's ``antialias=True``). The
taps of a target cell depend on its index alone, so the result does not depend on how the axis is cut.

Two simpler rules are there for models that were made with them: `linear` samples by linear interpolation, also where
the target is coarser; `nearest` takes the source cell that the target cell's centre lies in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Filter = Literal["triangle", "linear", "nearest"]


@dataclass(frozen=True, slots=True)
class AxisMap:
    """Two grids over the same extent of one axis.

    Attributes:
        source: cells of the grid that is read.
        target: cells of the grid that is made.
        rule: how a target cell is made of source cells.
    """

    source: int
    target: int
    rule: Filter = "triangle"

    def __post_init__(self) -> None:
        if self.source < 1 or self.target < 1:
            raise ValueError(f"an axis map needs cells on both sides, got {self.source} and {self.target}")

    @property
    def identity(self) -> bool:
        """Whether both grids are the same."""
        return self.source == self.target

    @property
    def _reach(self) -> int:
        """Half the width of the filter, in units of 1 / target source cells."""
        return self.target if self.rule == "linear" else max(self.source, self.target)

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
        if self.rule == "nearest":
            return int(low[0]), int(high[1])
        return max(0, int(low[0])), min(self.source, int(high[1]))

    def _bounds(self, index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return, for target cells, the first source cell within reach and the one behind the last, borders aside."""
        if self.rule == "nearest":
            nearest = (2 * index + 1) * self.source // (2 * self.target)
            return nearest, nearest + 1
        middle, reach = (2 * index + 1) * self.source - self.target, 2 * self._reach
        return (middle - reach) // (2 * self.target) + 1, -(-(middle + reach) // (2 * self.target))

    def ready(self, stop: int) -> int:
        """Return how many target cells can be made of the source cells below `stop`: the largest such number."""
        if stop >= self.source:
            return self.target
        if self.identity:
            return max(0, stop)
        if self.rule == "nearest":
            return max(0, ((2 * stop * self.target - 1) // self.source + 1) // 2)
        return max(0, ((2 * stop + 1) * self.target - 2 * self._reach + self.source) // (2 * self.source))

    @property
    def lag(self) -> int:
        """How many source cells below `stop`, at most, the target cells from ``ready(stop)`` on still need."""
        if self.identity:
            return 0
        return 1 if self.rule == "nearest" else -(-2 * self._reach // self.target)

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
        if self.rule == "nearest":
            return self._bounds(cells)[0][:, None], np.ones((stop - start, 1), np.float32)
        low, high = (bound[:, None] for bound in self._bounds(cells))
        indices = low + np.arange(self.lag)
        # distance to the centre, in units of 1 / (2 target) source cells: whole numbers, exact
        distance = np.abs((2 * indices + 1) * self.target - (2 * cells[:, None] + 1) * self.source)
        weights = np.maximum(0, 2 * self._reach - distance).astype(np.float64)
        weights[(indices < 0) | (indices >= self.source)] = 0.0
        weights /= weights.sum(axis=1, keepdims=True)
        held = np.clip(indices, np.maximum(low, 0), np.minimum(high, self.source) - 1)
        return held, weights.astype(np.float32)


@dataclass(frozen=True, slots=True)
class PlacedMap:
    """An axis map between a part of one axis and a part of another: what was cut off or padded lies around them.

    Target cells outside of their part are made of what the nearest cell of the part is made of, so that every target
    cell has a support; what they get is the caller's to overwrite. Otherwise as an `AxisMap`.

    Attributes:
        part: from the source's part to the target's.
        source_start: first source cell of its part.
        target_start: first target cell of its part.
        target: all cells of the target's axis.
    """

    part: AxisMap
    source_start: int
    target_start: int
    target: int

    def __post_init__(self) -> None:
        if self.source_start < 0 or not 0 <= self.target_start <= self.target - self.part.target:
            raise ValueError(f"{self.part} does not fit at {self.source_start} and {self.target_start}")

    def _inside(self, start: int, stop: int) -> tuple[int, int]:
        """Return the part's cells that stand for the target cells ``start <= i < stop``."""
        last = self.part.target - 1
        low, high = (min(max(i - self.target_start, 0), last) for i in (start, stop - 1))
        return low, high + 1

    def support(self, start: int, stop: int) -> tuple[int, int]:
        """See `AxisMap.support`."""
        low, high = self.part.support(*self._inside(start, stop))
        return low + self.source_start, high + self.source_start

    def ready(self, stop: int) -> int:
        """See `AxisMap.ready`."""
        count = self.part.ready(max(0, stop - self.source_start))
        if count == 0:
            return 0
        return self.target if count == self.part.target else self.target_start + count

    @property
    def lag(self) -> int:
        """See `AxisMap.lag`."""
        return self.part.lag

    def apply(self, values: NDArray[np.float32], axis: int, first: int, start: int, stop: int) -> NDArray[np.float32]:
        """See `AxisMap.apply`."""
        low, high = self._inside(start, stop)
        made = self.part.apply(values, axis, first - self.source_start, low, high)
        cells = np.clip(np.arange(start, stop) - self.target_start, low, high - 1) - low
        return made if len(cells) == high - low else np.take(made, cells, axis)
