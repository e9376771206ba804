"""Pictures of a volume for a report: its three middle slices, as a radiologist hangs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.io.orientation import axis_map
from segflow.io.volume import VolumeSpec, open_volume
from tiling.box import Box

Slices = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]


def middle_slices(read: Callable[[Box], NDArray[Any]], grid: Grid, max_px: int | None = None) -> Slices:
    """Return the middle axial, coronal and sagittal slice of anything that is read in boxes.

    Radiological convention: the patient's right is on the left of axial and coronal pictures; superior is up (on
    axial ones anterior); sagittal ones look to the left (anterior). Nearest neighbour, square pixels.

    Args:
        read: gives values (x, y, z) of a box of `grid`: an image's channel, labels, a confidence.
        grid: a volume's, in any orientation.
        max_px: longest side of the largest picture; None keeps about a pixel for each smallest voxel side.

    Returns:
        Three arrays (row, column) in the dtype of `read`; the same grid gives the same shapes.
    """
    affine = np.eye(4)
    if grid.affine is not None:
        affine[:3] = np.reshape(grid.affine, (3, 4))
    x, y, z = grid.shape
    turn = axis_map(affine, (x, y, z), "RAS")
    spacing = np.ones(3) if grid.spacing is None else np.array([grid.spacing[axis] for axis in turn.axes])
    extent = spacing * turn.shape
    pixel = float(spacing.min()) if max_px is None else max(float(spacing.min()), float(extent.max()) / max_px)
    samples = []
    for size, length in zip(turn.shape, extent, strict=True):
        count = max(1, round(length / pixel))
        samples.append(((np.arange(count) + 0.5) * size / count).astype(int))
    pictures = []
    for axis in (2, 1, 0):
        middle = turn.shape[axis] // 2
        box = turn.to_file(Box.whole(turn.shape).replace_axis(axis, middle, middle + 1))
        plane = turn.array_to_canonical(read(box)).take(0, axis=axis)
        rows, columns = (samples[other] for other in range(3) if other != axis)
        pictures.append(np.ascontiguousarray(plane[np.ix_(rows, columns)][::-1, ::-1].T))
    axial, coronal, sagittal = pictures
    return axial, coronal, sagittal


def slices(spec: VolumeSpec, max_px: int) -> Slices:
    """Return the middle slices of a volume's first channel as uint8 pictures, stretched from 1 % to 99 %.

    See `middle_slices` for how they are turned. What is not finite is black.

    Raises:
        InputError: a file is broken.
    """
    source = open_volume(spec)
    try:
        axial, coronal, sagittal = middle_slices(lambda box: source.read(box).values[0], source.grid, max_px)
    finally:
        source.close()
    every = np.concatenate([picture.ravel() for picture in (axial, coronal, sagittal)]).astype(np.float64)
    every = every[np.isfinite(every)]
    low, high = np.percentile(every, (1, 99)) if every.size else (0.0, 1.0)
    return _stretched(axial, low, high), _stretched(coronal, low, high), _stretched(sagittal, low, high)


def _stretched(picture: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    share = (np.nan_to_num(picture.astype(np.float64), nan=low, posinf=high, neginf=low) - low) / max(high - low, 1e-12)
    return np.asarray(np.round(np.clip(share, 0.0, 1.0) * 255.0), dtype=np.uint8)
