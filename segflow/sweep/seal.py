"""Sealing: rows that no later patch can touch become labels, on the output's grid, and leave the accumulator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segflow.sweep.band import Band
from segflow.sweep.resample import to_output
from segflow.sweep.task import Task
from tiling import Accumulator, Box, strip_rows, to_byte
from tiling.blend import Labelling
from tiling.decide import Decision, Sums


@dataclass(frozen=True, slots=True)
class Part:
    """Complete cells.

    Attributes:
        box: the cells, on the output's grid.
        labels: (*box) uint16.
        confidence: (*box) uint8; None unless asked for.
        probabilities: (class, *box) uint8; None unless asked for.
        valid: (*box) bool.
    """

    box: Box
    labels: NDArray[np.uint16]
    confidence: NDArray[np.uint8] | None
    probabilities: NDArray[np.uint8] | None
    valid: NDArray[np.bool_]


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
        self._strips: list[Part] = []

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

    def take(self, chunk: Box) -> Part:
        """Return a complete chunk, and let go of it."""
        whole = self._empty(chunk)
        for strip in self._strips:
            held = chunk.intersect(strip.box)
            if held is not None:
                _copy(strip, whole, held)
        self._strips = [strip for strip in self._strips if strip.box.stop[self._sweep] > chunk.stop[self._sweep]]
        return whole

    def _empty(self, box: Box) -> Part:
        """Return room for the cells of a box; what it holds means nothing yet."""
        task = self._task
        return Part(
            box,
            np.empty(box.shape, np.uint16),
            np.empty(box.shape, np.uint8) if task.confidence else None,
            np.empty((len(task.head.ids), *box.shape), np.uint8) if task.probabilities else None,
            np.empty(box.shape, np.bool_),
        )

    def _decide(self, box: Box) -> Part:
        """Label a strip; what lies outside of the model's frame is surely of the first class."""
        frame = self._task.layout.frame
        if frame is None or frame.outer.contains(box):
            return self._decide_inside(box)
        whole = self._empty(box)
        whole.labels[...] = self._task.head.ids[0]
        if whole.confidence is not None:
            whole.confidence[...] = 255
        if whole.probabilities is not None:
            whole.probabilities[0], whole.probabilities[1:] = 255, 0
        whole.valid[...] = self._band.masks.take(box.start[self._sweep], box.stop[self._sweep])
        held = box.intersect(frame.outer)
        if held is not None:
            _copy(self._decide_inside(held), whole, held)
        return whole

    def _decide_inside(self, box: Box) -> Part:
        task, sweep = self._task, self._sweep
        whole = self._box.replace_axis(sweep, box.start[sweep], box.stop[sweep])
        valid = self._band.masks.take(box.start[sweep], box.stop[sweep])[box.within(whole)]
        decision, probabilities = self._decision(task.layout.model_box(box), box)
        decision.labels[~valid] = task.nodata
        if probabilities is not None:
            probabilities[:, ~valid] = 0
        confidence = to_byte(decision.confidence, self._scale) if task.confidence else None
        if confidence is not None:
            confidence[~valid] = 0
        return Part(box, decision.labels, confidence, probabilities, valid)

    def _decision(self, held: Box, box: Box) -> tuple[Decision, NDArray[np.uint8] | None]:
        """Return labels and, where they are asked for, winning and all probabilities of cells that are all complete."""
        task, head = self._task, self._task.head
        low, high = held.start[self._sweep], held.stop[self._sweep]
        if isinstance(self._sums, Labelling) and head.largest and not task.layout.resampled:
            decision = self._sums.largest(low, high, head.ids, task.confidence)
            return decision, self._sums.bytes(low, high, self._scale) if task.probabilities else None
        across = held.within(self._model_box.replace_axis(self._sweep, low, high))
        sums = self._sums.sums(low, high)[(slice(None), *across)]
        shown: Sums = to_output(sums, held, box, task.layout.maps) if task.layout.resampled else sums
        decision = head.decide(shown, self._scale)
        if task.confidence:
            decision = Decision(decision.labels, head.confidence(shown, decision, self._scale))
        if not task.probabilities:
            return decision, None
        probabilities = np.empty((len(head.ids), *box.shape), np.uint8)
        for number, values in enumerate(head.probabilities(shown, self._scale)):
            probabilities[number] = to_byte(values, self._scale)
        return decision, probabilities


def _copy(source: Part, target: Part, box: Box) -> None:
    """Copy the cells of a box that both hold."""
    here, there = box.within(source.box), box.within(target.box)
    target.labels[there] = source.labels[here]
    target.valid[there] = source.valid[here]
    if target.confidence is not None and source.confidence is not None:
        target.confidence[there] = source.confidence[here]
    if target.probabilities is not None and source.probabilities is not None:
        target.probabilities[(slice(None), *there)] = source.probabilities[(slice(None), *here)]
