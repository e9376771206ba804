"""Pictures of a volume for a report: three orthogonal slices, as a radiologist hangs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.io.orientation import turn_of
from tiling.box import Box

Slices = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def orthogonal_slices(
    read: Callable[[Box], NDArray[Any]], grid: Grid, max_px: int | None = None, at: tuple[int, ...] | None = None
) -> Slices:
    """Return an axial, a coronal and a sagittal slice of anything that is read in boxes.

    Radiological convention: the patient's right is on the left of axial and coronal pictures; superior is up (on
    axial ones anterior); sagittal ones look to the left (anterior). Nearest neighbour, square pixels.

    Args:
        read: gives values (x, y, z) of a box of `grid`: an image's channel, labels, a confidence.
        grid: a volume's, in any orientation.
        max_px: longest side of the largest picture; None keeps about a pixel for each smallest voxel side.
        at: the voxel of `grid` that the slices go through; the middle one when None.

    Returns:
        Three arrays (row, column) in the dtype of `read`; the same grid gives the same shapes.
    """
    x, y, z = grid.shape
    turn = turn_of(grid.matrix, (x, y, z), "RAS")
    spacing = np.ones(3) if grid.spacing is None else np.array([grid.spacing[axis] for axis in turn.axes])
    extent = spacing * turn.shape
    pixel = float(spacing.min()) if max_px is None else max(float(spacing.min()), float(extent.max()) / max_px)
    samples = []
    for size, length in zip(turn.shape, extent, strict=True):
        count = max(1, round(length / pixel))
        samples.append(((np.arange(count) + 0.5) * size / count).astype(int))
    through = at if at is not None else tuple(n // 2 for n in grid.shape)
    voxel = turn.to_canonical(Box(through, tuple(i + 1 for i in through)))
    pictures = []
    for axis in (2, 1, 0):
        place = voxel.start[axis]
        box = turn.to_file(Box.whole(turn.shape).replace_axis(axis, place, place + 1))
        plane = turn.array_to_canonical(read(box)).take(0, axis=axis)
        rows, columns = (samples[other] for other in range(3) if other != axis)
        pictures.append(np.ascontiguousarray(plane[np.ix_(rows, columns)][::-1, ::-1].T))
    axial, coronal, sagittal = pictures
    return axial, coronal, sagittal
