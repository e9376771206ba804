"""Flips and axis permutations between a volume's file order and the orientation that a model sees. Pure functions.

Orientations are three letters, as in NIfTI: "RAS" means that x runs to the Right, y to the front (Anterior), z up
(Superior). Or, for models that were trained on arrays as they are stored, the file's own axes i, j and k in the order
that the model sees them: "ijk" is the file's order, "kji" the reverse; nothing is flipped then. Nothing is ever
interpolated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from tiling.box import Box

ORIENTATIONS: tuple[str, ...] = tuple(
    "".join(letters) for pairs in permutations(("LR", "PA", "IS")) for letters in product(*pairs)
)
"""All 48 orientations."""

STORED: tuple[str, ...] = tuple("".join(letters) for letters in permutations("ijk"))
"""The six orders of a file's own axes."""

Triple = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """How the canonical axes lie in the file.

    Attributes:
        axes: for each canonical axis, the file's axis that it is.
        flips: for each canonical axis, True where it runs against the file's.
        file_shape: cells on each axis of the file.
    """

    axes: Triple
    flips: tuple[bool, bool, bool]
    file_shape: Triple

    def __post_init__(self) -> None:
        if sorted(self.axes) != [0, 1, 2]:
            raise ValueError(f"axes {self.axes} are no permutation of 0, 1, 2")

    @property
    def shape(self) -> Triple:
        """Cells on each canonical axis."""
        one, two, three = (self.file_shape[axis] for axis in self.axes)
        return one, two, three

    def to_file(self, box: Box) -> Box:
        """Return the file's box that holds the same voxels as a canonical one."""
        start, stop = [0, 0, 0], [0, 0, 0]
        for low, high, axis, flip, size in zip(box.start, box.stop, self.axes, self.flips, self.shape, strict=True):
            start[axis], stop[axis] = (size - high, size - low) if flip else (low, high)
        return Box(tuple(start), tuple(stop))

    def to_canonical(self, box: Box) -> Box:
        """Return the canonical box that holds the same voxels as one of the file."""
        start, stop = [], []
        for axis, flip, size in zip(self.axes, self.flips, self.shape, strict=True):
            low, high = box.start[axis], box.stop[axis]
            start.append(size - high if flip else low)
            stop.append(size - low if flip else high)
        return Box(tuple(start), tuple(stop))

    def array_to_canonical(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of an array (..., three file axes) with its last three axes in canonical order."""
        lead = array.ndim - 3
        turned = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        return turned[(..., *(slice(None, None, -1) if flip else slice(None) for flip in self.flips))]

    def array_to_file(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return a view of an array (..., three canonical axes) with its last three axes in the file's order."""
        lead = array.ndim - 3
        flipped = array[(..., *(slice(None, None, -1) if flip else slice(None) for flip in self.flips))]
        return flipped.transpose(*range(lead), *(lead + self.axes.index(axis) for axis in range(3)))


def require_orientation(orientation: str) -> str:
    """Return the orientation if it is one of the 48, or an order of the file's own axes.

    Raises:
        InputError: it is not.
    """
    if orientation not in ORIENTATIONS and orientation not in STORED:
        raise InputError(
            f"orientation {orientation!r}",
            "three letters, one each of R or L, A or P, S or I, such as RAS; or the file's own axes, such as kji",
            "correct `orientation` in the model card",
        )
    return orientation


def orientation_of(matrix: NDArray[np.float64], orientation: str) -> str:
    """Return the directions in which a grid's axes run, where its orientation only says how they are stored.

    Args:
        matrix: (4, 4), of the grid, in its own order of axes.
        orientation: the one that was asked for; one of the 48 is returned as it is.
    """
    if orientation not in STORED:
        return orientation
    return directions(matrix)


def directions(matrix: NDArray[np.float64]) -> str:
    """Return the directions in which the axes of a (4, 4) affine run, such as "RAS"."""
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(matrix))


def turn_of(affine: NDArray[np.float64], file_shape: Triple, orientation: str) -> Turn:
    """Return the map from a file's axes to an orientation, each axis going to the world axis that it is nearest to.

    Args:
        affine: (4, 4), from the file's voxel indices to millimetres, RAS+; not singular.
        file_shape: cells on each axis of the file.
        orientation: such as "RAS" or "kji".

    Raises:
        InputError: the orientation is none.
    """
    if orientation in STORED:
        one, two, three = ("ijk".index(letter) for letter in orientation)
        return Turn((one, two, three), (False, False, False), file_shape)
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    wanted = axcodes2ornt(tuple(require_orientation(orientation)))
    turn = ornt_transform(io_orientation(affine), wanted)
    target = [int(axis) for axis in turn[:, 0]]
    one, two, three = (target.index(axis) for axis in range(3))
    flips = (bool(turn[one, 1] < 0), bool(turn[two, 1] < 0), bool(turn[three, 1] < 0))
    return Turn((one, two, three), flips, file_shape)


def canonical_affine(affine: NDArray[np.float64], turn: Turn) -> NDArray[np.float64]:
    """Return the (4, 4) affine of the canonical array, given the file's."""
    to_file = np.zeros((4, 4))
    to_file[3, 3] = 1.0
    for axis, (source, flip, size) in enumerate(zip(turn.axes, turn.flips, turn.shape, strict=True)):
        to_file[source, axis] = -1.0 if flip else 1.0
        to_file[source, 3] = size - 1.0 if flip else 0.0
    return np.asarray(affine, dtype=np.float64) @ to_file
