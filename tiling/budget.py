"""Bytes that a layout will need, by part: a pure function, checked against the real peak in tests that measure it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import log2, prod

from tiling.blend import Store
from tiling.block import Layout
from tiling.weights import kept_bytes

_STRIP_BYTES = 64 << 20
_USUAL = (0.25, 0.75, 0.6)
"""Share of the most that packed labels, confidence and probabilities take, as measured on land cover and on brains (of
probabilities on land cover alone: 0.33 where cells have 0.3 m, 0.58 where they have 28.5)."""


@dataclass(frozen=True, slots=True)
class Network:
    """What the projection needs to know of a network.

    Attributes:
        inputs: channels in.
        outputs: channels out.
        activation_bytes: memory that one patch takes while it is run, with its input and output; measured.
        in_flight: patches on the device at once.
        base_bytes: what a process holds before the first pass: libraries, weights.
    """

    inputs: int
    outputs: int
    activation_bytes: int
    in_flight: int
    base_bytes: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What reading, storing and publishing take, whatever the layout.

    Attributes:
        storage_bytes: caches of the libraries that read and store; held all the time.
        finish_bytes: what making files and report takes once the sweep is over.
    """

    storage_bytes: int = 0
    finish_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Demand:
    """Projected peak of one process that sweeps the largest block and then publishes, in bytes.

    Attributes:
        base_bytes: libraries and weights.
        storage_bytes: caches of the libraries that read and store.
        input_band_bytes: two lattice rows of input, one of them being read.
        accumulator_bytes: the sums.
        weights_bytes: weights of patches that are kept.
        sealed_bytes: labels on their way to a chunk, and what making them takes.
        in_flight_bytes: patches that the network works on.
        finish_bytes: what publishing takes, when all between the first two and this is free again.
    """

    base_bytes: int
    storage_bytes: int
    input_band_bytes: int
    accumulator_bytes: int
    weights_bytes: int
    sealed_bytes: int
    in_flight_bytes: int
    finish_bytes: int

    @property
    def sweep_bytes(self) -> int:
        """What a process that sweeps needs: a worker."""
        return self.base_bytes + self.storage_bytes + self._swept

    @property
    def total_bytes(self) -> int:
        """What a process that sweeps, then publishes, needs."""
        return self.base_bytes + self.storage_bytes + max(self._swept, self.finish_bytes)

    @property
    def driver_bytes(self) -> int:
        """What a process needs that leaves the sweep to workers, and publishes."""
        return self.base_bytes + self.storage_bytes + self.finish_bytes

    @property
    def _swept(self) -> int:
        parts = (self.input_band_bytes, self.accumulator_bytes, self.weights_bytes, self.sealed_bytes)
        return sum(parts) + self.in_flight_bytes

    def run_bytes(self, workers: int) -> int:
        """Return what a run needs in all: one process does everything, or a driver leaves the sweep to workers."""
        return self.total_bytes if workers == 1 else workers * self.sweep_bytes + self.driver_bytes


def demand(
    layout: Layout,
    network: Network,
    itemsize: int,
    store: Store = "int32",
    layers: int = 1,
    surroundings: Surroundings = Surroundings(),
    classes: int = 0,
) -> Demand:
    """Project the peak memory of one process that sweeps the layout's largest block.

    Args:
        layout: blocks and patches.
        network: the network's appetite.
        itemsize: bytes of an input value.
        store: type of the sums.
        layers: uint8 outputs a cell (labels, and confidence).
        surroundings: what formats and report take.
        classes: whose probabilities are kept, a uint8 a cell each; 0 where they are not.
    """
    sweep, patch = layout.sweep, layout.lattice.patch
    cells, covered = _largest(layout)
    rows, depth = min(covered[sweep], patch[sweep]), min(cells[sweep], patch[sweep] + layout.maps[sweep].lag)
    starts = layout.lattice.axes[sweep].starts
    step = min(rows, starts[1]) if len(starts) > 1 else 0
    cross = prod(cells) // cells[sweep]
    input_cross = prod(covered) // covered[sweep]
    sums_cell = network.outputs * (4 if store == "int32" else 2)
    patch_cells = prod(patch)
    return Demand(
        base_bytes=network.base_bytes,
        storage_bytes=surroundings.storage_bytes,
        input_band_bytes=_input_bytes(layout, network.inputs, itemsize, rows, step, input_cross),
        accumulator_bytes=depth * cross * sums_cell,
        weights_bytes=kept_bytes(layout.lattice) + 4 * patch_cells,
        sealed_bytes=_sealed_bytes(layout, network.outputs, cells, depth, layers, classes),
        in_flight_bytes=network.in_flight * network.activation_bytes
        + 4 * patch_cells * (2 * network.inputs + network.outputs + 3),
        finish_bytes=surroundings.finish_bytes,
    )


