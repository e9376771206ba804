"""Small regions given to their largest neighbour, over the whole map at once: the sieve of GDAL (`gdal_sieve`).

A region of fewer cells than asked for takes the label of its largest neighbour, of equally large ones the one that
a scan by rows meets first; if that is too small as well, of its largest neighbour, and so on, and it stays as it is
if that leads to no large one. All are judged by the sizes before the sieve, and by their true ones, not by what of
them lies in a strip: regions are `Components`, a second pass over them finds neighbours, and a third relabels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.postprocess.components import Components, Connectivity, Read, components
from tiling import Box

Ints = NDArray[np.int64]
Numbers = NDArray[np.int32]

_LARGEST = 2**31 - 1
_WAYS = {"faces": ((1, 0), (0, 1)), "corners": ((1, 0), (1, 1), (1, -1), (0, 1))}
"""Where the neighbours are that a scan has met before a cell: rows up, columns to the left."""


@dataclass(frozen=True, slots=True)
class Sieved:
    """A label map as it is after the sieve.

    Attributes:
        regions: before the sieve.
        labels: new labels of the regions; after them nodata, of cells that are of none.
    """

    regions: Components
    labels: NDArray[np.uint16]

    def strips(self) -> Iterator[tuple[Box, NDArray[np.uint16]]]:
        """Yield strip by strip, from top to bottom, its box and its labels, (*box) uint16."""
        for box, _, region in self.regions.cells():
            yield box, self.labels[region]


def sieve(
    read: Read, shape: tuple[int, int], size: int, connectivity: Connectivity, nodata: int | None, rows: int
) -> Sieved:
    """Measure a label map's regions and find what becomes of the small ones.

    Args:
        read: gives the labels of a box.
        shape: of the map, (y, x).
        size: cells that a region needs to stay.
        connectivity: of cells by edges, or by corners too.
        nodata: the label of cells that are of no region and no neighbour; None where all are.
        rows: of a strip; the result does not depend on it.
    """

    def marked(labels: NDArray[Any]) -> NDArray[np.uint32]:
        values = labels.astype(np.uint32) + 1
        if nodata is not None:
            values[labels == nodata] = 0
        return values

    found = components(read, shape, marked, connectivity, rows * shape[1])
    cells = np.minimum(found.size, _LARGEST)
    best = np.full(len(cells), -1, np.int64)
    before = np.full((1, shape[1]), -1, np.int32)
    for _, _, region in found.cells():
        _meet(best, np.concatenate((before, region)), cells, size, _WAYS[connectivity])
        before = region[-1:].copy()
    kept = (found.value - 1)[_ends(best, cells >= size)]
    return Sieved(found, np.append(kept, nodata or 0).astype(np.uint16))


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


def _meet(best: Ints, region: Numbers, cells: Ints, size: int, ways: tuple[tuple[int, int], ...]) -> None:
    """Note the largest neighbour that each small region has met so far, in `best`.

    Args:
        best: by region, changed.
        region: (rows + 1, columns) the region of each cell of a strip and the row before it; -1 = none.
        cells: by region, its size.
        size: cells that a region needs to stay.
        ways: to the neighbours of a cell.
    """
    rows, width = region.shape
    small, other, place = [], [], []
    for number, (up, left) in enumerate(ways):
        here = region[1:, max(left, 0) : width + min(left, 0)]
        there = region[1 - up : rows - up, max(-left, 0) : width - max(left, 0)]
        y, x = np.nonzero((here != there) & (here >= 0) & (there >= 0))
        one, two = here[y, x], there[y, x]
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
