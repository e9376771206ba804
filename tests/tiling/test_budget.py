"""The projection of bytes: the sum of its parts, growing with whatever costs, and never below what a band takes."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiling import Box, Demand, Lattice, Layout, Network, NumpyBand, Store, demand, disk_bytes
from tiling.strategies import layouts

LAWS = settings(max_examples=60, deadline=None, derandomize=True)
NETWORK = Network(inputs=3, outputs=6, activation_bytes=1000, in_flight=2, base_bytes=7)


def laid(patch: int = 64, block: int = 256, scene: int = 1024, rows: int = 32, output: int | None = None) -> Layout:
    lattice = Lattice.of((scene, scene), (patch, patch), (patch // 2, patch // 2))
    shape = (output or scene,) * 2
    return Layout(lattice, shape, Box.whole(shape), 0, (block, block), rows)


@given(layouts(), st.sampled_from(("int32", "int16")))
@LAWS
def test_the_total_is_the_sum_and_no_part_is_negative(layout: Layout, store: Store) -> None:
    need = demand(layout, NETWORK, 2, store)
    parts = [getattr(need, field.name) for field in fields(Demand)]
    assert all(isinstance(part, int) and part >= 0 for part in parts)
    assert need.total_bytes == sum(parts)


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


def test_disk_holds_staging_copy_and_file() -> None:
    assert disk_bytes(laid(scene=1000), layers=2) == 6_000_000
