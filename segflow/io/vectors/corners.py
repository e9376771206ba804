"""The corners of regions in a strip of a label map, and how region borders run from corner to corner.

A region's border is walked with the region on the right-hand side as seen on the screen, so outer borders run
clockwise and borders of holes the other way. Cells meet in lattice points (x, y), whole numbers from the top left. At a
point up to four edges meet, north, east, south and west; each edge that is there begins one region's way out of the
point, along that edge, and what comes in comes along the next edge clockwise: the cells between the two are of one
region. Regions are 4-connected, so a region that meets itself across a corner passes there twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.walks import Ints

NORTH, EAST, SOUTH, WEST = range(4)


def _next_edges() -> NDArray[np.int8]:
    """Return (16, 4): for the set of edges at a point and one of them, the next one clockwise."""
    table = np.full((16, 4), -1, np.int8)
    for code in range(16):
        for edge in range(4):
            turns = (step for step in (1, 2, 3) if code >> (edge + step) % 4 & 1)
            if code >> edge & 1 and code.bit_count() > 1:
                table[code, edge] = (edge + next(turns)) % 4
    return table


_NEXT = _next_edges()
_TURNS = np.array([code not in (0, 0b0101, 0b1010) for code in range(16)])
_PASSES_NORTH_SOUTH = 0b0101
_CROSSING = 0b1111


@dataclass(frozen=True, slots=True)
class Ports:
    """Where borders cross the upper or lower side of a strip, by column.

    Attributes:
        up: elements of borders that run north here; their region lies to the east.
        up_x: the column of each, ascending.
        down: elements of borders that run south here; their region lies to the west.
        down_x: the column of each, ascending.
    """

    up: Ints
    up_x: Ints
    down: Ints
    down_x: Ints


@dataclass(frozen=True, slots=True)
class Corners:
    """The borders of a strip as linked lists of elements: first passes of corners, then ports.

    Attributes:
        points: (corners, 2) int32, x and y of each pass of a corner.
        kept: (corners,) whether the pass stays a corner.
        meets: (corners,) whether cells of one value meet there across the corner.
        region: (elements,) which region the element borders.
        following: (elements,) the element that the border comes to next; -1 where it leaves the strip.
        top: the ports of the upper side.
        bottom: those of the lower side.
    """

    points: NDArray[np.int32]
    kept: NDArray[np.bool_]
    meets: NDArray[np.bool_]
    region: Ints
    following: Ints
    top: Ports
    bottom: Ports


@dataclass(slots=True)
class _Passes:
    """Elements as they are numbered, and by which edge of which point each leaves and arrives."""

    leaves: Ints
    arrives: Ints
    region: list[Ints]
    place: list[Ints]
    count: int = 0

    def add(
        self, places: Ints, leaves: NDArray[Any] | int | None, arrives: NDArray[Any] | int | None, region: Ints
    ) -> Ints:
        numbers = np.arange(self.count, self.count + len(places))
        if leaves is not None:
            self.leaves[leaves, places] = numbers
        if arrives is not None:
            self.arrives[arrives, places] = numbers
        self.region.append(region)
        self.place.append(places)
        self.count += len(places)
        return numbers


def corners(
    values: NDArray[Any],
    regions: NDArray[Any],
    wanted: NDArray[np.bool_],
    first_line: int,
    open_below: bool,
    kept: NDArray[np.bool_] | None = None,
) -> Corners:
    """Find the corners of wanted regions and link them.

    Args:
        values: (rows, columns) what tells cells apart, with a frame of another value: a column on the left and on the
            right, above the row that comes before the strip (or the frame's value), and below, if the strip is the
            last, one more row of the frame.
        regions: (rows, columns) the number of each cell's 4-connected region in this window.
        wanted: by region number, whether its border is walked.
        first_line: y of the line between the first two rows.
        open_below: whether borders go on below the last row.
        kept: (rows - 1, columns - 1) by point, whether it stays a corner; then points where three or four regions meet
            are corners of all of them, and so are those where borders cross the first line. None: all corners.
    """
    upright, code = _edges(values)
    told = _TURNS[code]
    if kept is not None:
        told[0] |= code[0] == _PASSES_NORTH_SOUTH
    width = code.shape[1]
    at = np.flatnonzero(told)
    y, x = np.divmod(at, width)
    above = np.flatnonzero(upright[0])
    below = np.flatnonzero(upright[-1]) if open_below else np.zeros(0, np.int64)
    edges = code.ravel()[at]
    column = np.concatenate((above, x, below))
    passes = _Passes(np.full((4, len(column)), -1), np.full((4, len(column)), -1), [], [])
    for edge, (down, right) in enumerate(((0, 1), (1, 1), (1, 0), (0, 0))):
        arriving = _NEXT[edges, edge]
        taken = arriving >= 0
        if kept is None:
            taken &= (arriving - edge) % 4 != 2
        region = regions[y + down, x + right]
        taken &= wanted[region]
        chosen = np.flatnonzero(taken)
        passes.add(len(above) + chosen, edge, arriving[chosen], region[chosen])
    visits = passes.count
    top = _ports(passes, regions[0], above, np.arange(len(above)), wanted, True)
    bottom = _ports(passes, regions[-1], below, len(above) + len(at) + np.arange(len(below)), wanted, False)
    place = np.concatenate(passes.place)[:visits] - len(above)
    points = np.column_stack((x[place], y[place] + first_line)).astype(np.int32)
    across = (values[y, x] == values[y + 1, x + 1]) | (values[y, x + 1] == values[y + 1, x])
    meets = ((edges == _CROSSING) & across)[place]
    stays = np.ones(visits, bool) if kept is None else kept.ravel()[at[place]]
    region = np.concatenate(passes.region).astype(np.int64)
    return Corners(points, stays, meets, region, _linked(passes, column), top, bottom)


def _edges(values: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Return which cells differ from the one on their right, and by point the set of edges: a bit each, north first."""
    upright, level = values[:, 1:] != values[:, :-1], values[1:] != values[:-1]
    code = upright[:-1].view(np.uint8) | level[:, 1:].view(np.uint8) << 1
    code |= upright[1:].view(np.uint8) << 2
    code |= level[:, :-1].view(np.uint8) << 3
    return upright, code


def _ports(passes: _Passes, row: NDArray[Any], x: Ints, places: Ints, wanted: NDArray[np.bool_], top: bool) -> Ports:
    """Number the ports of one side."""
    east, west = row[x + 1], row[x]
    up, down = np.flatnonzero(wanted[east]), np.flatnonzero(wanted[west])
    risen = passes.add(places[up], None if top else NORTH, SOUTH if top else None, east[up])
    fallen = passes.add(places[down], SOUTH if top else None, None if top else NORTH, west[down])
    return Ports(risen, x[up], fallen, x[down])


def _linked(passes: _Passes, column: Ints) -> Ints:
    """Return what follows each element.

    Along a line, starts and ends of one direction's stretches alternate, so the n-th start belongs to the n-th end.
    """
    following = np.full(passes.count, -1, np.int64)
    by_column = np.argsort(column, kind="stable")
    for way, back in ((EAST, WEST), (WEST, EAST), (SOUTH, NORTH), (NORTH, SOUTH)):
        starts, ends = passes.leaves[way], passes.arrives[back]
        if way in (SOUTH, NORTH):
            starts, ends = starts[by_column], ends[by_column]
        following[starts[starts >= 0]] = ends[ends >= 0]
    return following
