"""The sweep itself: rows of patches in, sealed chunks of labels out, in memory that does not grow with the sweep."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.backends.protocol import BlendingForward, Forward
from segflow.errors import ModelError
from segflow.io.source import Source
from segflow.sweep.band import Band, Row
from segflow.sweep.seal import Sealer
from segflow.sweep.task import Task
from tiling import Accumulator, Box, NumpyBand, WeightCache


@dataclass(frozen=True, slots=True)
class Sealed:
    """A finished chunk.

    Attributes:
        chunk: its cells, on the output's grid.
        labels: (*chunk) uint16, class ids; the task's nodata where not valid.
        confidence: (*chunk) uint8, largest blended probability x 255 and 0 where not valid; None unless asked for.
        probabilities: (class, *chunk) uint8, blended probability x 255 of each class, in the card's order, and 0 where
            not valid; None unless asked for.
        valid: (*chunk) bool, True = a label that counts.
        forwards: patches that were run for it and for no chunk before it.
        forwards_minimum: those of them that no other block counts.
        seconds: busy time since the chunk before, by stage: read, forward, blend.
    """

    chunk: Box
    labels: NDArray[np.uint16]
    confidence: NDArray[np.uint8] | None
    probabilities: NDArray[np.uint8] | None
    valid: NDArray[np.bool_]
    forwards: int
    forwards_minimum: int
    seconds: dict[str, float]


def sweep(
    task: Task,
    source: Source,
    forward: Forward,
    block: Sequence[int],
    first_chunk: int = 0,
    stop_chunk: int | None = None,
) -> Iterator[Sealed]:
    """Sweep a block and yield its chunks, in order, from `first_chunk` on; up to `stop_chunk`, not included.

    What is yielded depends on the task, the source and the network alone: not on the block's extent, on how many
    patches are in flight, nor on where a resume began.

    Raises:
        ModelError: the network puts out something that is no probability; the place is named.
        InputError: the source is broken.
    """
    layout = task.layout
    chunks = layout.chunks(block)[first_chunk:stop_chunk]
    if not chunks:
        return
    box = Box(chunks[0].start, chunks[-1].stop)
    patches = layout.lattice.touching(layout.model_box(box))
    tally = _Tally(task, block, box, first_chunk)
    with Band(task, source, box, patches) as band:
        yield from _Run(task, forward, band, box, patches, tally).chunks(chunks)


class _Tally:
    """Counts patches, each for the first chunk that it touches."""

    def __init__(self, task: Task, block: Sequence[int], box: Box, first_chunk: int) -> None:
        layout = task.layout
        self._layout = layout
        self._map = layout.maps[layout.sweep]
        self._first = layout.box(block).start[layout.sweep]
        self._earliest = first_chunk
        self._owned = layout.owned(block)
        self.forwards: Counter[int] = Counter()
        self.minimum: Counter[int] = Counter()

    def count(self, index: Sequence[int]) -> None:
        """Count a patch that is run."""
        sweep = self._layout.sweep
        start = self._layout.lattice.axes[sweep].starts[index[sweep]]
        row = max(self._first, self._map.ready(start))
        chunk = (row - self._first) // self._layout.rows
        self.forwards[max(chunk, self._earliest)] += 1
        if chunk >= self._earliest and all(k in mine for k, mine in zip(index, self._owned, strict=True)):
            self.minimum[chunk] += 1

    def take(self, chunk: int) -> tuple[int, int]:
        """Return and forget what was counted for a chunk."""
        return self.forwards.pop(chunk, 0), self.minimum.pop(chunk, 0)

    @property
    def earliest(self) -> int:
        """The chunk that the sweep begins with."""
        return self._earliest


class _Run:
    """One pass over a block: feeds the network, blends what it returns and seals what is complete."""

    def __init__(
        self, task: Task, forward: Forward, band: Band, box: Box, patches: tuple[range, ...], tally: _Tally
    ) -> None:
        layout = task.layout
        model_box = layout.model_box(box)
        self._task = task
        self._band = band
        self._patches = patches
        self._tally = tally
        self._asked: deque[tuple[int, ...]] = deque()
        self._feeding = 0.0
        self._weights = WeightCache(layout.lattice, task.scale)
        depth = layout.lattice.patch[layout.sweep] + layout.maps[layout.sweep].lag
        shape = (task.head.channels, model_box, layout.sweep, depth, task.store)
        self._stream: Callable[[Iterator[NDArray[np.float32]]], Iterator[Any]] = forward.stream
        self._sums: Accumulator = NumpyBand(*shape)
        if isinstance(forward, BlendingForward) and (there := forward.band(*shape)) is not None:
            self._sums, self._stream = there, forward.stream_on_device
        self._sealer = Sealer(task, self._sums, band, box)
        self._seconds = dict.fromkeys(("read", "forward", "blend"), 0.0)

    def chunks(self, chunks: Sequence[Box]) -> Iterator[Sealed]:
        """Yield the chunks as they become complete."""
        lattice, sweep = self._task.layout.lattice, self._task.layout.sweep
        waiting = deque(enumerate(chunks, self._tally.earliest))
        results = self._stream(self._feed())
        reached = self._patches[sweep].start
        while True:
            began, fed = perf_counter(), self._feeding
            probabilities = next(results, None)
            self._seconds["forward"] += perf_counter() - began - (self._feeding - fed)
            began = perf_counter()
            index = self._asked.popleft() if probabilities is not None else None
            row = index[sweep] if index is not None else self._patches[sweep].stop
            for complete in range(reached + 1, row + 1):
                last = complete == self._patches[sweep].stop
                self._sealer.seal(None if last else lattice.axes[sweep].starts[complete])
                while waiting and self._sealer.has(waiting[0][1]):
                    self._seconds["blend"] += perf_counter() - began
                    yield self._finish(*waiting.popleft())
                    began = perf_counter()
            reached = row
            if probabilities is None or index is None:
                self._seconds["blend"] += perf_counter() - began
                return
            self._add(index, probabilities)
            self._seconds["blend"] += perf_counter() - began

    def _finish(self, number: int, chunk: Box) -> Sealed:
        made = self._sealer.take(chunk)
        forwards, minimum = self._tally.take(number)
        self._seconds["read"] = self._band.read_seconds
        self._band.read_seconds = 0.0
        seconds, self._seconds = self._seconds, dict.fromkeys(self._seconds, 0.0)
        return Sealed(chunk, made.labels, made.confidence, made.probabilities, made.valid, forwards, minimum, seconds)

    def _add(self, index: tuple[int, ...], probabilities: NDArray[np.float32]) -> None:
        where = self._task.layout.lattice.box(index)
        try:
            self._sums.add(probabilities, self._weights[index], where)
        except (FloatingPointError, ValueError) as error:
            raise ModelError(
                f"{error}; the patch begins at cell {self._task.place(where)} of the scene",
                "finite probabilities from 0 to 1",
                "check the input there for extreme values, and the card's activation and normalisation; "
                "compute.precision: f32 helps where f16 overflows",
            ) from error

    def _feed(self) -> Iterator[NDArray[np.float32]]:
        """Yield the patches that are not blank, in the order of the sweep."""
        sweep = self._task.layout.sweep
        across = [indices if axis != sweep else (0,) for axis, indices in enumerate(self._patches)]
        began = perf_counter()
        for row in self._band:
            for index in product(*across):
                index = (*index[:sweep], row.index, *index[sweep + 1 :])
                patch = self._patch(row, index)
                if patch is None:
                    continue
                self._asked.append(index)
                self._tally.count(index)
                self._feeding += perf_counter() - began
                yield patch
                began = perf_counter()
        self._feeding += perf_counter() - began

    def _patch(self, row: Row, index: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Cut, standardise and pad a patch; None where nothing is wanted in it."""
        box = self._task.layout.lattice.box(index)
        held = row.box.intersect(box)
        if held is None:
            return None
        at = held.within(row.box)
        if not row.wanted[at].any():
            return None
        patch = self._task.standardise(row.values[(slice(None), *at)], row.valid[at])
        if held.shape == box.shape:
            return patch
        beyond = [(0, full - part) for full, part in zip(box.shape, held.shape, strict=True)]
        return np.pad(patch, [(0, 0), *beyond], mode=self._task.padding)
