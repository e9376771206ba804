"""All that a scene's page shows of the scene itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segflow.report.preview import Preview
from segflow.report.pyramid import Pyramid
from segflow.report.voxels import Voxels

WORST = 8
"""Places that a page shows at most."""


@dataclass(frozen=True, slots=True)
class Place:
    """A part of the scene where the prediction is at its worst.

    Attributes:
        view: input, labels and, where there is one, reference.
        start: its first cell, in the order of the grid's axes.
        stop: one after its last cell.
        value: share of its scored cells that are wrong; without a reference the mean confidence, from 0 to 1.
        at: where the viewer goes: for a raster the box (left, top, right, bottom) in cells, for a volume the voxel.
    """

    view: Preview
    start: tuple[int, ...]
    stop: tuple[int, ...]
    value: float
    at: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Confidence:
    """How sure the network was.

    Attributes:
        counts: (256,) int64, valid cells by confidence (largest probability x 255).
        by_class: mean confidence by class, 0 to 1, in the order of the classes; NaN where a class does not occur.
        step: every how many-th cell was looked at, on each axis.
    """

    counts: NDArray[np.int64]
    by_class: NDArray[np.float64]
    step: int


@dataclass(frozen=True, slots=True)
class BaseMap:
    """Map tiles of somebody else's that a reader may switch on.

    Attributes:
        url: with {z}, {x} and {y}, in Web Mercator.
        to_mercator: six numbers that take a cell's corner (column, row) there.
    """

    url: str
    to_mercator: tuple[float, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[\w.:-]+/[^\s\"'<>;,]*", self.url) or not all(
            part in self.url for part in ("{z}", "{x}", "{y}")
        ):
            raise ValueError(f"{self.url!r} is no address of map tiles")

    @property
    def origin(self) -> str:
        """Whom the page may ask for pictures."""
        return "/".join(self.url.split("/")[:3])


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a page shows besides numbers.

    Attributes:
        previews: small pictures, for paper and for browsers without scripts.
        pyramid: a raster's tiles.
        voxels: a volume's arrays.
        worst: where it is at its worst, the worst first.
        by_confidence: whether `worst` goes by confidence, since there is no reference.
        confidence: where it was written.
        basemap: what a raster's map may show below; None: the page asks nobody for anything.
    """

    previews: Sequence[Preview] = ()
    pyramid: Pyramid | None = None
    voxels: Voxels | None = None
    worst: Sequence[Place] = ()
    by_confidence: bool = False
    confidence: Confidence | None = None
    basemap: BaseMap | None = None


def confidence_of(values: NDArray[np.uint8], labels: NDArray[np.uint8], classes: int, step: int) -> Confidence:
    """Return how sure the network was.

    Args:
        values: (*axes) uint8, largest probability x 255.
        labels: (*axes) uint8, positions of classes, 255 = none.
        classes: how many there are.
        step: every how many-th cell these are.
    """
    joint = np.bincount(labels.reshape(-1).astype(np.int64) * 256 + values.reshape(-1), minlength=256 * 256)
    table = joint.reshape(256, 256)[: min(classes, 255)]
    totals = table.sum(axis=1)
    sums = (table * np.arange(256)).sum(axis=1)
    means = np.full(classes, np.nan)
    means[: len(totals)] = np.divide(sums, totals * 255.0, out=np.full(len(totals), np.nan), where=totals > 0)
    return Confidence(table.sum(axis=0), means, step)


def block_sums(cells: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return the sums over blocks of so many cells on each axis; the last block of an axis may be smaller."""
    for axis, size in enumerate(cells.shape):
        cells = np.add.reduceat(cells, np.arange(0, size, side), axis=axis)
    return cells


def worst_blocks(values: NDArray[np.float64], weights: NDArray[np.float64], most: int = WORST) -> list[tuple[int, ...]]:
    """Return the blocks with the largest values, the worst first: none of 0, none whose weight is a rest.

    Args:
        values: by block, such as cells that are wrong; ties go to the first.
        weights: by block, the cells that count; blocks with less than a quarter of the largest are left out.
        most: how many at most.
    """
    enough = weights * 4 >= weights.max(initial=0.0)
    ranked = np.where(enough & (weights > 0), values, -np.inf).reshape(-1)
    order = np.argsort(-ranked, kind="stable")[:most]
    return [tuple(int(i) for i in np.unravel_index(place, values.shape)) for place in order if ranked[place] > 0]
