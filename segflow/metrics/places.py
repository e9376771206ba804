"""Scores by place: inside named regions, and on a grid of tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.means import mean_of_known
from segflow.metrics.results import RegionClass, RegionScores, TileMap
from segflow.metrics.windows import Window
from tiling import Box


@dataclass(frozen=True, slots=True)
class Region:
    """A named part of a grid.

    Attributes:
        name: as people call it.
        bounds: a box that holds all of it; None where it lies outside of the grid.
        inside: tells which cells of a box are in it, (*box) bool.
    """

    name: str
    bounds: Box | None
    inside: Callable[[Box], NDArray[np.bool_]]


class RegionMeter:
    """Counts confusions inside of regions, which may overlap.

    Args:
        regions: the regions.
        ids: class ids, in the order of the codes.
    """

    halo = 0

    def __init__(self, regions: Sequence[Region], ids: Sequence[int]) -> None:
        self._regions = regions
        self._ids = ids
        self._counts = np.zeros((len(regions), len(ids), len(ids)), np.int64)

    def add(self, window: Window) -> None:
        """Take a window."""
        n = len(self._ids)
        for region, counts in zip(self._regions, self._counts, strict=True):
            part = None if region.bounds is None else window.box.intersect(region.bounds)
            if part is None:
                continue
            at = part.within(window.around)
            prediction, reference = window.prediction[at], window.reference[at]
            held = region.inside(part) & (reference != n)
            joint = reference[held].astype(np.int64) * n + prediction[held]
            counts += np.bincount(joint, minlength=n * n).reshape(n, n)

    def result(self) -> tuple[RegionScores, ...]:
        """Return the scores of each region."""
        return tuple(
            self._scores(region.name, counts) for region, counts in zip(self._regions, self._counts, strict=True)
        )

    def _scores(self, name: str, counts: NDArray[np.int64]) -> RegionScores:
        total, right = int(counts.sum()), counts.diagonal()
        support, said = counts.sum(axis=1), counts.sum(axis=0)
        iou: list[float | None] = [
            int(t) / int(a + b - t) if a + b else None for t, a, b in zip(right, support, said, strict=True)
        ]
        dice: list[float | None] = [
            2 * int(t) / int(a + b) if a + b else None for t, a, b in zip(right, support, said, strict=True)
        ]
        return RegionScores(
            name=name,
            cells=total,
            pixel_accuracy=int(right.sum()) / total if total else None,
            mean_iou=mean_of_known(iou),
            mean_dice=mean_of_known(dice),
            classes=tuple(
                RegionClass(id=i, iou=one, dice=two, support=int(n))
                for i, one, two, n in zip(self._ids, iou, dice, support, strict=True)
            ),
        )


class TileMeter:
    """Counts confusions on a grid of tiles of a raster.

    Args:
        shape: of the raster.
        tile: cells of a tile on a side.
        classes: how many there are.
    """

    halo = 0

    def __init__(self, shape: tuple[int, ...], tile: int, classes: int) -> None:
        self.tile = tile
        self._grid = (-(-shape[0] // tile), -(-shape[1] // tile))
        self._classes = classes
        self._sums = np.zeros((3, *self._grid, classes), np.int64)

    def add(self, window: Window) -> None:
        """Take a window."""
        prediction, reference = window.prediction[window.core], window.reference[window.core]
        n, columns = self._classes, self._grid[1]
        top, left = window.box.start
        row = (np.arange(top, window.box.stop[0]) // self.tile)[:, None]
        column = (np.arange(left, window.box.stop[1]) // self.tile)[None, :]
        low, high = int(row[0, 0]), int(row[-1, 0]) + 1
        place = ((row - low) * columns + column) * n
        scored = reference != n
        right = scored & (prediction == reference)
        for sums, codes, held in zip(
            self._sums, (reference, prediction, reference), (scored, scored, right), strict=True
        ):
            joint = place[held] + codes[held]
            sums[low:high] += np.bincount(joint, minlength=(high - low) * columns * n).reshape(-1, columns, n)

    def result(self) -> TileMap:
        """Return the map."""
        support, said, right = self._sums
        cells = support.sum(axis=2)
        union = support + said - right
        present = union > 0
        iou = np.divide(right, union, out=np.zeros(union.shape), where=present).sum(axis=2)
        return TileMap(
            tile=self.tile,
            rows=self._grid[0],
            columns=self._grid[1],
            cells=tuple(map(tuple, cells.tolist())),
            pixel_accuracy=_ratios(right.sum(axis=2), cells),
            mean_iou=_ratios(iou, present.sum(axis=2)),
        )


def _ratios(part: NDArray[np.generic], whole: NDArray[np.int64]) -> tuple[tuple[float | None, ...], ...]:
    return tuple(
        tuple(round(float(p) / int(n), 4) if n else None for p, n in zip(ps, ns, strict=True))
        for ps, ns in zip(part.tolist(), whole.tolist(), strict=True)
    )
