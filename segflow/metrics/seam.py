"""Can the borders of patches be seen? Labels and accuracy by the distance from the nearest border.

Where patches are merely put side by side, neighbours are labelled from different contexts, and labels change more
often across the line between them than across any other line. So the score is the rate of label changes between
neighbours that a border parts, divided by that rate elsewhere. What it would be by chance is measured on the same
labels: lines some cells beside the borders are borders of nothing, and their spread says how much 1 is
exceeded by accident. Networks upsample in steps of 2 and 4 cells and labels change more often on these, where borders
lie as well: so, where there are enough, only lines 4, 8, 12 ... cells away are compared. The reference knows of no
patches; its own score tells what the content alone gives on those lines.

Peers are judged so in Huang et al., "Tiling and Stitching Segmentation Output for Remote Sensing: Basic Challenges
and Recommendations" (2018), by eye and by accuracy against the distance from the patch's edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.results import Seam, SeamBin
from segflow.metrics.windows import Window

FARTHEST = 32
"""The last bin holds this distance and all beyond."""

_LEAST_LINES = 3
_PHASES = (4, 2, 1)
_SIGMAS = 4.0
_RATIO = 1.25


class SeamMeter:
    """Counts label changes line by line, and right cells by distance.

    Args:
        shape: of the grid.
        borders: for each axis the lines between cells where a patch starts or ends: line p parts cell p - 1 from p.
        classes: how many there are.
    """

    halo = 1

    def __init__(self, shape: tuple[int, ...], borders: Sequence[Sequence[int]], classes: int) -> None:
        self._classes = classes
        self._borders = tuple(
            tuple(sorted({p for p in lines if 0 < p < size})) for lines, size in zip(borders, shape, strict=True)
        )
        self._of_line = [_distance(np.arange(n), lines) for n, lines in zip(shape, self._borders, strict=True)]
        self._of_cell = [_beside(n, lines) for n, lines in zip(shape, self._borders, strict=True)]
        self._lines = [np.zeros((3, n), np.int64) for n in shape]
        self._cells = np.zeros((2, FARTHEST + 1), np.int64)

    def add(self, window: Window) -> None:
        """Take a window."""
        for axis in range(len(self._lines)):
            self._add_pairs(window, axis)
        prediction, reference = window.prediction[window.core], window.reference[window.core]
        parts = [
            near[low:high] for near, low, high in zip(self._of_cell, window.box.start, window.box.stop, strict=True)
        ]
        distance = reduce(np.minimum, np.ix_(*parts))
        scored = reference != self._classes
        for row, wanted in zip(self._cells, (scored, scored & (prediction == reference)), strict=True):
            row += np.bincount(distance[wanted], minlength=FARTHEST + 1)

    def _add_pairs(self, window: Window, axis: int) -> None:
        """Count the neighbours along an axis whose second cell lies in the window."""
        start, stop = window.box.start[axis], window.box.stop[axis]
        first = max(start, window.around.start[axis] + 1)
        if first >= stop:
            return
        offset = window.around.start[axis]
        core = list(window.core)
        core[axis] = slice(first - offset, stop - offset)
        before = list(core)
        before[axis] = slice(first - 1 - offset, stop - 1 - offset)
        one, two = tuple(before), tuple(core)
        scored = (window.reference[one] != self._classes) & (window.reference[two] != self._classes)
        others = tuple(other for other in range(scored.ndim) if other != axis)
        here = self._lines[axis][:, first:stop]
        here[0] += scored.sum(axis=others)
        for row, codes in ((1, window.prediction), (2, window.reference)):
            here[row] += ((codes[one] != codes[two]) & scored).sum(axis=others)

    def result(self) -> Seam:
        """Return the scores and what they follow from."""
        table = np.zeros((3, FARTHEST + 1), np.int64)
        for distance, lines in zip(self._of_line, self._lines, strict=True):
            for row, values in zip(table, lines, strict=True):
                np.add.at(row, distance, values)
        score, spread, most = _score(table[0], table[1])
        reference_score, _, _ = _score(table[0], table[2])
        sigmas = None if score is None or not spread else (score - 1) / spread
        visible = None
        if score is not None and sigmas is not None and most is not None:
            visible = sigmas > _SIGMAS and score > _RATIO * max(1.0, reference_score or 1.0) and score > most
        cells, right = self._cells
        return Seam(
            score=score,
            reference_score=reference_score,
            spread=spread,
            sigmas=sigmas,
            visible=visible,
            accuracy_near=_rate(right[0], cells[0]),
            accuracy_far=_rate(right[1:].sum(), cells[1:].sum()),
            borders=tuple(len(lines) for lines in self._borders),
            bins=tuple(
                _bin(k, cells[k], right[k], *table[:, k]) for k in range(FARTHEST + 1) if cells[k] or table[0, k]
            ),
        )


def _distance(at: NDArray[np.int64], lines: Sequence[int]) -> NDArray[np.int64]:
    """Return how far lines are from the nearest of some lines, at most `FARTHEST`."""
    if not lines:
        return np.full(at.shape, FARTHEST)
    known = np.asarray(lines)
    place = np.searchsorted(known, at)
    after, before = known[np.minimum(place, known.size - 1)], known[np.maximum(place - 1, 0)]
    found: NDArray[np.int64] = np.minimum(np.minimum(np.abs(after - at), np.abs(at - before)), FARTHEST)
    return found


def _beside(size: int, lines: Sequence[int]) -> NDArray[np.int64]:
    """Return how many cells lie between each cell and the nearest of some lines, at most `FARTHEST`."""
    cells = np.arange(size)
    return np.minimum(_distance(cells, lines), _distance(cells + 1, lines))


def _score(pairs: NDArray[np.int64], changes: NDArray[np.int64]) -> tuple[float | None, float | None, float | None]:
    """Return the score, its spread, and the largest ratio of a line that is no border."""
    held = _comparable(pairs)
    elsewhere = _rate(changes[held].sum(), pairs[held].sum())
    across = _rate(changes[0], pairs[0])
    if across is None or not elsewhere:
        return None, None, None
    ratios = changes[held] / pairs[held] / elsewhere
    if ratios.size < _LEAST_LINES:
        return across / elsewhere, None, None
    return across / elsewhere, float(ratios.std(ddof=1)), float(ratios.max())


def _comparable(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distances whose lines borders are compared with: of one phase with them, if there are enough."""
    known = np.arange(2, FARTHEST)
    known = known[2 * pairs[2:FARTHEST] >= pairs[0]] if pairs[0] else known[:0]
    phases = [known[known % step == 0] for step in _PHASES]
    return next((held for held in phases if held.size >= _LEAST_LINES), known)


def _rate(part: np.int64 | int, whole: np.int64 | int) -> float | None:
    return int(part) / int(whole) if whole else None


def _bin(distance: int, cells: int, right: int, pairs: int, changes: int, reference_changes: int) -> SeamBin:
    return SeamBin(
        distance=distance,
        cells=int(cells),
        accuracy=_rate(right, cells),
        pairs=int(pairs),
        changes=int(changes),
        reference_changes=int(reference_changes),
        change_rate=_rate(changes, pairs),
        reference_change_rate=_rate(reference_changes, pairs),
    )
