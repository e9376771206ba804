"""Volumes that are prepared as a whole, as nnU-Net does it: cut to what is not 0, standardised, resampled by splines.

Isensee et al.: nnU-Net, Nature Methods 18 (2021), 203-211. What depends on the whole volume (the crop, the statistics)
is settled once, by the driver; the prepared volume is made once, one channel after another, in a scratch file that all
workers of a run share. A float32 channel of the cropped volume and one of the prepared volume are in memory while it is
made, and a box of it afterwards.
"""

from __future__ import annotations

import hashlib
import weakref
from contextlib import ExitStack
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.io.scratch import scratch_file
from segflow.io.settling import Numbers, Settled, nonzero, settle, slabs
from segflow.io.source import Pixels, Source
from segflow.io.zoom import zoom_volume
from segflow.models.card import Card
from tiling.block import Frame
from tiling.box import Box


class PreparedVolume:
    """A volume, and what a model sees of it; see `segflow.io.source.PreparedSource`.

    Args:
        source: the volume as it is.
        settled: from `settle`, for that volume.
        scratch: folder for the prepared volume, shared by all workers of a run; None for a nameless temporary file.
    """

    def __init__(self, source: Source, settled: Settled, scratch: str | None = None) -> None:
        self._source = source
        self._settled = settled
        self._scratch = scratch
        self._file: BinaryIO | None = None
        self._held = ExitStack()
        # One that is forgotten lets go of its file as well.
        self._close = weakref.finalize(self, self._held.close)

    @property
    def settled(self) -> Settled:
        """How the volume is prepared."""
        return self._settled

    @property
    def name(self) -> str:
        """The volume's name."""
        return self._source.name

    @property
    def notices(self) -> tuple[str, ...]:
        """What is odd in the file."""
        return self._source.notices

    @property
    def grid(self) -> Grid:
        """The volume's own grid, in the orientation that was asked for."""
        return self._source.grid

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self._source.channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the raw values."""
        return self._source.dtype

    @property
    def slab_axis(self) -> int:
        """The axis that the file stores slowest."""
        return self._source.slab_axis

    @property
    def sweep_axis(self) -> int | None:
        """None: any will do."""
        return None

    def read(self, box: Box) -> Pixels:
        """Read raw values of a box of the volume's own grid."""
        return self._source.read(box)

    def wanted(self, box: Box) -> NDArray[np.bool_] | None:
        """Return None: all voxels are asked for."""
        return None

    def read_model(self, box: Box) -> NDArray[np.float32]:
        """Read a box of the model's grid, zeros where it is padding. See `PreparedSource.read_model`."""
        values = np.zeros((self.channels, *box.shape), np.float32)
        inner = self._settled.inner
        held = box.intersect(inner)
        if held is not None:
            stored = np.memmap(self._made(), np.float32, "r", shape=(self.channels, *self._settled.shape))
            values[(slice(None), *held.within(box))] = stored[(slice(None), *held.within(inner))]
            del stored  # with its pages, which would else count as this process's memory
        return values

    def identity(self) -> str:
        """Return a string that changes when the content, or how it is prepared, may have."""
        return hashlib.sha256(f"{self._source.identity()}|{self._settled}".encode()).hexdigest()

    def close(self) -> None:
        """Let go of the files."""
        self._close()
        self._source.close()

    def _made(self) -> BinaryIO:
        if not self._close.alive:
            raise ValueError(f"{self.name} was closed")
        if self._file is None:
            size = 4 * self.channels * Box.whole(self._settled.shape).size
            self._file = scratch_file(self.identity(), size, self._scratch, self._write)
            self._held.callback(self._file.close)
        return self._file

    def _write(self, target: BinaryIO) -> None:
        settled = self._settled
        mask = nonzero(self._source, settled.crop) if any(item.masked for item in settled.numbers) else None
        for channel, numbers in enumerate(settled.numbers):
            values = np.empty(settled.crop.shape, np.float32)
            for part, raw in slabs(self._source, settled.crop):
                at = part.within(settled.crop)
                values[at] = standardised(raw[channel], numbers, None if mask is None else mask[at])
            made = zoom_volume(values, settled.shape, settled.order, settled.apart, settled.order_apart)
            target.write(made.tobytes())


def prepared(source: Source, card: Card, patch: tuple[int, ...], scratch: str | None = None) -> PreparedVolume | None:
    """Return the volume as a model sees it that has volumes prepared as a whole; None for all other models.

    Raises:
        InputError: see `settle`.
    """
    if card.preparation is None:
        return None
    spacing = None if source.grid.spacing is None else card.spacing
    return PreparedVolume(source, settle(source, card.preparation, spacing, patch), scratch)


def frame_of(seen: PreparedVolume | None) -> Frame | None:
    """Return where the model's grid lies in a prepared volume; None where there is none."""
    return None if seen is None else seen.settled.frame


def standardised(raw: NDArray[Any], numbers: Numbers, mask: NDArray[np.bool_] | None) -> NDArray[np.float32]:
    """Return one channel's values as the model sees them, before they are resampled."""
    values = raw.astype(np.float32)
    if numbers.lower is not None or numbers.upper is not None:
        np.clip(values, numbers.lower, numbers.upper, out=values)
    out = (values - np.float32(numbers.mean)) / np.float32(numbers.deviation)
    return np.where(mask, out, values) if numbers.masked and mask is not None else out
