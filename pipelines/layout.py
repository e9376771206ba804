"""From patches to blocks that fit in memory."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Literal

from segflow.errors import PlanError
from segflow.memory import shown
from tiling import Box, Demand, Lattice, Layout, cut, rows_of


def layout_of(
    lattice: Lattice,
    shape: tuple[int, ...],
    region: Box,
    sweep_axis: int | None,
    wanted: int | Literal["auto", "whole"],
    workers: int,
    sharing: int,
    demand_of: Callable[[Layout], Demand],
    allowed_bytes: int,
) -> Layout:
    """Cut the output into blocks.

    The sweep goes along the longest axis, unless the file's storage demands another (`sweep_axis`). `auto` gives every
    worker one run of it, and cuts across only as often as memory demands. A number cuts on every axis. `sharing` of the
    workers share the allowed bytes.

    Raises:
        PlanError: even the smallest block would not fit in memory.
    """
    longest = max(range(len(shape)), key=lambda axis: region.shape[axis])
    sweep = longest if sweep_axis is None else sweep_axis
    steps = [_step_out(lattice, shape, axis) for axis in range(len(shape))]
    rows = rows_of(steps[sweep])
    units = [rows if axis == sweep else max(1, round(steps[axis])) for axis in range(len(shape))]
    for pieces in _pieces(wanted, region, units, sweep):
        lengths = list(pieces)
        if wanted == "auto":
            lengths[sweep] = ceil(region.shape[sweep] / workers) if workers > 1 else None
        block = tuple(cut(n, length, unit) for n, length, unit in zip(region.shape, lengths, units, strict=True))
        layout = Layout(lattice, shape, region, sweep, block, rows)
        need = demand_of(layout)
        if need.total_bytes * sharing <= allowed_bytes:
            return layout
    raise PlanError(
        f"the run needs {shown(need.total_bytes * sharing)}: {_parts(need)}"
        + (f", on each of {sharing} workers" if sharing > 1 else ""),
        f"at most {shown(allowed_bytes)}",
        "lower tiling.patch, tiling.batch or compute.workers, set tiling.accumulator: int16, "
        + ("set tiling.block: auto, " if wanted != "auto" else "")
        + "or raise compute.memory",
    )


def _pieces(
    wanted: int | Literal["auto", "whole"], region: Box, units: list[int], sweep: int
) -> list[tuple[int | None, ...]]:
    """Return the cuts to try, largest first: None is a whole axis."""
    if wanted == "whole":
        return [(None,) * region.ndim]
    if wanted != "auto":
        return [(wanted,) * region.ndim]
    tries: list[tuple[int | None, ...]] = []
    lengths: list[int | None] = [None] * region.ndim
    while True:
        tries.append(tuple(lengths))
        sizes = [
            0 if axis == sweep else length or n
            for axis, (length, n) in enumerate(zip(lengths, region.shape, strict=True))
        ]
        longest = max(range(region.ndim), key=lambda axis: sizes[axis] / units[axis])
        if longest == sweep or sizes[longest] <= units[longest]:
            return tries
        lengths[longest] = max(units[longest], ceil(sizes[longest] / 2))


def _step_out(lattice: Lattice, shape: tuple[int, ...], axis: int) -> float:
    """Return the step between patches in output cells; the patch where there is but one."""
    starts = lattice.axes[axis].starts
    step = starts[1] if len(starts) > 1 else lattice.axes[axis].patch
    return step * shape[axis] / lattice.shape[axis]


def _parts(need: Demand) -> str:
    named = {
        "process": need.base_bytes,
        "input": need.input_band_bytes,
        "accumulator": need.accumulator_bytes,
        "labels": need.sealed_bytes,
        "patches in flight": need.in_flight_bytes,
    }
    return ", ".join(f"{name} {shown(size)}" for name, size in named.items())
