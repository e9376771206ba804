"""The accumulator: weighted probabilities summed in whole numbers, so that no order of adding can change a bit."""

from __future__ import annotations

from math import ceil
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from tiling.box import Box

Store = Literal["int32", "int16"]


def scale_of(store: Store, most: int) -> int:
    """Return the whole number that stands for a probability of 1.

    Args:
        store: type of the sums. int32 takes 2**24; int16 what leaves room for every rounding,
            ``32767 - ceil(most / 2)``.
        most: how many contributions one cell can get (patches that cover it, times passes over each).

    Raises:
        ValueError: the roundings of so many contributions could reach a thousandth of the scale.
    """
    scale = 2**24 if store == "int32" else 32767 - ceil(most / 2)
    if scale < 1 or most / (2 * scale) > 1e-3:
        raise ValueError(
            f"{most} contributions a cell are too many for {store} sums; use accumulator: int32, or less overlap"
        )
    return scale


class Accumulator(Protocol):
    """Sums over a band of rows that moves along the sweep's axis. Rows enter as zeros and leave when dropped."""

    @property
    def box(self) -> Box:
        """The cells that are held."""

    def add(self, probabilities: NDArray[np.float32], weight: NDArray[np.float32], where: Box) -> None:
        """Add one patch: probabilities (channel, *patch), weight (*patch) from `patch_weight`, its cells.

        Cells outside of the band are left out.

        Raises:
            FloatingPointError: a probability is not finite.
            ValueError: a probability lies outside 0..1.
        """

    def sums(self, start: int, stop: int) -> NDArray[np.signedinteger]:
        """Return the sums (channel, *cells) of the rows ``start <= i < stop``; valid until the next call."""

    def drop(self, start: int) -> None:
        """Let go of the rows before `start`; as many empty ones enter behind."""


class NumpyBand:
    """The accumulator in numpy, and the oracle for any other.

    Args:
        channels: channels of the network's output.
        box: cells that the band can ever see: the block's, on the model's grid.
        sweep: axis along which the band moves.
        depth: rows that are held at once: the patch's, and a few where the output is resampled.
        store: type of the sums.
    """

    _TOLERANCE = 1e-4

    def __init__(self, channels: int, box: Box, sweep: int, depth: int, store: Store = "int32") -> None:
        self._whole = box
        self._sweep = sweep
        self._first = box.start[sweep]
        self._depth = min(depth, box.shape[sweep])
        shape = (channels, *box.shape[:sweep], self._depth, *box.shape[sweep + 1 :])
        self._sums: NDArray[np.signedinteger] = np.zeros(shape, np.dtype(store))
        self._scratch: NDArray[np.float32] = np.empty(0, np.float32)

    @property
    def box(self) -> Box:
        """The cells that are held."""
        last = min(self._first + self._depth, self._whole.stop[self._sweep])
        return self._whole.replace_axis(self._sweep, self._first, last)

    @property
    def nbytes(self) -> int:
        """Bytes of the sums."""
        return self._sums.nbytes

    def add(self, probabilities: NDArray[np.float32], weight: NDArray[np.float32], where: Box) -> None:
        """Add one patch. See `Accumulator.add`."""
        low, high = float(probabilities.min()), float(probabilities.max())
        if not np.isfinite(low) or not np.isfinite(high):
            raise FloatingPointError(f"the network's output is not finite in the patch at {where.start}")
        if low < -self._TOLERANCE or high > 1 + self._TOLERANCE:
            raise ValueError(f"outputs from {low:.4g} to {high:.4g} are no probabilities")
        held = self.box.intersect(where)
        if held is None:
            return
        if self._scratch.shape != probabilities.shape:
            self._scratch = np.empty(probabilities.shape, np.float32)
        np.clip(probabilities, 0.0, 1.0, out=self._scratch)
        np.multiply(self._scratch, weight, out=self._scratch)
        np.rint(self._scratch, out=self._scratch)
        part = self._scratch[(slice(None), *held.within(where))]
        view = self._sums[(slice(None), *held.within(self.box))]
        np.add(view, part.astype(self._sums.dtype), out=view)

    def sums(self, start: int, stop: int) -> NDArray[np.signedinteger]:
        """Return the sums of some rows. See `Accumulator.sums`."""
        return self._sums[self._rows(start - self._first, stop - self._first)]

    def drop(self, start: int) -> None:
        """Let go of the rows before `start`. See `Accumulator.drop`."""
        gone = start - self._first
        if gone <= 0:
            return
        kept = max(0, self._depth - gone)
        if kept:
            self._sums[self._rows(0, kept)] = self._sums[self._rows(self._depth - kept, self._depth)]
        self._sums[self._rows(kept, self._depth)] = 0
        self._first = start

    def _rows(self, start: int, stop: int) -> tuple[slice, ...]:
        return (slice(None),) * (1 + self._sweep) + (slice(start, stop),)
