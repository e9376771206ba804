"""The input of a block, one lattice row after another.

Every cell is read once, in a thread of its own, and forgotten as soon as no later patch can want it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.source import Pixels, PreparedSource, Source
from segflow.sweep.resample import to_model
from segflow.sweep.task import Task
from tiling import Box


@dataclass(frozen=True, slots=True)
class Row:
    """The input of all patches that start on one lattice row, on the model's grid.

    Attributes:
        index: index of the lattice row.
        box: cells that are held, inside of the scene.
        values: (channel, *box), raw.
        valid: (*box) bool, True = valid input.
        wanted: (*box) bool, True = valid and asked for; the same array as `valid` where all is asked for.
    """

    index: int
    box: Box
    values: NDArray[Any]
    valid: NDArray[np.bool_]
    wanted: NDArray[np.bool_]


class Masks:
    """Which cells are wanted, strip by strip, until the sealing takes them. Wholly empty strips cost nothing."""

    def __init__(self, box: Box, sweep: int) -> None:
        self._box = box
        self._sweep = sweep
        self._strips: list[tuple[int, int, NDArray[np.bool_] | None]] = []
        self._lock = Lock()

    def push(self, box: Box, mask: NDArray[np.bool_]) -> None:
        """Keep the part of a mask (*box) that lies in our box and behind what was pushed before."""
        with self._lock:
            self._push(box, mask)

    def _push(self, box: Box, mask: NDArray[np.bool_]) -> None:
        seen = self._strips[-1][1] if self._strips else self._box.start[self._sweep]
        if box.stop[self._sweep] <= seen:
            return
        part = box.replace_axis(self._sweep, max(seen, box.start[self._sweep]), box.stop[self._sweep])
        held = self._box.intersect(part)
        if held is None:
            return
        here = mask[held.within(box)]
        low, high = held.start[self._sweep], held.stop[self._sweep]
        self._strips.append((low, high, here.copy() if here.any() else None))

    def take(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return the mask of the rows ``start <= i < stop``; earlier rows are forgotten."""
        with self._lock:
            self._strips = [strip for strip in self._strips[:-1] if strip[1] > start] + self._strips[-1:]
            strips = tuple(self._strips)
        box = self._box.replace_axis(self._sweep, start, stop)
        out = np.zeros(box.shape, np.bool_)
        for low, high, mask in strips:
            held = box.intersect(box.replace_axis(self._sweep, low, high))
            if held is not None and mask is not None:
                out[held.within(box)] = mask[held.within(self._box.replace_axis(self._sweep, low, high))]
        return out


class Everywhere(Masks):
    """The masks of a scene whose cells are all wanted."""

    def push(self, box: Box, mask: NDArray[np.bool_]) -> None:
        """Keep nothing."""

    def take(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Return True everywhere."""
        return np.ones(self._box.replace_axis(self._sweep, start, stop).shape, np.bool_)


class Band:
    """Reads ahead by one lattice row. A context manager: leaving it ends the thread.

    Attributes:
        read_seconds: time that reading and resampling were busy.
        masks: wanted cells of the output, for the sealing.
    """

    def __init__(self, task: Task, source: Source, box: Box, patches: tuple[range, ...]) -> None:
        layout = task.layout
        self.read_seconds = 0.0
        self._prepared = source if layout.frame is not None and isinstance(source, PreparedSource) else None
        self.masks = Masks(box, layout.sweep) if self._prepared is None else Everywhere(box, layout.sweep)
        self._task = task
        self._source = source
        self._sweep = layout.sweep
        self._indices = patches[self._sweep]
        first = layout.lattice.box(tuple(indices.start for indices in patches))
        last = layout.lattice.box(tuple(indices.stop - 1 for indices in patches))
        scene = Box.whole(layout.lattice.shape)
        covered = Box(first.start, last.stop).intersect(scene)
        if covered is None:
            raise ValueError(f"patches {patches} do not touch the scene")
        self._covered = covered
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segflow-read")

    def __enter__(self) -> Band:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[Row]:
        """Yield the lattice rows in order."""
        pending: Future[Row] | None = self._thread.submit(self._next, None, self._indices.start)
        for index in self._indices:
            if pending is None:
                return
            row = pending.result()
            following = index + 1
            pending = self._thread.submit(self._next, row, following) if following < self._indices.stop else None
            yield row

    def _next(self, before: Row | None, index: int) -> Row:
        """Make a lattice row of what the one before holds and of what is read anew."""
        began = perf_counter()
        axis = self._task.layout.lattice.axes[self._sweep]
        start = axis.starts[index]
        stop = min(start + axis.patch, self._covered.stop[self._sweep])
        if before is None:
            row = self._read(index, self._covered.replace_axis(self._sweep, start, stop))
        else:
            held = before.box.stop[self._sweep]
            kept = before.box.replace_axis(self._sweep, start, held) if start < held else None
            fresh = self._read(index, before.box.replace_axis(self._sweep, held, stop)) if held < stop else None
            row = _join(index, self._sweep, before, kept, fresh)
        self.read_seconds += perf_counter() - began
        return row

    def _read(self, index: int, box: Box) -> Row:
        layout = self._task.layout
        if self._prepared is not None:
            everywhere = np.ones(box.shape, np.bool_)
            return Row(index, box, self._prepared.read_model(box), everywhere, everywhere)
        if not layout.resampled:
            pixels = self._source.read(box)
            wanted = _wanted(self._source, box, pixels)
            self.masks.push(box, wanted)
            return Row(index, box, pixels.values, pixels.valid, wanted)
        supports = [m.support(a, b) for m, a, b in zip(self._task.input_maps, box.start, box.stop, strict=True)]
        read = Box(tuple(low for low, _ in supports), tuple(high for _, high in supports))
        pixels = self._source.read(read)
        wanted = _wanted(self._source, read, pixels)
        self.masks.push(read, wanted)
        values, valid = to_model(pixels, read, box, self._task.input_maps)
        on_model = valid
        if wanted is not pixels.valid:
            _, on_model = to_model(Pixels(pixels.values[:0], wanted), read, box, self._task.input_maps)
        return Row(index, box, values, valid, on_model)


def _wanted(source: Source, box: Box, pixels: Pixels) -> NDArray[np.bool_]:
    asked = source.wanted(box)
    return pixels.valid if asked is None else pixels.valid & asked


def _join(index: int, axis: int, before: Row, kept: Box | None, fresh: Row | None) -> Row:
    """Put what is kept of the row before in front of what was read anew."""
    if kept is None:
        if fresh is None:
            raise ValueError("a lattice row without cells")
        return fresh
    at = kept.within(before.box)
    values, valid, wanted = before.values[(slice(None), *at)], before.valid[at], before.wanted[at]
    if fresh is None:
        return Row(index, kept, values, valid, wanted)
    joined = np.concatenate((valid, fresh.valid), axis)
    same = before.wanted is before.valid and fresh.wanted is fresh.valid
    return Row(
        index,
        kept.replace_axis(axis, kept.start[axis], fresh.box.stop[axis]),
        np.concatenate((values, fresh.values), axis + 1),
        joined,
        joined if same else np.concatenate((wanted, fresh.wanted), axis),
    )
