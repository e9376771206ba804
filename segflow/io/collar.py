"""The collar: blank cells that hang together with the raster's border, found in one pass over strips of rows.

Connected components of runs (Rosenfeld and Pfaltz 1966), 4-connected: a diagonal does not connect, so that the collar
of a rotated scene does not leak through a one-cell line into dark water. A component that ends inside is forgotten at
once; what is kept is 12 bytes for each run of the collar and of components that are still open. So memory follows the
collar's outline and not the raster's size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segflow.union import united
from tiling.box import Box

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Runs:
    """Cells as runs of columns.

    Attributes:
        first: (rows + 1,) int64; row r has the runs first[r] up to first[r + 1].
        start: int32, first column of each run.
        stop: int32, column after the last of each run.
    """

    first: NDArray[np.int64]
    start: NDArray[np.int32]
    stop: NDArray[np.int32]

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Paint the runs that lie in a box: (y, x) bool."""
        (top, left), (bottom, right) = box.start, box.stop
        height, width = box.shape
        part = slice(int(self.first[top]), int(self.first[bottom]))
        rows = np.repeat(np.arange(height), np.diff(self.first[top : bottom + 1]))
        start, stop = np.maximum(self.start[part], left) - left, np.minimum(self.stop[part], right) - left
        seen = start < stop
        toggles = np.zeros((height, width + 1), dtype=np.uint8)
        toggles[rows[seen], start[seen]] = 1
        toggles[rows[seen], stop[seen]] ^= 1
        return np.bitwise_xor.accumulate(toggles, axis=1)[:, :width].view(np.bool_)


@dataclass(frozen=True, slots=True)
class _Open:
    """Runs that the next strip needs: all of components that may still reach the border, and the collar's last row.

    `component` counts from 0; `known` = the run is collar and has been handed out.
    """

    row: Ints
    start: Ints
    stop: Ints
    component: Ints
    known: NDArray[np.bool_]

    @classmethod
    def none(cls) -> _Open:
        empty = np.zeros(0, dtype=np.int64)
        return cls(empty, empty, empty, empty, empty.astype(np.bool_))


def collar_runs(strips: Iterable[NDArray[np.bool_]], width: int) -> Runs:
    """Find the blank cells that are 4-connected to the border.

    Args:
        strips: blank cells (rows, width) bool, True = blank, from the top to the bottom without a gap.
        width: cells in a row.

    Returns:
        The runs of those cells, over all rows of all strips.
    """
    found: list[NDArray[np.int32]] = []
    pending, top = _Open.none(), 0
    for strip in strips:
        if strip.shape[1] != width:
            raise ValueError(f"a strip has {strip.shape[1]} columns, the raster {width}")
        pending = _advance(pending, strip, top, found)
        top += strip.shape[0]
    last = np.stack([pending.row, pending.start, pending.stop])[:, ~pending.known].astype(np.int32)
    row, start, stop = np.concatenate([*found, last], axis=1)
    order = np.lexsort((start, row))
    first = np.searchsorted(row[order], np.arange(top + 1)).astype(np.int64)
    return Runs(first, start[order], stop[order])


def _advance(pending: _Open, strip: NDArray[np.bool_], top: int, found: list[NDArray[np.int32]]) -> _Open:
    """Take one strip in: append to `found` what is known to touch the border, return what is still open."""
    height, width = strip.shape
    row, start, stop = _runs_of(strip)
    old = int(pending.component.max(initial=-1)) + 1
    node = np.concatenate([pending.component, old + np.arange(row.size)])
    known = np.concatenate([pending.known, np.zeros(row.size, dtype=np.bool_)])
    row = np.concatenate([pending.row, row + top])
    start, stop = np.concatenate([pending.start, start]), np.concatenate([pending.stop, stop])

    near = np.flatnonzero(row >= top - 1)
    one, two = _touching(row[near] - (top - 1), start[near], stop[near], width)
    root = united(node[near][np.column_stack((one, two))], old + row.size - pending.row.size)[node]

    at_border = (start == 0) | (stop == width) | (row == 0) | known
    bordering = np.zeros(root.max(initial=-1) + 1, dtype=np.bool_)
    bordering[root[at_border]] = True
    collar = bordering[root]
    found.append(np.stack([row, start, stop])[:, collar & ~known].astype(np.int32))

    at_bottom = row == top + height - 1
    reaches_down = np.zeros_like(bordering)
    reaches_down[root[at_bottom]] = True
    keep = np.where(collar, at_bottom, reaches_down[root])
    component = np.unique(root[keep], return_inverse=True)[1]
    return _Open(row[keep], start[keep], stop[keep], component.astype(np.int64), collar[keep])


def _runs_of(strip: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Return row, first column and column after the last of every run of True, in reading order."""
    height, width = strip.shape
    padded = np.zeros((height, width + 2), dtype=np.bool_)
    padded[:, 1:-1] = strip
    changes = np.flatnonzero(padded[:, 1:] != padded[:, :-1])
    start, stop = changes[0::2], changes[1::2]
    row = start // (width + 1)
    return row, start - row * (width + 1), stop - row * (width + 1)


def _touching(row: Ints, start: Ints, stop: Ints, width: int) -> tuple[Ints, Ints]:
    """Return the pairs of runs in neighbouring rows that share a column.

    Runs need an order for the search by place; it is made here, and the pairs are in the caller's order.
    """
    order = np.lexsort((start, row))
    row, start, stop = row[order], start[order], stop[order]
    begins, ends = row * (width + 1) + start, row * (width + 1) + stop
    first = np.searchsorted(ends, begins + (width + 1), side="right")
    last = np.searchsorted(begins, ends + (width + 1), side="left")
    count = np.maximum(last - first, 0)
    one = np.repeat(np.arange(row.size), count)
    two = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    return order[one], order[two]
