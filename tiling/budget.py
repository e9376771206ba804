"""Bytes that a layout will need, by part: a pure function, checked against the real peak in a test."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod

from tiling.blend import Store
from tiling.block import Layout


@dataclass(frozen=True, slots=True)
class Network:
    """What the projection needs to know of a network.

    Attributes:
        inputs: channels in.
        outputs: channels out.
        activation_bytes: memory of one pass, without its input and output.
        in_flight: patches on the device at once.
        base_bytes: what a process holds before the first pass: libraries, weights.
    """

    inputs: int
    outputs: int
    activation_bytes: int
    in_flight: int
    base_bytes: int


@dataclass(frozen=True, slots=True)
class Demand:
    """Projected peak of one worker, in bytes."""

    base_bytes: int
    input_band_bytes: int
    accumulator_bytes: int
    sealed_bytes: int
    in_flight_bytes: int

    @property
    def total_bytes(self) -> int:
        """All parts together."""
        return sum(getattr(self, field.name) for field in fields(self))


def demand(layout: Layout, network: Network, itemsize: int, store: Store = "int32", layers: int = 1) -> Demand:
    """Project the peak memory of one worker that sweeps the layout's largest block.

    Args:
        layout: blocks and patches.
        network: the network's appetite.
        itemsize: bytes of an input value.
        store: type of the sums.
        layers: uint8 outputs a cell (labels, and confidence).
    """
    sweep, patch = layout.sweep, layout.lattice.patch
    cells, covered = _largest(layout)
    cross = prod(cells) // cells[sweep]
    rows, depth = min(covered[sweep], patch[sweep]), min(cells[sweep], patch[sweep] + layout.maps[sweep].lag)
    starts = layout.lattice.axes[sweep].starts
    step = starts[1] if len(starts) > 1 else 0
    input_cross = prod(covered) // covered[sweep]
    input_cell = network.inputs * (4 if layout.resampled else itemsize) + 1
    sums_cell = network.outputs * (4 if store == "int32" else 2)
    out_cross = prod(n for axis, n in enumerate(layout.block) if axis != sweep)
    return Demand(
        base_bytes=network.base_bytes,
        input_band_bytes=2 * (rows + step) * input_cross * input_cell,
        accumulator_bytes=depth * cross * sums_cell,
        sealed_bytes=layout.rows * out_cross * (16 + 3 * layers + (4 * network.outputs if layout.resampled else 0))
        + min(step, depth) * cross * sums_cell,
        in_flight_bytes=network.in_flight
        * (network.activation_bytes + 4 * prod(patch) * (3 * network.inputs + 3 * network.outputs)),
    )


def _largest(layout: Layout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return, for each axis, the most model cells of a block, and the most cells of the scene in a block's patches."""
    cells, covered = [], []
    for axis, (lattice_axis, count) in enumerate(zip(layout.lattice.axes, layout.counts, strict=True)):
        own, read = 0, 0
        for k in range(count):
            box = layout.model_box(layout.box(tuple(k if other == axis else 0 for other in range(len(layout.shape)))))
            low, high = box.start[axis], box.stop[axis]
            indices = lattice_axis.touching(low, high)
            end = min(lattice_axis.starts[indices[-1]] + lattice_axis.patch, lattice_axis.size)
            own, read = max(own, high - low), max(read, end - lattice_axis.starts[indices[0]])
        cells.append(own)
        covered.append(read)
    return tuple(cells), tuple(covered)


def disk_bytes(layout: Layout, layers: int = 1) -> int:
    """Return the temporary disk at most: staging (one byte a cell and layer), the raw copy and the finished file."""
    return 3 * layers * prod(layout.region.shape)
