"""The projection of bytes: the sum of its parts, growing with whatever costs, and never below what a band takes."""

from __future__ import annotations

from dataclasses import fields, replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Zstd

from tiling import (
    Box,
    Demand,
    Lattice,
    Layout,
    Network,
    NumpyBand,
    Store,
    Surroundings,
    WeightCache,
    demand,
    disk,
    strip_rows,
)
from tiling.strategies import layouts

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
NETWORK = Network(inputs=3, outputs=6, activation_bytes=1000, in_flight=2, base_bytes=7)


def laid(patch: int = 64, block: int = 256, scene: int = 1024, rows: int = 32, output: int | None = None) -> Layout:
    lattice = Lattice.of((scene, scene), (patch, patch), (patch // 2, patch // 2))
    shape = (output or scene,) * 2
    return Layout(lattice, shape, Box.whole(shape), 0, (block, block), rows)


AROUND = Surroundings(storage_bytes=11, finish_bytes=13)


@given(layouts(), st.sampled_from(("int32", "int16")), st.integers(0, 1 << 24))
@LAWS
def test_a_process_holds_its_base_and_the_larger_of_sweeping_and_publishing(
    layout: Layout, store: Store, finish: int
) -> None:
    need = demand(layout, NETWORK, 2, store, surroundings=replace(AROUND, finish_bytes=finish))
    parts = {field.name: getattr(need, field.name) for field in fields(Demand)}
    assert all(isinstance(part, int) and part >= 0 for part in parts.values())
    assert need.total_bytes == max(need.sweep_bytes, need.driver_bytes)
    assert need.sweep_bytes + need.finish_bytes == sum(parts.values())
    assert need.driver_bytes == NETWORK.base_bytes + AROUND.storage_bytes + finish


@given(layouts(), st.integers(2, 9))
@LAWS
def test_a_run_is_one_process_or_its_workers_and_the_one_that_drives_them(layout: Layout, workers: int) -> None:
    need = demand(layout, NETWORK, 2, surroundings=AROUND)
    assert need.run_bytes(1) == need.total_bytes
    assert need.run_bytes(workers) == workers * need.sweep_bytes + need.driver_bytes


@given(layouts(), st.integers(1, 1000))
@LAWS
def test_a_strip_s_floats_take_no_more_than_64_mib_unless_it_is_one_row(layout: Layout, outputs: int) -> None:
    rows = strip_rows(layout, outputs)
    across = [n for axis, n in enumerate(layout.block) if axis != layout.sweep]
    floats = 4 * outputs * prod(across) if layout.resampled else 4 * prod(across)
    assert rows == 1 or rows * floats <= 64 << 20


@given(layouts())
@LAWS
def test_weights_that_are_kept_are_no_more_than_projected(layout: Layout) -> None:
    lattice = layout.lattice
    cache = WeightCache(lattice, 1 << 24)
    kept = {id(weight): weight.nbytes for weight in (cache[index] for index in np.ndindex(*lattice.counts))}
    assert sum(kept.values()) <= demand(layout, NETWORK, 1).weights_bytes


@given(layouts(), st.sampled_from(("int32", "int16")))
@LAWS
def test_no_blocks_band_is_larger_than_the_projection(layout: Layout, store: Store) -> None:
    need = demand(layout, NETWORK, 2, store)
    depth = layout.lattice.patch[layout.sweep] + layout.maps[layout.sweep].lag
    for block in layout:
        box = layout.model_box(layout.box(block))
        assert NumpyBand(NETWORK.outputs, box, layout.sweep, depth, store).nbytes <= need.accumulator_bytes


@given(layouts(), st.sampled_from((1, 4)))
@LAWS
def test_no_lattice_row_of_input_is_larger_than_the_projection(layout: Layout, itemsize: int) -> None:
    need = demand(layout, NETWORK, itemsize)
    cell = NETWORK.inputs * (4 if layout.resampled else itemsize) + 1
    for block in layout:
        ranges = layout.patches(block)
        first = layout.lattice.box([r.start for r in ranges])
        last = layout.lattice.box([r.stop - 1 for r in ranges])
        read = Box(first.start, last.stop).intersect(Box.whole(layout.lattice.shape))
        assert read is not None
        rows = min(layout.lattice.patch[layout.sweep], read.shape[layout.sweep])
        assert 2 * rows * (read.size // read.shape[layout.sweep]) * cell <= need.input_band_bytes


def test_more_costs_more() -> None:
    chains: list[list[Demand]] = [
        [demand(laid(patch=n), NETWORK, 1) for n in (16, 32, 64, 128)],
        [demand(laid(block=n), NETWORK, 1) for n in (64, 128, 512, 1024)],
        [demand(laid(rows=n), NETWORK, 1) for n in (32, 64, 128)],
        [demand(laid(), replace(NETWORK, outputs=n), 1) for n in (1, 2, 20)],
        [demand(laid(), replace(NETWORK, inputs=n), 1) for n in (1, 2, 20)],
        [demand(laid(), replace(NETWORK, in_flight=n), 1) for n in (1, 2, 20)],
        [demand(laid(), NETWORK, n) for n in (1, 2, 4)],
        [demand(laid(), NETWORK, 1, layers=n) for n in (1, 2)],
        [demand(laid(), NETWORK, 1, store) for store in ("int16", "int32")],
    ]
    for chain in chains:
        totals = [need.total_bytes for need in chain]
        assert totals == sorted(set(totals))


def test_memory_does_not_depend_on_the_length_of_the_swept_axis() -> None:
    def long(rows: int) -> int:
        lattice = Lattice.of((rows, 500), (64, 64), (32, 32))
        layout = Layout(lattice, (rows, 500), Box.whole((rows, 500)), 0, (rows, 500), 64)
        return demand(layout, NETWORK, 1).total_bytes

    assert long(640) == long(64000)


@pytest.mark.parametrize("output", [700, 1500])
def test_resampling_costs_floats(output: int) -> None:
    assert demand(laid(output=output), NETWORK, 1).sealed_bytes > demand(laid(), NETWORK, 1).sealed_bytes


def test_disk_is_bounded_by_what_packed_labels_can_hold_and_a_file_has_overviews() -> None:
    need = disk(laid(scene=1000), classes=255, confidence=True, unpacked_bytes=5)
    assert need.labels_bytes == 1_100_000
    assert need.staged_bytes == 2_100_000
    assert need.temporary_bytes == 2_100_000 + 1_100_000 + 5
    assert need.output_bytes == 2_800_000
    assert need.total_bytes == need.temporary_bytes + need.output_bytes
    assert need.usual.unpacked_bytes == 5
    assert need.usual.total_bytes < need.total_bytes


@pytest.mark.parametrize("classes", [2, 5, 30, 200, 1000])
def test_random_labels_pack_into_no_more_than_projected(classes: int) -> None:
    drawn = np.random.default_rng(classes).integers(0, classes, 1 << 18)
    labels = drawn.astype(np.uint8 if classes <= 256 else np.uint16)
    lattice = Lattice.of((1 << 18,), (64,), (32,))
    layout = Layout(lattice, (1 << 18,), Box.whole((1 << 18,)), 0, (1 << 18,), 64)
    packed = len(Zstd(level=1).encode(labels))
    assert packed <= disk(layout, classes).labels_bytes
