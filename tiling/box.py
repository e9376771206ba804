"""Half-open boxes of indices: the one shape that patches, blocks, chunks and windows have."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod


@dataclass(frozen=True, slots=True)
class Box:
    """The indices ``start <= i < stop`` on every axis.

    Never empty: ``stop > start`` on every axis. What would be empty is `None` (see `intersect`).
    """

    start: tuple[int, ...]
    stop: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.stop):
            raise ValueError(f"start has {len(self.start)} axes, stop has {len(self.stop)}; give both the same rank")
        if any(low >= high for low, high in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"box {self.start}..{self.stop} is empty; every stop must lie beyond its start")

    @classmethod
    def whole(cls, shape: tuple[int, ...]) -> Box:
        """Return the box of all indices of an array of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.start)

    @property
    def shape(self) -> tuple[int, ...]:
        """Extent on each axis."""
        return tuple(high - low for low, high in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def slices(self) -> tuple[slice, ...]:
        """The box as an index into an array whose origin is index 0."""
        return tuple(slice(low, high) for low, high in zip(self.start, self.stop, strict=True))

    def within(self, outer: Box) -> tuple[slice, ...]:
        """Return the box as an index into an array that holds `outer`.

        Raises:
            ValueError: `outer` does not hold all of the box.
        """
        if not outer.contains(self):
            raise ValueError(f"{self} reaches out of {outer}; intersect them first")
        return tuple(
            slice(low - base, high - base) for low, high, base in zip(self.start, self.stop, outer.start, strict=True)
        )

    def contains(self, other: Box) -> bool:
        """Tell whether every index of `other` is in this box."""
        self._same_rank(other)
        return all(a <= b for a, b in zip(self.start, other.start, strict=True)) and all(
            a >= b for a, b in zip(self.stop, other.stop, strict=True)
        )

    def intersect(self, other: Box) -> Box | None:
        """Return what both boxes hold, or None where they are disjoint."""
        self._same_rank(other)
        start = tuple(max(a, b) for a, b in zip(self.start, other.start, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, other.stop, strict=True))
        return Box(start, stop) if all(a < b for a, b in zip(start, stop, strict=True)) else None

    def shift(self, by: tuple[int, ...]) -> Box:
        """Return the box of the same shape, moved by this many indices on each axis."""
        return Box(
            tuple(low + step for low, step in zip(self.start, by, strict=True)),
            tuple(high + step for high, step in zip(self.stop, by, strict=True)),
        )

    def replace_axis(self, axis: int, start: int, stop: int) -> Box:
        """Return the box with other bounds on one axis, counted from 0."""
        if not 0 <= axis < self.ndim:
            raise ValueError(f"a box of {self.ndim} axes has no axis {axis}")
        return Box(
            (*self.start[:axis], start, *self.start[axis + 1 :]),
            (*self.stop[:axis], stop, *self.stop[axis + 1 :]),
        )

    def _same_rank(self, other: Box) -> None:
        if self.ndim != other.ndim:
            raise ValueError(f"a box of {self.ndim} axes meets one of {other.ndim}; ranks must agree")
