"""One volume file: its voxels, read in any order and in any orientation."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.dicom.volume import open_voxels
from segflow.io.orientation import Triple, canonical_affine, turn_of
from segflow.io.scratch import scratch_file, unpack
from segflow.io.volume_header import VolumeHeader
from tiling.box import Box

_RUN_BYTES = 4 << 20

Opener = Callable[[VolumeHeader, str | None], BinaryIO]


def volume_grid(affine: NDArray[np.float64], shape: Triple) -> Grid:
    """Return the grid of a (4, 4) affine in millimetres; the spacing is the length of each of its columns."""
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    return Grid(
        "volume",
        shape,
        affine=tuple(float(value) for value in affine[:3].ravel()),
        spacing=tuple(float(value) for value in spacing),
    )


def open_stored(header: VolumeHeader, scratch: str | None) -> BinaryIO:
    """Open a file's voxels for reading in any order, unpacked to scratch if need be.

    Raises:
        InputError: the file is gone, cut short or damaged; or scratch has no room.
    """
    if header.packing == "slices":
        return open_voxels(header, scratch)
    path = header.data_path
    try:
        if not header.compressed:
            return Path(path).open("rb")
        facts = Path(path).stat()
    except OSError as error:
        raise InputError(
            f"{path} cannot be opened: {error.strerror}", "the file that was there before", "put it back"
        ) from error
    needed = header.offset_bytes + header.data_bytes
    key = f"{Path(path).absolute()}|{facts.st_size}|{facts.st_mtime_ns}|{needed}"
    return scratch_file(key, needed, scratch, unpack(path, needed, header.packing, header.packed_at))


class StoredVolume:
    """One volume file, read in an orientation. The file is opened (and unpacked) at the first read.

    Reads go through plain file reads of at most 4 MiB and not through a memory map, so that a file that is cut while
    it is read gives an error and not a signal, and pages that were read do not count as the process's memory.
    """

    def __init__(
        self, header: VolumeHeader, orientation: str, scratch: str | None = None, opener: Opener = open_stored
    ) -> None:
        self.header = header
        self.turn = turn_of(header.matrix, header.file_shape, orientation)
        self.grid = volume_grid(canonical_affine(header.matrix, self.turn), self.turn.shape)
        self.channels = header.channels
        self.dtype: np.dtype[Any] = np.dtype(np.float32) if header.scaled else header.dtype.newbyteorder("=")
        self._scratch = scratch
        self._opener = opener
        self._file: BinaryIO | None = None
        self._held = ExitStack()
        # A source that is forgotten lets go as well, at the latest when Python ends.
        self._close = weakref.finalize(self, self._held.close)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the values (channel, x, y, z) of a box of the grid.

        Raises:
            InputError: the file is broken there.
        """
        if not Box.whole(self.grid.shape).contains(box):
            raise ValueError(f"{box} leaves the grid of {self.grid.shape}")
        inside = self.turn.to_file(box)
        values = np.empty((self.channels, *box.shape), self.dtype)
        view = self.turn.array_to_file(values)
        columns = slice(inside.start[0], inside.stop[0])
        for run in _runs(inside, self.header.file_shape, self.header.dtype.itemsize):
            for channel in range(self.channels):
                piece = self._run(channel, run)[columns]
                place = run.replace_axis(0, *_bounds(inside, 0)).within(inside)
                # What float32 cannot hold becomes infinite, and with that not valid.
                with np.errstate(over="ignore", invalid="ignore"):
                    if self.header.scaled:
                        piece = piece * np.float64(self.header.slope) + np.float64(self.header.inter)
                    view[channel][place] = piece
        return values

    def close(self) -> None:
        """Let go of the file. What was unpacked to a scratch folder stays for others: the folder's owner removes it."""
        self._close()

    def _opened(self) -> BinaryIO:
        if not self._close.alive:
            raise ValueError(f"{self.header.path} was closed")
        if self._file is None:
            self._file = self._opener(self.header, self._scratch)
            self._held.callback(self._file.close)
        return self._file

    def _run(self, channel: int, run: Box) -> NDArray[Any]:
        """Read whole rows that lie one after the other in the file."""
        file = self._opened()
        nx, ny, nz = self.header.file_shape
        item = self.header.dtype.itemsize
        first = ((channel * nz + run.start[2]) * ny + run.start[1]) * nx
        file.seek(self.header.offset_bytes + first * item)
        data = file.read(run.size * item)
        if len(data) != run.size * item:
            raise InputError(
                f"{self.header.path} ends before its voxels do", "the length that its header says", "copy it again"
            )
        return np.frombuffer(data, self.header.dtype).reshape(run.shape, order="F")


def _bounds(box: Box, axis: int) -> tuple[int, int]:
    return box.start[axis], box.stop[axis]


def _runs(inside: Box, file_shape: Triple, item_bytes: int) -> Iterator[Box]:
    """Cut a box of the file into runs of whole rows that are contiguous in the file and no larger than a read."""
    nx, ny, _ = file_shape
    (y0, y1), (z0, z1) = _bounds(inside, 1), _bounds(inside, 2)
    rows = max(1, _RUN_BYTES // (nx * item_bytes))
    planes = max(1, rows // ny) if y1 - y0 == ny else 1
    for z in range(z0, z1, planes):
        for y in range(y0, y1, rows):
            yield Box((0, y, z), (nx, min(y + rows, y1), min(z + planes, z1)))
