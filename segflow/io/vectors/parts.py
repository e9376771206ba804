"""What a sweep gives: finished polygons in flat arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.rings import Rings, as_polygons, joined, no_rings
from segflow.io.vectors.walks import Ints


@dataclass(frozen=True, slots=True)
class Parts:
    """4-connected regions, or some of them.

    Attributes:
        values: (parts,) int64, the label of each.
        cells: (parts,) int64, how many cells it has.
        weights: (parts,) float64, the sum of its cells' weights, a whole number.
        rings: its rings; the owner is the part's number.
    """

    values: Ints
    cells: Ints
    weights: NDArray[np.float64]
    rings: Rings

    def __len__(self) -> int:
        return len(self.values)

    def taken(self, which: Ints) -> Parts:
        """Return the parts of these numbers, in this order; the rings must be ordered as polygons take them."""
        first = np.searchsorted(self.rings.owner, np.arange(len(self) + 1))
        counts = np.diff(first)[which]
        begins = np.cumsum(counts) - counts
        rings = np.arange(counts.sum()) + np.repeat(first[:-1][which] - begins, counts)
        owner = np.repeat(np.arange(len(which)), counts)
        return Parts(self.values[which], self.cells[which], self.weights[which], self.rings.taken(rings).owned(owner))


@dataclass(frozen=True, slots=True)
class Features:
    """Finished features: polygons, or with 8-connectivity several that touch at corners.

    Attributes:
        parts: polygons, feature by feature; their rings as polygons take them (`as_polygons`).
        feature: (parts,) the number of each part's feature, ascending from 0.
    """

    parts: Parts
    feature: Ints

    def __len__(self) -> int:
        return int(self.feature[-1]) + 1 if len(self.feature) else 0

    @property
    def values(self) -> Ints:
        """(features,) their labels."""
        return self.parts.values[np.searchsorted(self.feature, np.arange(len(self)))]

    @property
    def cells(self) -> Ints:
        """(features,) how many cells they have."""
        return np.bincount(self.feature, self.parts.cells, len(self)).astype(np.int64)

    @property
    def weights(self) -> NDArray[np.float64]:
        """(features,) the sums of their cells' weights."""
        return np.asarray(np.bincount(self.feature, self.parts.weights, len(self)), np.float64)

    def cut(self, first: int, end: int) -> Features:
        """Return the features from one to before another, without a copy of their points."""
        start, stop = np.searchsorted(self.feature, (first, end)).tolist()
        parts = self.parts
        rings = parts.rings.cut(*np.searchsorted(parts.rings.owner, (start, stop)).tolist())
        rings = rings.owned(rings.owner - start)
        some = Parts(parts.values[start:stop], parts.cells[start:stop], parts.weights[start:stop], rings)
        return Features(some, self.feature[start:stop] - first)

    def taken(self, which: Ints) -> Features:
        """Return the features of these numbers, in this order."""
        first = np.searchsorted(self.feature, np.arange(len(self) + 1))
        counts = np.diff(first)[which]
        begins = np.cumsum(counts) - counts
        parts = np.arange(counts.sum()) + np.repeat(first[:-1][which] - begins, counts)
        return Features(self.parts.taken(parts), np.repeat(np.arange(len(which)), counts))


def joined_parts(tables: Sequence[Parts]) -> Parts:
    """Return the parts of all tables, one after another."""
    if not tables:
        return Parts(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), no_rings())
    before = np.cumsum([0, *(len(table) for table in tables)])
    rings = [table.rings.owned(table.rings.owner + n) for table, n in zip(tables, before[:-1], strict=True)]
    return Parts(
        np.concatenate([table.values for table in tables]),
        np.concatenate([table.cells for table in tables]),
        np.concatenate([table.weights for table in tables]),
        joined(rings),
    )


def ordered(parts: Parts, feature: Ints) -> Features:
    """Return features of parts in any order: by number, the parts of each from top to bottom."""
    first = np.searchsorted(parts.rings.owner, np.arange(len(parts)))
    corner = parts.rings.points[parts.rings.starts[first]]
    order = np.lexsort((corner[:, 0], corner[:, 1], feature))
    return Features(parts.taken(order), feature[order])


def finished(values: Ints, cells: Ints, weights: NDArray[np.float64], rings: Rings) -> Parts:
    """Return parts of regions whose rings are all there, in any order."""
    return Parts(values, cells, weights, as_polygons(rings))
