"""Linear resampling of a channel onto another channel's grid, once, to scratch.

The whole channel is resampled slab by slab on a lattice of slabs that depends on the grid alone: every worker gets
the same bits, whatever block it reads, and memory does not grow with the volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from segflow.grid import Grid
from segflow.io.scratch import scratch_file
from segflow.io.volume_file import StoredVolume
from segflow.io.volume_formats import stamp_of_volume
from segflow.io.volume_header import VolumeHeader
from tiling.box import Box

_SLAB_VOXELS = 1 << 20


def resampled(part: StoredVolume, grid: Grid, orientation: str, scratch: str | None) -> StoredVolume:
    """Return a one-channel volume as it is seen on another grid: float32, NaN where it does not reach.

    A voxel's value reaches half a voxel beyond its centre. `grid` is in the same orientation.
    """
    x, y, z = grid.shape
    header = replace(
        part.header,
        file_shape=(x, y, z),
        dtype=np.dtype("<f4"),
        slope=1.0,
        inter=0.0,
        offset_bytes=0,
        affine=grid.affine or (),
    )

    def opener(header: VolumeHeader, folder: str | None) -> BinaryIO:
        key = f"{stamp_of_volume(header.path)}|{orientation}|{grid}"

        def write(target: BinaryIO) -> None:
            for slab in _slabs(part, grid):
                target.write(slab.tobytes(order="F"))
            part.close()

        return scratch_file(key, header.data_bytes, folder, write)

    return StoredVolume(header, orientation, scratch, opener)


def _slabs(part: StoredVolume, grid: Grid) -> Iterator[NDArray[np.float32]]:
    """Yield the resampled volume in slabs along z, (x, y, some z) float32."""
    nx, ny, nz = grid.shape
    index = np.linalg.solve(part.grid.matrix, grid.matrix)
    depth = max(1, _SLAB_VOXELS // (nx * ny))
    for low in range(0, nz, depth):
        here = np.stack(
            np.meshgrid(np.arange(nx), np.arange(ny), np.arange(low, min(low + depth, nz)), indexing="ij"), axis=0
        ).astype(np.float64)
        # Written out, since a BLAS may add in another order on another number of threads.
        places = np.stack([row[0] * here[0] + row[1] * here[1] + row[2] * here[2] + row[3] for row in index[:3]])
        yield _interpolated(part, places)


def _interpolated(part: StoredVolume, places: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the values at places (3, x, y, z), given in voxels of the part's grid."""
    size = np.array(part.grid.shape, dtype=np.float64).reshape(3, 1, 1, 1)
    reached = ((places >= -0.5) & (places <= size - 0.5)).all(axis=0)
    values = np.full(reached.shape, np.nan, dtype=np.float32)
    if not reached.any():
        return values
    wanted = np.clip(places[:, reached], 0.0, size.reshape(3, 1) - 1.0)
    start = np.floor(wanted.min(axis=1)).astype(int)
    stop = np.ceil(wanted.max(axis=1)).astype(int) + 1
    piece = part.read(Box(tuple(int(n) for n in start), tuple(int(n) for n in stop)))[0]
    values[reached] = map_coordinates(
        piece.astype(np.float64), wanted - start.reshape(3, 1), order=1, mode="nearest", output=np.float32
    )
    return values
