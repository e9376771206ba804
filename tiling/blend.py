"""The accumulator: weighted probabilities summed in whole numbers, so that no order of adding can change a bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil, prod
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tiling.box import Box
from tiling.decide import Decision

Store = Literal["int32", "int16"]

_PIECE = 1 << 16
"""Cells that are added at once: product, rounding and sum stay in the cache of a core."""


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

        Cells outside of the block, and rows that were dropped, are left out.

        Raises:
            FloatingPointError: a probability is not finite.
            ValueError: a probability lies outside 0..1, or the shapes do not fit.
            IndexError: the patch reaches rows of the block that have not entered yet; they would be lost.
        """

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the rows ``start <= i < stop`` in ranges that `sums` returns without copying."""

    def sums(self, start: int, stop: int) -> NDArray[np.signedinteger]:
        """Return the sums (channel, *cells) of the rows ``start <= i < stop``; valid until the next call.

        Raises:
            IndexError: not all of these rows are held.
        """

    def drop(self, start: int) -> None:
        """Let go of the rows before `start`; as many empty ones enter behind. Nothing happens if they are gone."""


@runtime_checkable
class Labelling(Accumulator, Protocol):
    """An accumulator that can label its cells itself, because the sums lie far from here."""

    def largest(self, start: int, stop: int, ids: Sequence[int], confident: bool) -> Decision:
        """Return what `tiling.argmax` makes of the sums of the rows ``start <= i < stop``.

        Args:
            start: first row.
            stop: behind the last row.
            ids: class ids, in the order of channels.
            confident: whether the winning sums are wanted; else they are 0.

        Raises:
            IndexError: not all of these rows are held.
        """

    def bytes(self, start: int, stop: int, scale: int) -> NDArray[np.uint8]:
        """Return what `tiling.to_byte` makes of the sums (channel, *cells) of the rows ``start <= i < stop``.

        Raises:
            IndexError: not all of these rows are held.
        """


class NumpyBand:
    """The accumulator in numpy, and the oracle for any other.

    Rows lie in a ring, so that nothing is copied when the band moves on. The block's last row is the ring's last, so
    that the last rows, which are taken all at once, lie in one piece.

    Args:
        channels: channels of the network's output.
        box: cells that the band can ever see: the block's, on the model's grid.
        sweep: axis along which the band moves.
        depth: rows that are held at once: the patch's, and a few where the output is resampled.
        store: type of the sums.
    """

    _TOLERANCE = 1e-4

    def __init__(self, channels: int, box: Box, sweep: int, depth: int, store: Store = "int32") -> None:
        if channels < 1 or depth < 1 or not 0 <= sweep < box.ndim:
            raise ValueError(f"{channels} channels and {depth} rows along axis {sweep} of {box} make no band")
        self._whole = box
        self._sweep = sweep
        self._first = box.start[sweep]
        self._depth = min(depth, box.shape[sweep])
        shape = (channels, *box.shape[:sweep], self._depth, *box.shape[sweep + 1 :])
        self._sums: Any = self._zeros(shape, store)

    def _zeros(self, shape: tuple[int, ...], store: Store) -> Any:
        """Return sums that are 0, where this accumulator keeps them."""
        return np.zeros(shape, np.dtype(store))

    @property
    def box(self) -> Box:
        """The cells that are held.

        Raises:
            ValueError: all rows of the block were dropped.
        """
        return self._whole.replace_axis(self._sweep, self._first, self._behind)

    @property
    def nbytes(self) -> int:
        """Bytes of the sums."""
        return int(self._sums.nbytes)

    @property
    def _behind(self) -> int:
        return min(self._first + self._depth, self._whole.stop[self._sweep])

    def add(self, probabilities: NDArray[np.float32], weight: NDArray[np.float32], where: Box) -> None:
        """Add one patch. See `Accumulator.add`."""
        self._require_fitting(probabilities.shape, weight.shape, where)
        low, high = float(probabilities.min()), float(probabilities.max())
        self._require_probabilities(low, high, where)
        for part, ring in self._wanted(where):
            inside = (slice(None), *part.within(where))
            values, share, sums = probabilities[inside], weight[inside[1:]], self._sums[(slice(None), *ring)]
            _add_rounded(values, share, sums, clipped=low < 0.0 or high > 1.0)

    def _require_fitting(self, probabilities: tuple[int, ...], weight: tuple[int, ...], where: Box) -> None:
        if probabilities != (len(self._sums), *where.shape) or weight != where.shape:
            raise ValueError(
                f"probabilities {probabilities} and weights {weight} do not fit {len(self._sums)} channels "
                f"of a patch {where.shape}"
            )

    def _require_probabilities(self, low: float, high: float, where: Box) -> None:
        if not np.isfinite(low) or not np.isfinite(high):
            raise FloatingPointError(f"the network's output is not finite in the patch at {where.start}")
        if low < -self._TOLERANCE or high > 1 + self._TOLERANCE:
            raise ValueError(f"outputs from {low:.4g} to {high:.4g} are no probabilities")

    def _wanted(self, where: Box) -> Iterator[tuple[Box, tuple[slice, ...]]]:
        """Yield the parts of a patch's cells that the band holds, as `_pieces` does.

        Raises:
            IndexError: some of them have not entered yet.
        """
        held = self._whole.intersect(where)
        if held is None or held.stop[self._sweep] <= self._first:
            return
        if held.stop[self._sweep] > self._behind:
            raise IndexError(f"{where} reaches beyond the rows {self._first}..{self._behind} that are held")
        held = held.replace_axis(self._sweep, max(held.start[self._sweep], self._first), held.stop[self._sweep])
        yield from self._pieces(held)

    def runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of rows in one piece. See `Accumulator.runs`."""
        for part, _ in self._pieces(self._whole.replace_axis(self._sweep, start, stop)):
            yield part.start[self._sweep], part.stop[self._sweep]

    def sums(self, start: int, stop: int) -> NDArray[np.signedinteger]:
        """Return the sums of some rows. See `Accumulator.sums`."""
        if not self._first <= start < stop <= self._behind:
            raise IndexError(f"rows {start}..{stop} were asked for, {self._first}..{self._behind} are held")
        rows = self._whole.replace_axis(self._sweep, start, stop)
        parts = [self._sums[(slice(None), *ring)] for _, ring in self._pieces(rows)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, 1 + self._sweep)

    def drop(self, start: int) -> None:
        """Let go of the rows before `start`. See `Accumulator.drop`."""
        gone = min(start, self._behind)
        if gone <= self._first:
            return
        for _, ring in self._pieces(self._whole.replace_axis(self._sweep, self._first, gone)):
            self._sums[(slice(None), *ring)] = 0
        self._first = start

    def _pieces(self, box: Box) -> Iterator[tuple[Box, tuple[slice, ...]]]:
        """Yield the parts of a box of held cells that lie in one piece in the ring, each with its index there."""
        start, stop = box.start[self._sweep], box.stop[self._sweep]
        while start < stop:
            at = (start - self._whole.stop[self._sweep]) % self._depth
            end = min(stop, start + self._depth - at)
            part = box.replace_axis(self._sweep, start, end)
            ring = list(part.within(self._whole))
            ring[self._sweep] = slice(at, at + end - start)
            yield part, tuple(ring)
            start = end


def _add_rounded(
    values: NDArray[np.float32], share: NDArray[np.float32], sums: NDArray[np.signedinteger], *, clipped: bool
) -> None:
    """Add ``round(values x share)`` to sums, all (channel, *cells) but share (*cells), a few rows at a time.

    Args:
        values: probabilities.
        share: whole numbers.
        sums: changed in place.
        clipped: values may lie a little outside of 0..1, and are clipped.
    """
    rows = max(1, _PIECE // prod(share.shape[1:]))
    product = np.empty((rows, *share.shape[1:]), np.float32)
    whole = np.empty(product.shape, sums.dtype)
    for start in range(0, len(share), rows):
        here = slice(start, min(start + rows, len(share)))
        part, rounded = product[: here.stop - start], whole[: here.stop - start]
        for channel, total in zip(values, sums, strict=True):
            source = np.clip(channel[here], 0.0, 1.0, out=part) if clipped else channel[here]
            np.multiply(source, share[here], out=part)
            np.rint(part, out=part)
            np.copyto(rounded, part, casting="unsafe")
            total[here] += rounded
