"""Volumes in: NIfTI, FreeSurfer, NRRD, MetaImage and DICOM, read box by box in the orientation that the model wants."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import GridMismatchError, InputError
from segflow.grid import Grid
from segflow.io.orientation import Triple, canonical_affine, require_orientation, turn_of
from segflow.io.settling import Settled
from segflow.io.source import Pixels
from segflow.io.volume_file import StoredVolume, volume_grid
from segflow.io.volume_formats import content_of_volume, name_of_volume, read_header
from segflow.io.volume_header import VolumeHeader
from tiling.box import Box

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """What to open, and how. Plain data: it is pickled to workers, which open their own source.

    Attributes:
        path: one file (of DICOM `PLACE#KEY`, see `segflow.io.dicom`), or several with one channel each.
        orientation: the axes' directions that the model wants, such as "RAS", or the file's own axes, such as "kji".
        resample_to: with several files, the number of the one whose grid the others are put on; None refuses
            files whose grids differ.
        scratch: folder for unpacked copies, shared by all workers of a run; None for nameless temporary files.
        settled: how the volume is prepared for the model as a whole; None: it is not.
    """

    path: str | tuple[str, ...]
    orientation: str = "RAS"
    resample_to: int | None = None
    scratch: str | None = None
    settled: Settled | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The files."""
        return (self.path,) if isinstance(self.path, str) else self.path


class VolumeSource:
    """A scene of one or several volume files; see `segflow.io.source.Source`. Made by `open_volume`.

    Attributes:
        notices: what is odd in the headers and how it was read.
    """

    def __init__(self, spec: VolumeSpec, parts: tuple[StoredVolume, ...], grid: Grid, notices: tuple[str, ...]) -> None:
        self.spec = spec
        self.notices = notices
        self._parts = parts
        self._grid = grid
        self._identity: str | None = None

    @property
    def name(self) -> str:
        """The first file's name without its extensions."""
        return name_of_volume(self.spec.paths[0])

    @property
    def grid(self) -> Grid:
        """The grid, in the orientation that was asked for."""
        return self._grid

    @property
    def channels(self) -> int:
        """Number of channels, over all files."""
        return sum(part.channels for part in self._parts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values: the files' own, float32 where they are scaled or resampled."""
        return np.result_type(*(part.dtype for part in self._parts))

    @property
    def unpacked_bytes(self) -> int:
        """Bytes of scratch that reading takes: files that are packed, unpacked."""
        packed = (part.header for part in self._parts if part.header.compressed)
        return sum(header.offset_bytes + header.data_bytes for header in packed)

    @property
    def stored_order(self) -> Triple:
        """The grid's axes from the slowest in the (first) file to the fastest: read slabs across the first one."""
        axes = self._parts[0].turn.axes
        return axes.index(2), axes.index(1), axes.index(0)

    @property
    def slab_axis(self) -> int:
        """The slowest axis of the (first) file."""
        return self.stored_order[0]

    @property
    def sweep_axis(self) -> int | None:
        """None: unpacked volumes can be read along any axis."""
        return None

    def read(self, box: Box) -> Pixels:
        """Read a box: values (channel, x, y, z), and valid where all channels are finite. Zeros are valid.

        Raises:
            InputError: a file is broken there.
        """
        pieces = [part.read(box) for part in self._parts]
        values = pieces[0] if len(pieces) == 1 else np.concatenate(pieces).astype(self.dtype, copy=False)
        if values.dtype.kind == "f":
            return Pixels(values, np.isfinite(values).all(axis=0))
        return Pixels(values, np.ones(box.shape, dtype=np.bool_))

    def wanted(self, box: Box) -> NDArray[np.bool_] | None:
        """Return None: all voxels of a volume are asked for."""
        return None

    def identity(self) -> str:
        """Return a sum over the files' bytes and how they are read.

        Raises:
            InputError: a file cannot be read.
        """
        if self._identity is None:
            digest = hashlib.sha256(f"{self._grid}|{self.channels}|{self.dtype}|{self.spec.resample_to}".encode())
            for path in self.spec.paths:
                digest.update(content_of_volume(path).encode())
            self._identity = digest.hexdigest()
        return self._identity

    def close(self) -> None:
        """Let go of the files and remove what was unpacked."""
        for part in self._parts:
            part.close()


def open_volume(spec: VolumeSpec) -> VolumeSource:
    """Open one scene; only headers are read.

    Raises:
        InputError: a file is missing, broken, cut short, or holds what is no volume of numbers.
        GridMismatchError: several files lie on different grids and `resample_to` is not set.
    """
    require_orientation(spec.orientation)
    if not spec.paths:
        raise InputError("a scene without files", "at least one volume", "name one in `inputs`")
    if spec.resample_to is not None and not 0 <= spec.resample_to < len(spec.paths):
        raise ValueError(f"resample_to is {spec.resample_to}, there are {len(spec.paths)} files")
    headers = [read_header(path) for path in spec.paths]
    if len(headers) > 1:
        _require_one_channel(headers)
    parts = [StoredVolume(header, spec.orientation, spec.scratch) for header in headers]
    grid = parts[spec.resample_to or 0].grid
    notices = [notice for header in headers for notice in header.notices]
    for number, part in enumerate(parts):
        try:
            grid.require_same_place(part.grid, spec.paths[spec.resample_to or 0], spec.paths[number])
        except GridMismatchError as error:
            if spec.resample_to is None:
                raise GridMismatchError(
                    error.found,
                    "all channels of a scene on one grid, voxel for voxel",
                    "set `inputs.resample_to` to the channel whose grid the others shall be put on",
                ) from error
            from segflow.io.volume_resample import resampled

            parts[number] = resampled(part, grid, spec.orientation, spec.scratch)
            notices.append(f"{spec.paths[number]} is resampled (linear) to {spec.paths[spec.resample_to]}")
    for notice in notices:
        _LOG.info(notice)  # the pipeline shows `notices` once; every worker comes by here
    return VolumeSource(spec, tuple(parts), grid, tuple(notices))


def compare_volumes(one: VolumeSource, two: VolumeSource) -> None:
    """Make sure that two volumes lie on one lattice of voxels, in whatever orientation each is stored or read.

    Raises:
        GridMismatchError: they do not.
    """
    first, second = (_in_ras(source) for source in (one, two))
    first.require_same_place(second, one.spec.paths[0], two.spec.paths[0])


def _in_ras(source: VolumeSource) -> Grid:
    matrix = source.grid.matrix
    x, y, z = source.grid.shape
    turn = turn_of(matrix, (x, y, z), "RAS")
    return volume_grid(canonical_affine(matrix, turn), turn.shape)


def _require_one_channel(headers: list[VolumeHeader]) -> None:
    for header in headers:
        if header.channels != 1:
            raise InputError(
                f"{header.path} holds {header.channels} channels and is one of {len(headers)} files of a scene",
                "one channel a file, or all channels in one file",
                "split it (nib-split), or give the 4-D file alone",
            )
