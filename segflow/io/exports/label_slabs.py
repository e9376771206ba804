"""A published label volume, read in the order of its file: one pass unpacks it once, and some planes are in memory."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.volume_header import VolumeHeader, read_errors

_SLAB_BYTES = 2 << 20

Extent = tuple[int, int, int, int, int, int]


def label_slabs(header: VolumeHeader) -> Iterator[tuple[int, NDArray[np.unsignedinteger]]]:
    """Yield the voxels of a label map from its first plane to its last.

    Args:
        header: of the label map, which `segflow.io.nifti` wrote: unsigned, unscaled, one channel.

    Yields:
        The number of the first plane, and (x, y, some z) in the file's own order of axes, uint8 or uint16.

    Raises:
        InputError: the file is broken or cut short.
    """
    nx, ny, nz = header.file_shape
    plane_bytes = nx * ny * header.dtype.itemsize
    depth = max(1, _SLAB_BYTES // plane_bytes)
    path = Path(header.path)
    try:
        with gzip.open(path, "rb") if header.compressed else path.open("rb") as file:
            file.read(header.offset_bytes)
            for low in range(0, nz, depth):
                planes = min(depth, nz - low)
                found = file.read(planes * plane_bytes)
                if len(found) < planes * plane_bytes:
                    raise EOFError(f"it ends in plane {low + len(found) // plane_bytes} of {nz}")
                yield low, np.frombuffer(found, header.dtype).reshape((nx, ny, planes), order="F")
    except read_errors() as error:
        raise InputError(
            f"{header.path} is broken: {str(error) or type(error).__name__}",
            "the label map that was written",
            "remove it and run again",
        ) from error


def label_extents(header: VolumeHeader) -> dict[int, Extent]:
    """Return the bounding box of each label but 0 that occurs: first and last voxel along x, y and z of the file.

    Raises:
        InputError: the file is broken.
    """
    from scipy.ndimage import find_objects

    boxes: dict[int, Extent] = {}
    for low, slab in label_slabs(header):
        for label, found in enumerate(find_objects(slab), 1):
            if found is None:
                continue
            x, y, z = found
            box = (x.start, x.stop - 1, y.start, y.stop - 1, low + z.start, low + z.stop - 1)
            boxes[label] = _joined(boxes[label], box) if label in boxes else box
    return boxes


def _joined(one: Extent, two: Extent) -> Extent:
    x0, x1, y0, y1, z0, z1 = (pick(a, b) for a, b, pick in zip(one, two, (min, max, min, max, min, max), strict=True))
    return x0, x1, y0, y1, z0, z1
