"""Closed rings in flat arrays: made simple, turned to one start, put together to polygons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.walks import Ints, walks


@dataclass(frozen=True, slots=True)
class Rings:
    """Rings, each without its first point at the end again.

    Attributes:
        points: (points, 2) int32, x and y, ring by ring.
        starts: (rings + 1,) where each ring begins in `points`, and their number.
        owner: (rings,) the polygon that the ring belongs to.
    """

    points: NDArray[np.int32]
    starts: Ints
    owner: Ints

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def lengths(self) -> Ints:
        """Points of each ring."""
        return np.diff(self.starts)

    def taken(self, which: Ints) -> Rings:
        """Return the rings of these numbers, in this order."""
        lengths = self.lengths[which]
        return Rings(self.points[spans(self.starts[which], lengths)], starts_of(lengths), self.owner[which])

    def owned(self, owner: Ints) -> Rings:
        """Return the same rings with other owners."""
        return Rings(self.points, self.starts, owner)

    def reversed(self) -> Rings:
        """Return the rings walked the other way, each from the same first point."""
        at = np.arange(len(self.points)) - np.repeat(self.starts[:-1], self.lengths)
        size = np.repeat(self.lengths, self.lengths)
        turned = np.repeat(self.starts[:-1], self.lengths) + (size - at) % size
        return Rings(self.points[turned], self.starts, self.owner)


def no_rings() -> Rings:
    """Return a table without rings."""
    return Rings(np.zeros((0, 2), np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64))


def joined(tables: Sequence[Rings]) -> Rings:
    """Return the rings of all tables, one after another."""
    if not tables:
        return no_rings()
    if len(tables) == 1:
        return tables[0]
    lengths = np.concatenate([table.lengths for table in tables])
    points = np.concatenate([table.points for table in tables])
    return Rings(points, starts_of(lengths), np.concatenate([table.owner for table in tables]))


def starts_of(lengths: Ints) -> Ints:
    """Return where stretches of these lengths begin, and where the last one ends."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)))


def spans(starts: Ints, lengths: Ints) -> Ints:
    """Return the numbers of all stretches, one after another: start, start + 1, ..., length of them."""
    total = starts_of(lengths)
    return np.arange(total[-1]) + np.repeat(starts - total[:-1], lengths)


def as_polygons(rings: Rings) -> Rings:
    """Return the rings of 4-connected regions as valid polygons take them.

    No ring passes a point twice; each starts at its topmost, then leftmost point; an owner's rings stand together,
    owners ascending, its outer ring first, then the holes from top to bottom. Nothing of that depends on how they were
    found.
    """
    simple = _started(_simple(rings))
    hole = twice_area(simple) < 0
    first = simple.points[simple.starts[:-1]]
    return simple.taken(np.lexsort((first[:, 0], first[:, 1], hole, simple.owner)))


def twice_area(rings: Rings) -> Ints:
    """Return twice the area that each ring encloses, in cells; positive for clockwise as seen on the screen."""
    x, y = rings.points[:, 0].astype(np.int64), rings.points[:, 1].astype(np.int64)
    onward = _onward(rings)
    if not len(rings):
        return rings.owner
    return np.asarray(np.add.reduceat(x * y[onward] - x[onward] * y, rings.starts[:-1]), np.int64)


def _onward(rings: Rings) -> Ints:
    """Return the number of the point after each."""
    onward = np.arange(1, len(rings.points) + 1)
    onward[rings.starts[1:] - 1] = rings.starts[:-1]
    return onward


def _keys(points: NDArray[Any]) -> Ints:
    return np.asarray(points[:, 1].astype(np.int64) << 32 | points[:, 0], np.int64)


def _simple(rings: Rings) -> Rings:
    """Part rings where a region meets itself across a corner.

    There it passes twice. What lies on the other two sides of the point is kept apart by the region, which surrounds
    one of the two (Jordan), so that taking each pass out of the point by the other's way gives rings that touch and no
    ring that touches itself.
    """
    owner, key = np.repeat(rings.owner, rings.lengths), _keys(rings.points)
    order = np.lexsort((key, owner))
    same = (key[order][1:] == key[order][:-1]) & (owner[order][1:] == owner[order][:-1])
    if not same.any():
        return rings
    one, two = order[:-1][same], order[1:][same]
    involved = np.isin(rings.owner, np.unique(owner[one]))
    rest, touched = rings.taken(np.flatnonzero(~involved)), np.flatnonzero(involved)
    place = spans(rings.starts[touched], rings.lengths[touched])
    number = np.empty(len(key), np.int64)
    number[place] = np.arange(len(place))
    following = number[_onward(rings)[place]]
    one, two = number[one], number[two]
    following[one], following[two] = following[two], following[one]
    found = walks(following)
    at = place[found.order]
    return joined((rest, Rings(rings.points[at], found.starts, owner[at[found.starts[:-1]]])))


def _started(rings: Rings) -> Rings:
    """Begin each ring at its topmost, then leftmost point."""
    if not len(rings):
        return rings
    key = _keys(rings.points)
    lowest = np.minimum.reduceat(key, rings.starts[:-1])
    first = np.flatnonzero(key == np.repeat(lowest, rings.lengths))
    size, start = np.repeat(rings.lengths, rings.lengths), np.repeat(rings.starts[:-1], rings.lengths)
    at = np.arange(len(key)) - start
    turned = start + (at + np.repeat(first - rings.starts[:-1], rings.lengths)) % size
    return Rings(rings.points[turned], rings.starts, rings.owner)
