"""From patches to blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import Literal

from segflow.errors import PlanError
from segflow.memory import shown
from tiling import Box, Demand, Lattice, Layout, cut, rows_of, share


class NoRoomError(PlanError):
    """Even the smallest block does not fit in memory.

    Attributes:
        least_bytes: what the run needs at the least.
    """

    def __init__(self, need: Demand, sharing: int, allowed_bytes: int) -> None:
        self.least_bytes = need.run_bytes(sharing)
        each = f", on each of {sharing} workers" if sharing > 1 else ""
        super().__init__(
            f"the run needs {shown(self.least_bytes)}: {_parts(need)}{each}",
            f"at most {shown(allowed_bytes)}",
            "raise compute.memory",
        )


@dataclass(frozen=True, slots=True)
class Wish:
    """How a scene shall be cut.

    Attributes:
        block: the recipe's `tiling.block`.
        workers: how many there may be.
        sharing: workers that share the allowed bytes, with the process that drives them.
        sweep: axis along which the file's storage demands that blocks are worked off; None: the longest.
    """

    block: int | Literal["auto", "whole"]
    workers: int = 1
    sharing: int = 1
    sweep: int | None = None


def layout_of(
    lattice: Lattice,
    shape: tuple[int, ...],
    region: Box,
    wish: Wish,
    demand_of: Callable[[Layout], Demand],
    allowed_bytes: int,
) -> Layout:
    """Cut the output into blocks.

    The sweep goes along the longest axis, unless the file's storage demands another. `auto` gives every worker one run
    of it, and cuts across only as often as memory demands: into as few parts as will do, the longest axis first. A
    number cuts on every axis. All cuts lie where a patch starts, so that as few patches as can be are run twice.

    Args:
        lattice: patches, on the model's grid.
        shape: the whole output, in cells.
        region: the part of it that is made.
        wish: how it shall be cut.
        demand_of: projects the memory of a layout.
        allowed_bytes: that the run may use.

    Raises:
        NoRoomError: even the smallest block would not fit in memory.
    """
    longest = max(range(len(shape)), key=lambda axis: region.shape[axis])
    sweep = longest if wish.sweep is None else wish.sweep
    steps = [_step_out(lattice, shape, axis) for axis in range(len(shape))]
    rows = rows_of(steps[sweep])
    units = [rows if axis == sweep else max(1, round(steps[axis])) for axis in range(len(shape))]
    for block in _blocks(wish, region, units, sweep):
        layout = Layout(lattice, shape, region, sweep, block, rows)
        need = demand_of(layout)
        if need.run_bytes(wish.sharing) <= allowed_bytes:
            return layout
    raise NoRoomError(need, wish.sharing, allowed_bytes)


def _blocks(wish: Wish, region: Box, units: list[int], sweep: int) -> Iterator[tuple[int, ...]]:
    """Yield the blocks to try, largest first."""
    if wish.block != "auto":
        length = None if wish.block == "whole" else wish.block
        yield tuple(cut(n, length, unit) for n, unit in zip(region.shape, units, strict=True))
        return
    most = [ceil(n / unit) for n, unit in zip(region.shape, units, strict=True)]
    parts = [1] * region.ndim
    parts[sweep] = min(wish.workers, most[sweep])
    while True:
        block = tuple(share(n, k, unit) for n, k, unit in zip(region.shape, parts, units, strict=True))
        yield block
        across = [axis for axis in range(region.ndim) if axis != sweep and block[axis] > units[axis]]
        if not across:
            return
        axis = max(across, key=lambda axis: block[axis] / units[axis])
        while share(region.shape[axis], parts[axis], units[axis]) == block[axis]:
            parts[axis] += 1


def _step_out(lattice: Lattice, shape: tuple[int, ...], axis: int) -> float:
    """Return the step between patches in output cells; the patch where there is but one."""
    starts = lattice.axes[axis].starts
    step = starts[1] if len(starts) > 1 else lattice.axes[axis].patch
    return step * shape[axis] / lattice.shape[axis]


def _parts(need: Demand) -> str:
    named = {
        "process": need.base_bytes,
        "input": need.storage_bytes + need.input_band_bytes,
        "accumulator": need.accumulator_bytes,
        "labels": need.sealed_bytes,
        "patches in flight": need.in_flight_bytes + need.weights_bytes,
        "publishing": need.finish_bytes,
    }
    return ", ".join(f"{name} {shown(size)}" for name, size in named.items())
