"""Borders that leave a strip: kept open, and joined when the strips below bring them back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from segflow.io.vectors.corners import Corners
from segflow.io.vectors.rings import Rings, joined, started, starts_of
from segflow.io.vectors.walks import Ints, Walks, walks

Points = NDArray[np.int32]
# Points, or ropes one after another: joining two costs nothing, whatever their lengths.
Rope: TypeAlias = "Points | tuple[Rope, ...]"


@dataclass(frozen=True, slots=True)
class Chains:
    """Parts of rings that lie above a line, both ends on it.

    Attributes:
        up_x: the column where each comes in from below, ascending.
        down_x: the column where it goes out again.
        points: what it passes in between.
    """

    up_x: Ints
    down_x: Ints
    points: tuple[Rope, ...]


def no_chains() -> Chains:
    """Return none, as before the first strip."""
    return Chains(np.zeros(0, np.int64), np.zeros(0, np.int64), ())


def linked_rings(found: Corners, above: Chains) -> tuple[Rings, Chains]:
    """Join a strip's borders with those above it.

    Args:
        found: the strip's corners.
        above: what the strips above have left open; exactly what crosses the strip's upper side.

    Returns:
        The rings that are closed, owned by the strip's regions, and what is open now.
    """
    following = found.following.copy()
    following[found.top.up] = found.top.down[np.searchsorted(found.top.down_x, above.down_x)]
    lists = walks(following)
    owner = found.region[lists.order[lists.starts[:-1]]]
    lists = _without_dropped(found, lists)
    is_port = np.ones(len(following), bool)
    is_port[: len(found.points)] = False
    through = np.logical_or.reduceat(is_port[lists.order], lists.starts[:-1]) if len(following) else np.zeros(0, bool)
    plain = np.flatnonzero(~through)
    starts = starts_of(np.diff(lists.starts)[plain])
    picked = lists.order[_within(lists, plain)]
    meets = np.add.reduceat(found.meets[picked], starts[:-1], dtype=np.int64) if len(plain) else np.zeros(0, np.int64)
    closed = started(Rings(found.points[picked], starts, owner[plain], meets == 0))
    rings, chains = _through(found, above, lists, np.flatnonzero(through))
    return joined((closed, *rings)), chains


def _without_dropped(found: Corners, lists: Walks) -> Walks:
    """Return the lists without corners that do not stay."""
    if found.kept.all():
        return lists
    stays = np.ones(len(found.following), bool)
    stays[: len(found.kept)] = found.kept
    left = stays[lists.order]
    return Walks(lists.order[left], starts_of(np.add.reduceat(left, lists.starts[:-1], dtype=np.int64)))


def _within(lists: Walks, which: Ints) -> NDArray[np.bool_]:
    """Tell of each place in the order whether it is in one of these lists."""
    chosen = np.zeros(len(lists.starts) - 1, bool)
    chosen[which] = True
    return np.repeat(chosen, np.diff(lists.starts))


def _through(found: Corners, above: Chains, lists: Walks, which: Ints) -> tuple[list[Rings], Chains]:
    """Join the lists that cross a side of the strip."""
    corners = len(found.points)
    came_up = {int(port): number for number, port in enumerate(found.top.up)}
    enters = dict(zip(found.bottom.up.tolist(), found.bottom.up_x.tolist(), strict=True))
    leaves = dict(zip(found.bottom.down.tolist(), found.bottom.down_x.tolist(), strict=True))
    rings: list[Rings] = []
    chains: list[tuple[int, int, Rope]] = []
    for number in which.tolist():
        run = lists.order[lists.starts[number] : lists.starts[number + 1]]
        ports = np.flatnonzero(run >= corners)
        rope: list[Rope] = []
        begun = 0
        for port in ports.tolist():
            if port > begun:
                rope.append(found.points[run[begun:port]])
            if int(run[port]) in came_up:
                rope.append(above.points[came_up[int(run[port])]])
            begun = port + 1
        if begun < len(run):
            rope.append(found.points[run[begun:]])
        if int(run[0]) in enters:
            chains.append((enters[int(run[0])], leaves[int(run[-1])], tuple(rope)))
        else:
            points = _laid_out(tuple(rope))
            rings.append(Rings(points, starts_of(np.array([len(points)])), found.region[run[:1]], np.zeros(1, bool)))
    chains.sort(key=lambda chain: chain[0])
    up_x, down_x = (np.array([chain[end] for chain in chains], np.int64) for end in (0, 1))
    return rings, Chains(up_x, down_x, tuple(chain[2] for chain in chains))


def _laid_out(rope: Rope) -> Points:
    """Return a rope's points in one array."""
    pieces: list[Points] = []
    waiting: list[Rope] = [rope]
    while waiting:
        item = waiting.pop()
        if isinstance(item, tuple):
            waiting.extend(reversed(item))
        else:
            pieces.append(item)
    return np.concatenate(pieces)
