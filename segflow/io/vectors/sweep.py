"""From a label map, strip by strip from top to bottom, to whole polygons.

A region's polygon is given when the sweep has passed its last row, never cut where strips meet: rings that leave a
strip stay open (`chains`), and regions that go on keep their closed rings and counts. So memory goes with a strip and
with the borders of the regions that are open: eight bytes a corner, of holes too, for a region that spans the scene.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.chains import linked_rings, no_chains
from segflow.io.vectors.corners import corners
from segflow.io.vectors.parts import Features, Parts, finished, joined_parts, ordered
from segflow.io.vectors.rings import Rings, joined
from segflow.io.vectors.walks import Ints
from segflow.union import united

# Gives of a strip's values, (rows, columns), which points inside it borders pass, (rows + 1, columns + 1).
Simplifier = Callable[[NDArray[Any]], NDArray[np.bool_]]


@dataclass(frozen=True, slots=True)
class Strip:
    """Some rows of a label map.

    Attributes:
        values: (rows, columns) of an unsigned type, less than 65535.
        weights: (rows, columns) what is summed over each polygon, whole numbers; None for nothing.
        last: whether no rows come after.
    """

    values: NDArray[Any]
    weights: NDArray[Any] | None
    last: bool


def polygons(
    strips: Iterable[Strip], wanted: NDArray[np.bool_], connectivity: int = 4, simplifier: Simplifier | None = None
) -> Iterator[Features]:
    """Yield the polygons of a label map as they are finished.

    Args:
        strips: the rows from top to bottom.
        wanted: by value, whether its polygons are wanted.
        connectivity: 4 parts regions that meet at corners only; 8 makes one feature of them, in several polygons.
        simplifier: thins out borders; None for all corners.
    """
    sweep = _Sweep(wanted, connectivity, simplifier)
    for strip in strips:
        yield sweep.features(strip)


class _Kept(Protocol):
    def absorb(self, other: Any) -> None:
        """Take over what was kept of what turns out to be the same."""


@dataclass(slots=True)
class _Region:
    """A 4-connected region that is not finished."""

    value: int
    cells: int = 0
    weight: float = 0.0
    rings: list[Rings] = field(default_factory=list)

    def absorb(self, other: _Region) -> None:
        self.cells += other.cells
        self.weight += other.weight
        self.rings.extend(other.rings)


@dataclass(slots=True)
class _Group:
    """Regions that meet at corners, some of which are finished."""

    parts: list[Parts] = field(default_factory=list)

    def absorb(self, other: _Group) -> None:
        self.parts.extend(other.parts)


_K = TypeVar("_K", bound=_Kept)


@dataclass(slots=True)
class _Labelled:
    """The window's regions, or groups, by the numbers that they have in this strip.

    Attributes:
        numbers: (rows, columns) of each cell; 0 in the frame. What is connected by way of rows above has one number.
        known: pairs of a number of the strip before and the number that it has now.
        values: by number, the label.
        wanted: by number.
        opened: by number, whether it goes on below.
    """

    numbers: NDArray[Any]
    known: list[tuple[int, int]]
    values: Ints
    wanted: NDArray[np.bool_]
    opened: NDArray[np.bool_]


class _Sweep:
    def __init__(self, wanted: NDArray[np.bool_], connectivity: int, simplifier: Simplifier | None) -> None:
        self._wanted = np.append(False, wanted)
        self._grouped = connectivity == 8
        self._simplifier = simplifier
        self._values: NDArray[np.uint16] | None = None
        self._rows: dict[int, NDArray[Any]] = {}
        self._regions: dict[int, _Region] = {}
        self._groups: dict[int, _Group] = {}
        self._chains = no_chains()
        self._line = 0

    def features(self, strip: Strip) -> Features:
        """Take in a strip; return what is finished."""
        window = self._window(strip)
        height = len(strip.values)
        regions = self._labelled(window, 4, strip.last)
        kept = None if self._simplifier is None else self._simplifier(strip.values)[: height + strip.last]
        found = corners(window, regions.numbers, regions.wanted, self._line, not strip.last, kept)
        rings, self._chains = linked_rings(found, self._chains)
        inside = regions.numbers[1 : height + 1, 1:-1]
        cells = np.bincount(inside.ravel(), minlength=len(regions.values))
        weights: NDArray[Any] = np.zeros(len(cells))
        if strip.weights is not None:
            weights = np.bincount(inside.ravel(), strip.weights.ravel(), len(cells))
        parts, number = self._finished_regions(regions, cells, weights, rings)
        if self._grouped:
            made = self._finished_groups(window, regions, parts, number, strip.last)
        else:
            made = Features(parts, np.arange(len(parts)))
        self._values = window[height].copy()
        self._line += height
        return made

    def _window(self, strip: Strip) -> NDArray[np.uint16]:
        """Return the strip below the row before it, in a frame of zeros; values are one more than they are."""
        height, width = strip.values.shape
        window = np.zeros((height + 1 + strip.last, width + 2), np.uint16)
        if self._values is not None:
            window[0] = self._values
        window[1 : height + 1, 1:-1] = strip.values
        window[1 : height + 1, 1:-1] += 1
        return window

    def _labelled(self, window: NDArray[np.uint16], connectivity: int, last: bool) -> _Labelled:
        """Number the window's connected cells."""
        import cc3d

        numbers, count = cc3d.connected_components(window, connectivity=connectivity, return_N=True)
        values = np.zeros(count + 1, np.int64)
        values[numbers.ravel()] = window.ravel()
        wanted = self._wanted[values]
        known: list[tuple[int, int]] = []
        if connectivity in self._rows:
            chosen = wanted[numbers[0]]
            pairs = np.column_stack((self._rows[connectivity][chosen], numbers[0][chosen]))
            known, alias = _one_number_each(np.unique(pairs, axis=0), count + 1)
            if alias is not None:
                numbers = alias.astype(numbers.dtype)[numbers]
        opened = np.zeros(count + 1, bool)
        if not last:
            opened[numbers[-1]] = True
        self._rows[connectivity] = numbers[len(window) - 1 - last].copy()
        return _Labelled(numbers, known, values - 1, wanted, opened & wanted)

    def _finished_regions(
        self,
        regions: _Labelled,
        cells: Ints,
        weights: NDArray[np.float64],
        rings: Rings,
    ) -> tuple[Parts, Ints]:
        """Keep what goes on; return what is finished, and the number that each has in the window."""
        values, carried = regions.values, _carried(self._regions, regions.known)
        lasting = regions.opened.copy()
        lasting[list(carried)] = True
        own = lasting[rings.owner]
        for number in np.flatnonzero(lasting).tolist():
            region = carried.setdefault(number, _Region(int(values[number])))
            region.cells += int(cells[number])
            region.weight += float(weights[number])
        for owner, theirs in _by_owner(rings.taken(np.flatnonzero(own))):
            carried[owner].rings.append(theirs)
        self._regions = {number: region for number, region in carried.items() if regions.opened[number]}
        ended = [number for number in carried if not regions.opened[number]]
        at_once = np.flatnonzero(regions.wanted & ~lasting & (cells > 0))
        place = np.zeros(len(values), np.int64)
        place[at_once] = np.arange(len(at_once))
        tables = [rings.taken(np.flatnonzero(~own))]
        tables[0] = tables[0].owned(place[tables[0].owner])
        for count, number in enumerate(ended, start=len(at_once)):
            tables.extend(table.owned(np.full(len(table), count)) for table in carried[number].rings)
            carried[number].rings.clear()
        whole = joined(tables)
        tables.clear()
        number_of = np.concatenate((at_once, np.array(ended, np.int64)))
        return finished(
            values[number_of],
            np.concatenate((cells[at_once], np.array([carried[number].cells for number in ended], np.int64))),
            np.concatenate((weights[at_once], np.array([carried[number].weight for number in ended], np.float64))),
            whole,
        ), number_of

    def _finished_groups(
        self, window: NDArray[np.uint16], regions: _Labelled, parts: Parts, number: Ints, last: bool
    ) -> Features:
        """Put finished regions to those that they meet at corners; return the groups that are finished."""
        groups = self._labelled(window, 8, last)
        of_region = np.zeros(len(regions.wanted), np.int64)
        of_region[regions.numbers.ravel()] = groups.numbers.ravel()
        carried = _carried(self._groups, groups.known)
        mine = of_region[number]
        lasting = groups.opened.copy()
        lasting[list(carried)] = True
        for group in np.flatnonzero(lasting).tolist():
            carried.setdefault(group, _Group())
        order = np.argsort(mine, kind="stable")
        late = order[lasting[mine[order]]]
        for group, which in _runs(mine[late]):
            carried[group].parts.append(parts.taken(late[which]))
        self._groups = {group: kept for group, kept in carried.items() if groups.opened[group]}
        soon = order[~lasting[mine[order]]]
        tables, feature = [parts.taken(soon)], [np.unique(mine[soon], return_inverse=True)[1].astype(np.int64)]
        count = len(np.unique(mine[soon]))
        for group, kept in carried.items():
            if not groups.opened[group]:
                tables.append(joined_parts(kept.parts))
                feature.append(np.full(len(tables[-1]), count))
                count += 1
        return ordered(joined_parts(tables), np.concatenate(feature))


