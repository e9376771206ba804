"""Connected components of an array that is read in slabs along its first axis, joined across their seams.

Within a slab they are found by `cc3d` (Silversmith, connected-components-3d); pieces that meet at a seam are joined as
a graph (`segflow.union`). Memory: one slab, and a few numbers for each piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segflow.union import united
from tiling import Box

Read = Callable[[Box], NDArray[Any]]
"""Gives the values of a box."""

Values = Callable[[NDArray[Any]], NDArray[np.uint32]]
"""Gives what is connected where it is equal, and 0 for what is in no component."""

Connectivity = Literal["faces", "corners"]

_SLAB_CELLS = 1 << 22
_NONE = np.full(1, -1, np.int32)
_CC3D: dict[tuple[Connectivity, int], Literal[4, 6, 8, 26]] = {
    ("faces", 2): 4,
    ("corners", 2): 8,
    ("faces", 3): 6,
    ("corners", 3): 26,
}


@dataclass(frozen=True, slots=True)
class Components:
    """The components of an array.

    Attributes:
        slabs: the boxes in which the array was read.
        value: (component) uint32, the value that its cells have.
        size: (component) int64, cells.
        first: (component) int64, its first cell in reading order: a tie is broken by it.
        enclosed: (component) bool, True = no cell of it lies at the array's border.
    """

    slabs: tuple[Box, ...]
    value: NDArray[np.uint32]
    size: NDArray[np.int64]
    first: NDArray[np.int64]
    enclosed: NDArray[np.bool_]
    _read: Read
    _values: Values
    _connectivity: Connectivity
    _of_piece: tuple[NDArray[np.int32], ...]

    def cells(self) -> Iterator[tuple[Box, NDArray[Any], NDArray[np.int32]]]:
        """Yield slab by slab its box, what was read, and (*box) int32 the component of each cell; -1 = none."""
        for box, of_piece in zip(self.slabs, self._of_piece, strict=True):
            read = self._read(box)
            pieces, _ = _pieces(self._values(read), self._connectivity)
            yield box, read, np.concatenate((_NONE, of_piece))[pieces]


@dataclass(frozen=True, slots=True)
class _Slab:
    """The pieces of one slab; arrays have one entry a piece."""

    value: NDArray[np.uint32]
    size: NDArray[np.int64]
    first: NDArray[np.int64]
    enclosed: NDArray[np.bool_]


def components(
    read: Read, shape: Sequence[int], values: Values, connectivity: Connectivity, slab_cells: int = _SLAB_CELLS
) -> Components:
    """Find the connected components of an array.

    Args:
        read: gives a box of it; called twice for each slab.
        shape: of the array, two or three axes.
        values: what is connected where it is equal; 0 is in no component.
        connectivity: of cells by faces, or by corners too.
        slab_cells: about how many cells are in memory at once; the components do not depend on it.
    """
    whole = Box.whole(tuple(shape))
    rows = max(1, slab_cells // prod(whole.shape[1:]))
    starts = range(0, whole.shape[0], rows)
    slabs = tuple(whole.replace_axis(0, start, min(start + rows, whole.shape[0])) for start in starts)
    found: list[_Slab] = []
    joints: list[NDArray[np.int64]] = []
    edge: tuple[NDArray[np.int64], NDArray[np.uint32]] | None = None
    offset = 0
    for box in slabs:
        marked = values(read(box))
        pieces, count = _pieces(marked, connectivity)
        if edge is not None:
            joints.append(_joined(edge, (pieces[0].astype(np.int64) + (offset - 1), marked[0]), connectivity))
        edge = pieces[-1].astype(np.int64) + (offset - 1), marked[-1].copy()
        found.append(_slab(pieces, marked, count, box, whole))
        offset += count
    of_piece = united(np.concatenate([np.empty((0, 2), np.int64), *joints]), offset)
    ends = np.cumsum([len(slab.size) for slab in found])
    number = int(of_piece.max(initial=-1)) + 1
    size, first = np.zeros(number, np.int64), np.full(number, np.iinfo(np.int64).max)
    value, enclosed = np.zeros(number, np.uint32), np.ones(number, np.bool_)
    np.add.at(size, of_piece, np.concatenate([slab.size for slab in found]))
    np.minimum.at(first, of_piece, np.concatenate([slab.first for slab in found]))
    np.logical_and.at(enclosed, of_piece, np.concatenate([slab.enclosed for slab in found]))
    value[of_piece] = np.concatenate([slab.value for slab in found])
    return Components(
        slabs, value, size, first, enclosed, read, values, connectivity, tuple(np.split(of_piece, ends[:-1]))
    )


def _pieces(marked: NDArray[np.uint32], connectivity: Connectivity) -> tuple[NDArray[np.unsignedinteger], int]:
    """Number the pieces of a slab from 1; 0 = none."""
    import cc3d

    raw, count = cc3d.connected_components(
        np.ascontiguousarray(marked), connectivity=_CC3D[connectivity, marked.ndim], return_N=True
    )
    return np.asarray(raw), int(count)


def _slab(pieces: NDArray[np.unsignedinteger], marked: NDArray[np.uint32], count: int, box: Box, whole: Box) -> _Slab:
    flat = pieces.ravel()
    first = np.zeros(count + 1, np.int64)
    first[flat[::-1]] = np.arange(flat.size - 1, -1, -1)  # of equal indices the last is kept: the first cell
    enclosed = np.ones(count + 1, np.bool_)
    for axis in range(pieces.ndim):
        for side, at_border in ((0, box.start[axis] == 0), (-1, box.stop[axis] == whole.shape[axis])):
            if at_border:
                enclosed[np.take(pieces, side, axis).ravel()] = False
    size = np.bincount(flat, minlength=count + 1)
    value = marked.ravel()[first]
    ahead = box.start[0] * prod(whole.shape[1:])
    return _Slab(value[1:], size[1:], first[1:] + ahead, enclosed[1:])


def _joined(
    before: tuple[NDArray[np.int64], NDArray[np.uint32]],
    after: tuple[NDArray[np.int64], NDArray[np.uint32]],
    connectivity: Connectivity,
) -> NDArray[np.int64]:
    """Return the pairs (n, 2) of pieces that meet at a seam."""
    axes = before[0].ndim
    shifts = product((-1, 0, 1), repeat=axes) if connectivity == "corners" else [(0,) * axes]
    found = []
    for shift in shifts:
        here = tuple(slice(max(0, s), n + min(0, s)) for s, n in zip(shift, before[0].shape, strict=True))
        there = tuple(slice(max(0, -s), n + min(0, -s)) for s, n in zip(shift, before[0].shape, strict=True))
        meets = (before[1][here] == after[1][there]) & (before[1][here] != 0)
        found.append(np.stack((before[0][here][meets], after[0][there][meets]), axis=1))
    return np.unique(np.concatenate(found), axis=0)
