"""Closed rings in flat arrays: made simple, turned to one start, put together to polygons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.walks import Ints, walks

# Points of rings that are worked on at once: what that takes must not go with the largest polygon.
_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Rings:
    """Rings, each without its first point at the end again.

    Attributes:
        points: (points, 2) int32, x and y, ring by ring.
        starts: (rings + 1,) where each ring begins in `points`, and their number.
        owner: (rings,) the polygon that the ring belongs to.
        settled: (rings,) whether it starts at its topmost, then leftmost point, and its region meets itself across no
            corner of it.
    """

    points: NDArray[np.int32]
    starts: Ints
    owner: Ints
    settled: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def lengths(self) -> Ints:
        """Points of each ring."""
        return np.diff(self.starts)

    def taken(self, which: Ints) -> Rings:
        """Return the rings of these numbers, in this order."""
        lengths = self.lengths[which]
        starts = starts_of(lengths)
        points = np.empty((starts[-1], 2), np.int32)
        for first, end in blocks(starts):
            points[starts[first] : starts[end]] = self.points[spans(self.starts[which[first:end]], lengths[first:end])]
        return Rings(points, starts, self.owner[which], self.settled[which])

    def cut(self, first: int, end: int) -> Rings:
        """Return the rings from one to before another, without a copy of their points."""
        starts = self.starts[first : end + 1]
        return Rings(
            self.points[starts[0] : starts[-1]], starts - starts[0], self.owner[first:end], self.settled[first:end]
        )

    def owned(self, owner: Ints) -> Rings:
        """Return the same rings with other owners."""
        return Rings(self.points, self.starts, owner, self.settled)


def blocks(starts: Ints) -> Iterator[tuple[int, int]]:
    """Yield runs of rings, from one to before another: of so many points, or one ring.

    Args:
        starts: (rings + 1,) where each ring's points begin, and how many there are.
    """
    first = 0
    while first < len(starts) - 1:
        end = max(first + 1, int(np.searchsorted(starts, starts[first] + _AT_ONCE, side="right")) - 1)
        yield first, end
        first = end


def no_rings() -> Rings:
    """Return a table without rings."""
    return Rings(np.zeros((0, 2), np.int32), np.zeros(1, np.int64), np.zeros(0, np.int64), np.zeros(0, bool))


def joined(tables: Sequence[Rings]) -> Rings:
    """Return the rings of all tables, one after another."""
    if not tables:
        return no_rings()
    if len(tables) == 1:
        return tables[0]
    lengths = np.concatenate([table.lengths for table in tables])
    points = np.concatenate([table.points for table in tables])
    owner, settled = (
        np.concatenate([table.owner for table in tables]),
        np.concatenate([table.settled for table in tables]),
    )
    return Rings(points, starts_of(lengths), owner, settled)


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
    ready, loose = np.flatnonzero(rings.settled), np.flatnonzero(~rings.settled)
    if len(loose):
        mended = started(_simple(rings.taken(loose)))
        ready = np.concatenate((ready, len(rings) + np.arange(len(mended))))
        rings = joined((rings, mended))
    hole = twice_area(rings)[ready] < 0
    first = rings.points[rings.starts[ready]]
    return rings.taken(ready[np.lexsort((first[:, 0], first[:, 1], hole, rings.owner[ready]))])


def twice_area(rings: Rings) -> Ints:
    """Return twice the area that each ring encloses, in cells; positive for clockwise as seen on the screen."""
    twice = np.zeros(len(rings), np.int64)
    for first, end in blocks(rings.starts):
        some = rings.cut(first, end)
        onward = _onward(some)
        x, y = some.points.T.astype(np.int64)
        twice[first:end] = np.add.reduceat(x * y[onward] - x[onward] * y, some.starts[:-1])
    return twice


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
    return joined((rest, Rings(rings.points[at], found.starts, owner[at[found.starts[:-1]]], _none(found.starts))))


def _none(starts: Ints) -> NDArray[np.bool_]:
    return np.zeros(len(starts) - 1, bool)


def started(rings: Rings) -> Rings:
    """Begin each ring at its topmost, then leftmost point."""
    if not len(rings):
        return rings
    key = _keys(rings.points)
    lowest = np.minimum.reduceat(key, rings.starts[:-1])
    first = np.flatnonzero(key == np.repeat(lowest, rings.lengths))
    size, start = np.repeat(rings.lengths, rings.lengths), np.repeat(rings.starts[:-1], rings.lengths)
    at = np.arange(len(key)) - start
    turned = start + (at + np.repeat(first - rings.starts[:-1], rings.lengths)) % size
    return Rings(rings.points[turned], rings.starts, rings.owner, rings.settled)