def _one_number_each(pairs: Ints, count: int) -> tuple[list[tuple[int, int]], Ints | None]:
    """Give what had one number before one number now.

    Args:
        pairs: (pairs, 2) numbers before and now.
        count: of numbers now.

    Returns:
        The pairs by their new numbers, and by number the new one; None where all stay.
    """
    before = np.unique(pairs[:, 0], return_inverse=True)[1]
    now, place = np.unique(pairs[:, 1], return_inverse=True)
    size = len(now) + (int(before.max()) + 1 if len(before) else 0)
    label = united(np.column_stack((place, before + len(now))), size)[: len(now)]
    lowest = now[np.unique(label, return_index=True)[1]][np.unique(label, return_inverse=True)[1]]
    known = list(zip(pairs[:, 0].tolist(), lowest[place].tolist(), strict=True))
    if np.array_equal(lowest, now):
        return known, None
    alias = np.arange(count)
    alias[now] = lowest
    return known, alias


def _carried(kept: dict[int, _K], known: list[tuple[int, int]]) -> dict[int, _K]:
    """Return what was kept under the numbers of now; what has grown together is one."""
    carried: dict[int, _K] = {}
    taken: set[int] = set()
    for before, number in known:
        if before in taken:
            continue
        taken.add(before)
        if number in carried:
            carried[number].absorb(kept[before])
        else:
            carried[number] = kept[before]
    return carried


def _by_owner(rings: Rings) -> Iterator[tuple[int, Rings]]:
    order = np.argsort(rings.owner, kind="stable")
    for owner, which in _runs(rings.owner[order]):
        yield owner, rings.taken(order[which])


def _runs(sorted_numbers: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each number, and where it stands."""
    if not len(sorted_numbers):
        return
    cuts = np.flatnonzero(np.diff(sorted_numbers)) + 1
    for which in np.split(np.arange(len(sorted_numbers)), cuts):
        yield int(sorted_numbers[which[0]]), which
