"""Small regions given to their largest neighbour, over the whole map at once: the sieve of GDAL (`gdal_sieve`).

A region of fewer cells than asked for takes the label of its largest neighbour, of equally large ones the one that
a scan by rows meets first; if that is too small as well, of its largest neighbour, and so on, and it stays as it is
if that leads to no large one. All are judged by the sizes before the sieve, and by their true ones, not by what of
them lies in a strip: a first pass numbers and measures regions, a second finds neighbours, and what is read
afterwards is relabelled. Memory goes with a strip and some 40 bytes for each region in a strip, as GDAL's does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.union import united

Ints = NDArray[np.int64]

# Rows from the first to before the second, as labels.
ReadRows = Callable[[int, int], NDArray[Any]]
_LARGEST = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Sieved:
    """A label map as it is after the sieve; read in the strips that it was measured in.

    Attributes:
        read: gives the rows before the sieve.
        nodata: the label of cells that are of no region; None where all are.
        connectivity: 4 or 8.
        labels: new labels of all strips' regions, strip by strip.
        begins: where a strip's regions begin in `labels`, by its first row.
    """

    read: ReadRows
    nodata: int | None
    connectivity: int
    labels: NDArray[np.uint16]
    begins: dict[int, int]

    def rows(self, first: int, end: int) -> NDArray[np.uint16]:
        """Return the labels of a strip."""
        window, numbers, _ = _numbered(self.read, first, end, self.nodata, self.connectivity)
        out = self.labels[numbers[1:] + self.begins[first]]
        if self.nodata is not None:
            out[window[1:] == 0] = self.nodata
        return np.asarray(out)


def sieve(
    read: ReadRows, strips: Sequence[tuple[int, int]], size: int, connectivity: int, nodata: int | None
) -> Sieved:
    """Measure a label map's regions and find what becomes of the small ones.

    Args:
        read: gives rows of labels.
        strips: first row and end of each strip, from top to bottom.
        size: cells that a region needs to stay.
        connectivity: 4 or 8.
        nodata: the label of cells that are of no region and no neighbour.
    """
    begins, region, cells, value = _measured(read, strips, connectivity, nodata)
    best = np.full(len(cells), -1, np.int64)
    for first, end in strips:
        window, numbers, _ = _numbered(read, first, end, nodata, connectivity)
        _meet(best, region[numbers + begins[first]], window, cells, size, connectivity)
    return Sieved(read, nodata, connectivity, value[_ends(best, cells >= size)][region], begins)


def _ends(best: Ints, large: NDArray[np.bool_]) -> Ints:
    """Return where the way from largest neighbour to largest neighbour ends: at a large one, or where it began.

    Ways run in circles where all are small; there, nothing changes.
    """
    itself = np.arange(len(best))
    ends = np.where(large | (best < 0), itself, best)
    while True:
        farther = ends[ends]
        if np.array_equal(large[farther], large[ends]):
            return np.where(large[ends], ends, itself)
        ends = farther


def _numbered(
    read: ReadRows, first: int, end: int, nodata: int | None, connectivity: int
) -> tuple[NDArray[np.uint16], NDArray[Any], int]:
    """Return a strip below the row before it, with values one more than labels and 0 for nodata, and its regions."""
    import cc3d

    rows = read(max(first - 1, 0), end)
    window = np.zeros((end - first + 1, rows.shape[1]), np.uint16)
    window[-len(rows) :] = rows
    window[-len(rows) :] += 1
    if nodata is not None:
        window[window == nodata + 1] = 0
    numbers, count = cc3d.connected_components(window, connectivity=connectivity, return_N=True)
    return window, numbers, count


def _measured(
    read: ReadRows, strips: Sequence[tuple[int, int]], connectivity: int, nodata: int | None
) -> tuple[dict[int, int], NDArray[np.int32], Ints, NDArray[np.uint16]]:
    """Return where strips' regions begin, the map's region of each, and cells and label of the map's regions."""
    begins: dict[int, int] = {}
    cells: list[Ints] = []
    values: list[NDArray[np.uint16]] = []
    same: list[Ints] = []
    before: NDArray[Any] | None = None
    total = 0
    for first, end in strips:
        window, numbers, count = _numbered(read, first, end, nodata, connectivity)
        begins[first] = total
        cells.append(np.bincount(numbers[1:].ravel(), minlength=count + 1))
        value = np.zeros(count + 1, np.uint16)
        value[numbers.ravel()] = np.maximum(window, 1).ravel() - 1
        values.append(value)
        if before is not None:
            pairs = np.column_stack((before, numbers[0].astype(np.int64) + total))[window[0] > 0]
            same.append(np.unique(pairs, axis=0))
        before = numbers[-1].astype(np.int64) + total
        total += count + 1
    links = np.concatenate(same) if same else np.zeros((0, 2), np.int64)
    region = united(links, total)
    count = int(region.max(initial=-1)) + 1
    value = np.zeros(count, np.uint16)
    value[region] = np.concatenate(values)
    sizes = np.bincount(region, np.concatenate(cells), count).astype(np.int64)
    return begins, region, np.minimum(sizes, _LARGEST), value


def _meet(
    best: Ints, region: NDArray[np.int32], window: NDArray[np.uint16], cells: Ints, size: int, connectivity: int
) -> None:
    """Note the largest neighbour that each small region has met so far, in `best`.

    Args:
        best: by region, changed.
        region: (rows + 1, columns) the map's region of each cell of a strip and the row before it.
        window: the same cells, 0 for nodata.
        cells: by region, its size.
        size: cells that a region needs to stay.
        connectivity: 4 or 8.
    """
    width = window.shape[1]
    ways = [(1, 0), (0, 1)] if connectivity == 4 else [(1, 0), (1, 1), (1, -1), (0, 1)]
    small, other, place = [], [], []
    for number, (up, left) in enumerate(ways):
        here = (slice(1, None), slice(max(left, 0), width + min(left, 0)))
        there = (slice(1 - up, len(window) - up), slice(max(-left, 0), width - max(left, 0)))
        apart = (window[here] != window[there]) & (window[here] > 0) & (window[there] > 0)
        y, x = np.nonzero(apart)
        one, two = region[here][y, x], region[there][y, x]
        scan = (y * width + x + max(left, 0)) * len(ways) + number
        for mine, theirs in ((one, two), (two, one)):
            chosen = cells[mine] < size
            small.append(mine[chosen])
            other.append(theirs[chosen])
            place.append(scan[chosen])
    mine, theirs, scanned = (np.concatenate(parts) for parts in (small, other, place))
    order = np.lexsort((scanned, -cells[theirs], mine))
    mine, theirs = mine[order], theirs[order]
    first = np.flatnonzero(np.diff(mine, prepend=-1))
    mine, theirs = mine[first], theirs[first]
    better = (best[mine] < 0) | (cells[theirs] > cells[best[mine]])
    best[mine[better]] = theirs[better]
