"""What the recipe's `postprocess` does to a label map, as a sequence of changes of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segflow.postprocess.components import Components, Connectivity, Read, components
from segflow.postprocess.sieve import sieve
from segflow.recipe.postprocess import Postprocess
from tiling import Box

Write = Callable[[Box, NDArray[Any]], None]
"""Takes the class ids of a box; boxes are slabs along the first axis, in order, and cover the map."""


class Change(Protocol):
    """One pass over the labels: all of them are read, twice, and all of them are written as they are afterwards."""

    def __call__(self, read: Read, shape: tuple[int, ...], write: Write, slab_cells: int = 1 << 22) -> None:
        """Change labels.

        Args:
            read: gives the class ids of a box.
            shape: of the label map, two or three axes.
            write: takes the changed ids.
            slab_cells: about how many cells are in memory at once; the result does not depend on it.
        """


def changes(wanted: Postprocess, nodata: int | None = None) -> Iterator[Change]:
    """Yield the changes in the order in which they are made: regions are sieved, removed, then holes are filled.

    Args:
        wanted: what is changed.
        nodata: the label of a raster's cells without valid input, which stay what they are.
    """
    if wanted.sieve is not None:
        yield partial(_sieve, wanted.sieve, wanted.connectivity, nodata)
    if wanted.min_size or wanted.keep_largest:
        yield partial(_remove, wanted)
    for filled in wanted.fill_holes:
        yield partial(_fill, wanted.background, filled)


def _sieve(
    size: int,
    connectivity: Connectivity,
    nodata: int | None,
    read: Read,
    shape: tuple[int, ...],
    write: Write,
    slab_cells: int = 1 << 22,
) -> None:
    """Give small regions of a raster to their largest neighbour."""
    height, width = shape
    for box, labels in sieve(read, (height, width), size, connectivity, nodata, max(1, slab_cells // width)).strips():
        write(box, labels)


def _remove(wanted: Postprocess, read: Read, shape: tuple[int, ...], write: Write, slab_cells: int = 1 << 22) -> None:
    """Make background of regions that are too small, or not the largest of their class."""
    classes = sorted({*wanted.min_size, *wanted.keep_largest})

    def marked(labels: NDArray[Any]) -> NDArray[np.uint32]:
        return np.where(np.isin(labels, classes), labels.astype(np.uint32) + 1, np.uint32(0))

    found = components(read, shape, marked, wanted.connectivity, slab_cells)
    removed = np.zeros(len(found.size), np.bool_)
    for name, size in wanted.min_size.items():
        removed |= (found.value == name + 1) & (found.size < size)
    for name in wanted.keep_largest:
        removed |= (found.value == name + 1) & ~_largest(found, name + 1)
    for box, labels, inside in _cells_of(found, removed):
        write(box, np.where(inside, labels.dtype.type(wanted.background), labels))


def _fill(
    background: int, filled: int, read: Read, shape: tuple[int, ...], write: Write, slab_cells: int = 1 << 22
) -> None:
    """Give a class the background that it encloses.

    What is not of the class, and is not connected with the border by faces, is enclosed, as in
    `scipy.ndimage.binary_fill_holes`; other classes inside of it stay what they are.
    """
    found = components(read, shape, lambda labels: (labels != filled).astype(np.uint32), "faces", slab_cells)
    for box, labels, inside in _cells_of(found, found.enclosed):
        write(box, np.where(inside & (labels == background), labels.dtype.type(filled), labels))


def _largest(found: Components, value: int) -> NDArray[np.bool_]:
    """Return which component is the largest of a value; of equal ones, the one whose first cell is read first."""
    of_value = np.flatnonzero(found.value == value)
    best = np.zeros(len(found.size), np.bool_)
    if of_value.size:
        best[of_value[np.lexsort((found.first[of_value], -found.size[of_value]))[0]]] = True
    return best


def _cells_of(found: Components, chosen: NDArray[np.bool_]) -> Iterator[tuple[Box, NDArray[Any], NDArray[np.bool_]]]:
    """Yield slab by slab its box, its labels, and which of its cells lie in a component that is chosen."""
    of_number = np.append(chosen, False)  # the last is that of -1: no component
    for box, labels, number in found.cells():
        yield box, labels, of_number[number]
