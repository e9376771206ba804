"""Sealing: rows that no later patch can touch become labels, on the output's grid, and leave the accumulator."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from segflow.sweep.band import Band
from segflow.sweep.resample import to_output
from segflow.sweep.task import Task
from tiling import Accumulator, Box, strip_rows, to_byte
from tiling.blend import Labelling
from tiling.decide import Decision, Sums


class Sealer:
    """Takes complete rows from the accumulator and keeps them until a chunk is full."""

    def __init__(self, task: Task, sums: Accumulator, band: Band, box: Box) -> None:
        self._task = task
        self._sums = sums
        self._band = band
        self._box = box
        self._sweep = task.layout.sweep
        self._map = task.layout.maps[self._sweep]
        self._model_box = task.layout.model_box(box)
        self._scale = task.scale
        self._rows = strip_rows(task.layout, task.head.channels)
        self._done = box.start[self._sweep]
        self._strips: list[tuple[Box, NDArray[np.uint16], NDArray[np.uint8] | None, NDArray[np.bool_]]] = []

    def seal(self, stop: int | None) -> None:
        """Turn all complete rows below `stop`, on the model's grid, into labels; None: all that is left."""
        end = self._box.stop[self._sweep]
        ready = end if stop is None else min(end, self._map.ready(stop))
        if ready > self._done:
            for low, high in self._runs(self._done, ready):
                self._strips.append(self._decide(self._box.replace_axis(self._sweep, low, high)))
            self._done = ready
        if ready < end:
            self._sums.drop(max(self._model_box.start[self._sweep], self._map.support(ready, ready + 1)[0]))

    def _runs(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Cut rows where their sums do not lie in one piece, and to what little memory holds.

        Resampled rows are made of their neighbours', too: they are cut for memory alone.
        """
        pieces = [(start, stop)] if self._task.layout.resampled else self._sums.runs(start, stop)
        for first, end in pieces:
            yield from ((low, min(low + self._rows, end)) for low in range(first, end, self._rows))

    def has(self, chunk: Box) -> bool:
        """Tell whether a chunk is complete."""
        return self._done >= chunk.stop[self._sweep]

    def take(self, chunk: Box) -> tuple[NDArray[np.uint16], NDArray[np.uint8] | None, NDArray[np.bool_]]:
        """Return labels, confidence and validity of a complete chunk, and let go of it."""
        labels = np.empty(chunk.shape, np.uint16)
        valid = np.empty(chunk.shape, np.bool_)
        confidence = np.empty(chunk.shape, np.uint8) if self._task.confidence else None
        for box, part, sure, true in self._strips:
            held = chunk.intersect(box)
            if held is None:
                continue
            labels[held.within(chunk)] = part[held.within(box)]
            valid[held.within(chunk)] = true[held.within(box)]
            if confidence is not None and sure is not None:
                confidence[held.within(chunk)] = sure[held.within(box)]
        self._strips = [strip for strip in self._strips if strip[0].stop[self._sweep] > chunk.stop[self._sweep]]
        return labels, confidence, valid

    def _decide(self, box: Box) -> tuple[Box, NDArray[np.uint16], NDArray[np.uint8] | None, NDArray[np.bool_]]:
        """Label a strip; what lies outside of the model's frame is surely of the first class."""
        frame = self._task.layout.frame
        if frame is None or frame.outer.contains(box):
            return self._decide_inside(box)
        labels = np.full(box.shape, self._task.head.ids[0], np.uint16)
        confidence = np.full(box.shape, 255, np.uint8) if self._task.confidence else None
        valid = self._band.masks.take(box.start[self._sweep], box.stop[self._sweep])
        held = box.intersect(frame.outer)
        if held is not None:
            at = held.within(box)
            _, labels[at], sure, _ = self._decide_inside(held)
            if confidence is not None and sure is not None:
                confidence[at] = sure
        return box, labels, confidence, valid

    def _decide_inside(self, box: Box) -> tuple[Box, NDArray[np.uint16], NDArray[np.uint8] | None, NDArray[np.bool_]]:
        task, sweep = self._task, self._sweep
        whole = self._box.replace_axis(sweep, box.start[sweep], box.stop[sweep])
        valid = self._band.masks.take(box.start[sweep], box.stop[sweep])[box.within(whole)]
        held = task.layout.model_box(box)
        decision = self._decision(held, box)
        decision.labels[~valid] = task.nodata
        if not task.confidence:
            return box, decision.labels, None, valid
        confidence = to_byte(decision.confidence, self._scale)
        confidence[~valid] = 0
        return box, decision.labels, confidence, valid

    def _decision(self, held: Box, box: Box) -> Decision:
        """Return labels and, where it is asked for, the winning probability of cells that are all complete."""
        task, head = self._task, self._task.head
        low, high = held.start[self._sweep], held.stop[self._sweep]
        if isinstance(self._sums, Labelling) and head.largest and not task.layout.resampled:
            return self._sums.largest(low, high, head.ids, task.confidence)
        across = held.within(self._model_box.replace_axis(self._sweep, low, high))
        sums = self._sums.sums(low, high)[(slice(None), *across)]
        shown: Sums = to_output(sums, held, box, task.layout.maps) if task.layout.resampled else sums
        decision = head.decide(shown, self._scale)
        if not task.confidence:
            return decision
        return Decision(decision.labels, head.confidence(shown, decision, self._scale))