def strip_rows(layout: Layout, outputs: int) -> int:
    """Return how many rows of a block are turned into labels at once, so that it takes no more than 64 MiB, or one row.

    Args:
        layout: blocks and patches.
        outputs: channels of the network.
    """
    cells, _ = _largest(layout)
    return max(1, _STRIP_BYTES // _decided_bytes(layout, outputs, cells))


def _decided_bytes(layout: Layout, outputs: int, cells: tuple[int, ...]) -> int:
    """Return what turning one row of sums into labels takes: labels, confidence and its bytes; floats if resampled."""
    sweep = layout.sweep
    out_cross = _across(layout.block, sweep)
    if not layout.resampled:
        return 24 * out_cross
    wider = prod(max(a, b) for axis, (a, b) in enumerate(zip(layout.block, cells, strict=True)) if axis != sweep)
    return 24 * out_cross + 3 * 4 * outputs * wider


def _sealed_bytes(layout: Layout, outputs: int, cells: tuple[int, ...], depth: int, layers: int, classes: int) -> int:
    """Labels and masks of the band, a chunk being put together and stored, and a strip being decided."""
    sweep = layout.sweep
    out_cross = _across(layout.block, sweep)
    share = layout.shape[sweep] / layout.lattice.shape[sweep]
    band = min(layout.block[sweep], round(depth * share))
    strip = min(strip_rows(layout, outputs), band) + (layout.maps[sweep].lag if layout.resampled else 0)
    waiting = (layout.rows + band) * out_cross * (2 + layers + classes)
    masks = (2 * band + layout.rows) * out_cross
    chunk = layout.rows * out_cross * (6 + 4 * layers + classes)
    return waiting + masks + chunk + strip * (_decided_bytes(layout, outputs, cells) + classes * out_cross)


def _input_bytes(layout: Layout, inputs: int, itemsize: int, rows: int, step: int, cross: int) -> int:
    """Two lattice rows and what is read anew; or the first row, with what reading it takes besides, if that is more."""
    cell = inputs * (4 if layout.resampled else itemsize) + 1
    work = inputs * itemsize + 3
    if layout.resampled:
        shares = (n / m for n, m in zip(layout.shape, layout.lattice.shape, strict=True))
        work = round((inputs * (itemsize + 4) + 3) * max(1.0, prod(shares))) + 3 * 4 * inputs
    return cross * max((2 * rows + step) * cell + step * work, rows * (cell + work))


def _across(lengths: tuple[int, ...], sweep: int) -> int:
    return prod(n for axis, n in enumerate(lengths) if axis != sweep)


def _largest(layout: Layout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return, for each axis, the most model cells of a block, and the most cells of the scene in a block's patches."""
    cells, covered = [], []
    for axis, (lattice_axis, axis_map) in enumerate(zip(layout.lattice.axes, layout.maps, strict=True)):
        own, read = 0, 0
        for start, stop in layout.spans(axis):
            low, high = axis_map.support(start, stop)
            indices = lattice_axis.touching(low, high)
            end = min(lattice_axis.starts[indices[-1]] + lattice_axis.patch, lattice_axis.size)
            own, read = max(own, high - low), max(read, end - lattice_axis.starts[indices[0]])
        cells.append(own)
        covered.append(read)
    return tuple(cells), tuple(covered)


@dataclass(frozen=True, slots=True)
class Extra:
    """Disk that something takes beside the maps themselves, in bytes.

    Attributes:
        name: what it is.
        most_bytes: its files, at most.
        usual_bytes: its files, usually.
        most_spool_bytes: what is there for a while, at most.
        usual_spool_bytes: what is there for a while, usually.
    """

    name: str
    most_bytes: int
    usual_bytes: int
    most_spool_bytes: int = 0
    usual_spool_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Disk:
    """Projected disk of a scene, in bytes.

    Attributes:
        labels_bytes: the labels, packed.
        confidence_bytes: the confidence, packed; 0 where it is not made.
        unpacked_bytes: inputs that are unpacked, or prepared as a whole.
        probabilities_bytes: the probabilities, packed; 0 where they are not made.
        extras: what is made of the maps.
    """

    labels_bytes: int
    confidence_bytes: int = 0
    unpacked_bytes: int = 0
    probabilities_bytes: int = 0
    extras: tuple[Extra, ...] = ()

    @property
    def staged_bytes(self) -> int:
        """The staging store."""
        return self.labels_bytes + self.confidence_bytes + self.probabilities_bytes

    @property
    def copy_bytes(self) -> int:
        """The copy of one layer from which its file is made."""
        return max(self.labels_bytes, self.confidence_bytes, self.probabilities_bytes)

    @property
    def output_bytes(self) -> int:
        """The finished files: with overviews a map takes a third more."""
        return self.staged_bytes * 4 // 3 + sum(extra.most_bytes for extra in self.extras)

    @property
    def temporary_bytes(self) -> int:
        """What is there for a while."""
        spools = sum(extra.most_spool_bytes for extra in self.extras)
        return self.staged_bytes + self.copy_bytes + self.unpacked_bytes + spools

    @property
    def total_bytes(self) -> int:
        """What must be free when the work begins."""
        return self.temporary_bytes + self.output_bytes

    @property
    def usual(self) -> Disk:
        """What it comes to for the maps that networks make, whose neighbouring cells are mostly alike."""
        parts = (self.labels_bytes, self.confidence_bytes, self.probabilities_bytes)
        labels, confidence, probabilities = (round(a * b) for a, b in zip(parts, _USUAL, strict=True))
        extras = (
            replace(one, most_bytes=one.usual_bytes, most_spool_bytes=one.usual_spool_bytes) for one in self.extras
        )
        return Disk(labels, confidence, self.unpacked_bytes, probabilities, tuple(extras))


def disk(
    layout: Layout, classes: int, confidence: bool = False, unpacked_bytes: int = 0, probabilities: bool = False
) -> Disk:
    """Project the disk that a scene takes at most.

    Packed labels take no more than the logarithm of their number, and a tenth more, even where every cell's is drawn
    by lot; those of more than 255 classes take two bytes.

    Args:
        layout: blocks and patches.
        classes: labels that can occur, without the one for no data.
        confidence: whether the confidence map is made.
        unpacked_bytes: inputs that are unpacked, or prepared as a whole.
        probabilities: whether each class's probability is kept.
    """
    cells = layout.region.size
    labels = 1.1 * log2(classes + 1) / 8 if classes < 256 else 2.0
    kept = cells * classes if probabilities else 0
    return Disk(round(cells * labels), cells if confidence else 0, unpacked_bytes, kept)
