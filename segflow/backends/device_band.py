"""The accumulator on a device of PyTorch's: patches are blended where the network put them, only labels come back.

Whole numbers are summed, so its bits are those of `tiling.NumpyBand`. It has been run on a CPU, through these lines,
not on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tiling import Box, Decision, NumpyBand, Store

_DTYPES = {"int32": torch.int32, "int16": torch.int16}
_WEIGHTS = 64
_SHARE = 0.8
"""Part of the device's free memory that a band may take."""


class DeviceBand(NumpyBand):
    """See `tiling.Accumulator`; `add` takes a tensor on the device.

    On a GPU all is queued on a stream of its own, so that a patch is blended while the network runs the next ones.

    Args:
        channels, box, sweep, depth, store: as in `tiling.NumpyBand`.
        device: where the sums lie.
    """

    def __init__(self, channels: int, box: Box, sweep: int, depth: int, store: Store, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        super().__init__(channels, box, sweep, depth, store)
        self._weights: dict[int, tuple[NDArray[np.float32], torch.Tensor]] = {}

    def _zeros(self, shape: tuple[int, ...], store: Store) -> torch.Tensor:
        with self._queued():
            return torch.zeros(shape, dtype=_DTYPES[store], device=self._device)

    def add(self, probabilities: Any, weight: NDArray[np.float32], where: Box) -> None:
        """Add one patch. See `Accumulator.add`; when this returns, the device has read the probabilities.

        Args:
            probabilities: (channel, *patch) float32, on the device; complete.
            weight: (*patch), on the host; kept on the device for the patches that share it.
            where: the patch's cells.
        """
        self._require_fitting(tuple(probabilities.shape), weight.shape, where)
        with torch.inference_mode(), self._queued():
            share = self._weight(weight)
            for part, ring in self._wanted(where):
                inside = part.within(where)
                values = probabilities[(slice(None), *inside)].clamp(0.0, 1.0).mul_(share[inside]).round_()
                self._sums[(slice(None), *ring)] += values.to(self._sums.dtype)
            low, high = (float(value) for value in torch.stack(torch.aminmax(probabilities)).tolist())
        self._require_probabilities(low, high, where)

    def sums(self, start: int, stop: int) -> NDArray[np.signedinteger]:
        """Return the sums of some rows, copied to the host. See `Accumulator.sums`."""
        found: NDArray[np.signedinteger] = np.concatenate(
            [self._sums[index].cpu().numpy() for index in self._rows(start, stop)], 1 + self._sweep
        )
        return found

    def largest(self, start: int, stop: int, ids: Sequence[int], confident: bool) -> Decision:
        """Return what `tiling.argmax` makes of some rows, decided on the device.

        Args:
            start: first row.
            stop: behind the last row.
            ids: class ids, in the order of channels.
            confident: whether the winning sums are wanted; else they are 0.

        Raises:
            IndexError: not all of these rows are held.
        """
        parts = [self._decided(self._sums[index], confident) for index in self._rows(start, stop)]
        labels = np.array(ids, np.uint16)[np.concatenate([index for index, _ in parts], self._sweep)]
        if not confident:
            return Decision(labels, np.broadcast_to(np.float32(0), labels.shape))
        return Decision(labels, np.concatenate([best for _, best in parts], self._sweep))

    def bytes(self, start: int, stop: int, scale: int) -> NDArray[np.uint8]:
        """Return the sums of some rows as bytes, made on the device. See `tiling.blend.Labelling.bytes`."""
        with torch.inference_mode(), self._queued():
            parts = [
                (self._sums[index].float() * float(np.float32(255.0 / scale))).round_().clamp_(0, 255).byte().cpu()
                for index in self._rows(start, stop)
            ]
        return np.concatenate([part.numpy() for part in parts], 1 + self._sweep)

    def drop(self, start: int) -> None:
        """Let go of the rows before `start`. See `Accumulator.drop`."""
        with self._queued():
            super().drop(start)

    def _decided(self, sums: torch.Tensor, confident: bool) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        with torch.inference_mode(), self._queued():
            best = sums[0].clone()
            index = torch.zeros(best.shape, dtype=torch.uint8 if len(sums) <= 256 else torch.int16, device=self._device)
            for channel, values in enumerate(sums[1:], 1):  # a tie stays with the lower class
                index.masked_fill_(values > best, channel)
                torch.maximum(best, values, out=best)
            confidence = best.float().cpu().numpy() if confident else np.zeros((), np.float32)
            return index.cpu().numpy(), confidence

    def _rows(self, start: int, stop: int) -> list[tuple[slice, ...]]:
        if not self._first <= start < stop <= self._behind:
            raise IndexError(f"rows {start}..{stop} were asked for, {self._first}..{self._behind} are held")
        rows = self._whole.replace_axis(self._sweep, start, stop)
        return [(slice(None), *ring) for _, ring in self._pieces(rows)]

    def _weight(self, weight: NDArray[np.float32]) -> torch.Tensor:
        """Return a weight on the device; few differ, and the same array means the same weight."""
        kept = self._weights.get(id(weight))
        if kept is None:
            if len(self._weights) >= _WEIGHTS:
                self._weights.clear()
            kept = weight, torch.from_numpy(np.array(weight)).to(self._device)
            self._weights[id(weight)] = kept
        return kept[1]

    def _queued(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


def device_band(
    channels: int, box: Box, sweep: int, depth: int, store: Store, device: torch.device
) -> DeviceBand | None:
    """Return a band on a device; None where its memory does not hold it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        rows = min(depth, box.shape[sweep])
        cells = channels * prod(box.shape) // box.shape[sweep] * rows
        if cells * np.dtype(store).itemsize > _SHARE * free:
            return None
    return DeviceBand(channels, box, sweep, depth, store, device)
