"""Blocks: the parts of the output that one worker owns, and the patches that each needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import ceil, prod

from tiling.axismap import AxisMap, Filter, PlacedMap
from tiling.box import Box
from tiling.lattice import Lattice


@dataclass(frozen=True, slots=True)
class Frame:
    """Where the model's grid lies, when it covers but a part of the scene, or more than the scene.

    Attributes:
        outer: the output cells that the model sees; all others are of the first class.
        inner: the model's cells that cover them; the others are padding.
        rules: for each axis, how output cells are made of the model's.
    """

    outer: Box
    inner: Box
    rules: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """How the output is cut: blocks, each written as chunks of a fixed number of rows along the sweep's axis.

    Attributes:
        lattice: patches, on the model's grid.
        shape: the whole output, in cells.
        region: the part of it that is made; all of it unless a preview was asked for.
        sweep: axis along which a block is worked off.
        block: cells of a block on each axis (the last ones are smaller), counted from the region's start.
        rows: cells of a chunk along the sweep's axis; divides ``block[sweep]``.
        frame: where the model's grid lies; None where both grids have one extent.
    """

    lattice: Lattice
    shape: tuple[int, ...]
    region: Box
    sweep: int
    block: tuple[int, ...]
    rows: int
    frame: Frame | None = None

    def __post_init__(self) -> None:
        if not len(self.shape) == len(self.block) == self.lattice.ndim == self.region.ndim:
            raise ValueError("lattice, shape, region and block must have one rank")
        if not Box.whole(self.shape).contains(self.region):
            raise ValueError(f"region {self.region} reaches out of the output {self.shape}")
        if self.frame is not None and not (
            Box.whole(self.shape).contains(self.frame.outer)
            and Box.whole(self.lattice.shape).contains(self.frame.inner)
        ):
            raise ValueError(f"{self.frame} reaches out of {self.shape} or {self.lattice.shape}")
        if min(self.block) < 1 or self.rows < 1 or self.block[self.sweep] % self.rows:
            raise ValueError(f"block {self.block} must be positive, and a multiple of {self.rows} rows where swept")

    @property
    def maps(self) -> tuple[AxisMap | PlacedMap, ...]:
        """For each axis, how output cells are made of the model's."""
        if self.frame is not None:
            outer, inner = self.frame.outer, self.frame.inner
            sizes = zip(inner.shape, outer.shape, self.frame.rules, strict=True)
            parts = [AxisMap(n, m, rule) for n, m, rule in sizes]
            return tuple(map(PlacedMap, parts, inner.start, outer.start, self.shape))
        return tuple(AxisMap(n, m) for n, m in zip(self.lattice.shape, self.shape, strict=True))

    @property
    def resampled(self) -> bool:
        """Whether the model's grid differs from the output's."""
        return self.frame is not None or self.lattice.shape != self.shape

    @property
    def counts(self) -> tuple[int, ...]:
        """Blocks along each axis."""
        return tuple(ceil(n / b) for n, b in zip(self.region.shape, self.block, strict=True))

    def __len__(self) -> int:
        return prod(self.counts)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        """Yield the blocks' coordinates."""
        return product(*map(range, self.counts))

    def spans(self, axis: int) -> Iterator[tuple[int, int]]:
        """Yield the first output cell of each block along one axis, and the one behind its last."""
        start, stop, length = self.region.start[axis], self.region.stop[axis], self.block[axis]
        return ((low, min(low + length, stop)) for low in range(start, stop, length))

    def box(self, block: Sequence[int]) -> Box:
        """Return the output cells of a block."""
        start = tuple(a + k * b for a, k, b in zip(self.region.start, block, self.block, strict=True))
        stop = tuple(min(s + b, e) for s, b, e in zip(start, self.block, self.region.stop, strict=True))
        return Box(start, stop)

    def model_box(self, box: Box) -> Box:
        """Return the model cells that output cells are made of."""
        supports = [m.support(a, b) for m, a, b in zip(self.maps, box.start, box.stop, strict=True)]
        return Box(tuple(low for low, _ in supports), tuple(high for _, high in supports))

    def patches(self, block: Sequence[int]) -> tuple[range, ...]:
        """Return, for each axis, the indices of the patches that a block needs."""
        return self.lattice.touching(self.model_box(self.box(block)))

    def owned(self, block: Sequence[int]) -> tuple[range, ...]:
        """Return, for each axis, those patches that no block before it on that axis needs.

        Over all blocks every patch that touches the region is owned once, so that what is counted over owned patches
        does not depend on the cut.
        """
        mine = self.patches(block)
        out = []
        for axis, (k, here) in enumerate(zip(block, mine, strict=True)):
            first = here.start
            if k > 0:
                before = (*block[:axis], k - 1, *block[axis + 1 :])
                first = max(first, self.patches(before)[axis].stop)
            out.append(range(min(first, here.stop), here.stop))
        return tuple(out)

    @property
    def forwards(self) -> int:
        """Patches that are run, counting one that two blocks need twice, and blank ones."""
        return prod(
            sum(len(axis.touching(*axis_map.support(*span))) for span in self.spans(number))
            for number, (axis, axis_map) in enumerate(zip(self.lattice.axes, self.maps, strict=True))
        )

    @property
    def overhead(self) -> float:
        """Cells of the region's patches, by its own cells, on the model's grid: what overlap and overhang repeat.

        What cuts repeat besides is `forwards` by `forwards_minimum`.
        """
        return prod(self.lattice.patch) * self.forwards_minimum / self.model_box(self.region).size

    @property
    def forwards_minimum(self) -> int:
        """Patches that touch the region, each once, blank ones included."""
        return prod(len(indices) for indices in self.lattice.touching(self.model_box(self.region)))

    def chunks(self, block: Sequence[int]) -> tuple[Box, ...]:
        """Return the chunks of a block, in the order in which the sweep fills them."""
        box = self.box(block)
        low, high = box.start[self.sweep], box.stop[self.sweep]
        return tuple(box.replace_axis(self.sweep, a, min(a + self.rows, high)) for a in range(low, high, self.rows))


def rows_of(step: float, least: int = 64) -> int:
    """Return the rows of a chunk: a multiple of the step (in output cells), at least `least`."""
    unit = max(1, round(step))
    return unit * ceil(least / unit)


def share(length: int, parts: int, unit: int) -> int:
    """Return a block's extent on one axis: the least multiple of `unit` of which at most `parts` hold all.

    Args:
        length: cells of the region on this axis.
        parts: how many blocks are wanted; there are fewer where there are not so many units.
        unit: what cuts are multiples of: the step between patches, or the rows of a chunk.
    """
    return ceil(ceil(length / unit) / parts) * unit


def cut(length: int, wanted: int | None, unit: int) -> int:
    """Return a block's extent on one axis: `wanted` rounded to a multiple of `unit`, or one that holds all.

    Args:
        length: cells of the region on this axis.
        wanted: cells that a block should have; None for one block.
        unit: what cuts are multiples of: the step between patches, or the rows of a chunk.
    """
    whole = ceil(length / unit) * unit
    return whole if wanted is None else min(whole, max(1, round(wanted / unit)) * unit)
