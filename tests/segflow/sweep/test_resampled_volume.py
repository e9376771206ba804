"""Volumes of another spacing: anisotropic and odd ratios against whole-array resampling, in memory of one band."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import Standardiser
from segflow.patches import model_shape
from segflow.sweep import Head, Task, sweep
from segflow.sweep.resample import read_model
from tests.making import classes, load, make_model
from tiling import AxisMap, Box, Lattice, Layout

SHAPE = (22, 27, 18)


class Cellwise:
    """A network that looks at one cell at a time; its classes differ by where their bell lies."""

    facts: Mapping[str, str] = MappingProxyType({})
    in_flight = 1

    def __init__(self, channels: int = 3) -> None:
        self.channels = channels

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for patch in patches:
            yield self.run(patch)

    def run(self, patch: NDArray[np.float32]) -> NDArray[np.float32]:
        middles = np.linspace(-1.5, 1.5, self.channels, dtype=np.float32).reshape(-1, *(1,) * (patch.ndim - 1))
        powers = np.exp(-((patch[0] - middles) ** 2))
        out: NDArray[np.float32] = (powers / powers.sum(axis=0)).astype(np.float32)
        return out

    def close(self) -> None:
        pass


def resized(values: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """PyTorch's anti-aliased triangle, which it has for two axes, on one axis after the other."""
    out = torch.from_numpy(values).double()
    for axis, n in enumerate(shape, 1):
        moved = out.movedim(axis, -1)
        flat = moved.reshape(1, 1, -1, moved.shape[-1])
        made = torch.nn.functional.interpolate(
            flat, size=(flat.shape[2], n), mode="bilinear", align_corners=False, antialias=True
        )
        out = made.reshape(*moved.shape[:-1], n).movedim(-1, axis)
    result: NDArray[np.float32] = out.float().numpy()
    return result


def swept(task: Task, source: ArraySource, forward: Cellwise) -> NDArray[np.uint16]:
    labels = np.zeros(task.layout.shape, np.uint16)
    for block in task.layout:
        for part in sweep(task, source, forward, block):
            labels[part.chunk.slices] = part.labels
    return labels


@pytest.mark.parametrize(
    "model",
    [(22, 27, 43), (13, 27, 18), (9, 40, 31), (44, 54, 9), (7, 8, 5)],
    ids=["thick slices", "one axis coarser", "all odd", "finer and coarser", "all coarser"],
)
@pytest.mark.parametrize(("sweep_axis", "block"), [(0, (6, 27, 18)), (1, (11, 9, 18)), (2, (10, 13, 5))])
def test_labels_of_an_anisotropic_volume_are_those_of_resampling_it_whole(
    model: tuple[int, int, int], sweep_axis: int, block: tuple[int, int, int]
) -> None:
    values = np.random.default_rng(7).normal(0, 1.2, (1, *SHAPE)).astype(np.float32)
    expected = resized(Cellwise().run(resized(values, model)), SHAPE)
    ordered = np.sort(expected, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-3
    assert clear.mean() > 0.95
    lattice = Lattice.of(model, (6, 6, 6), (4, 4, 4))
    layout = Layout(lattice, SHAPE, Box.whole(SHAPE), sweep_axis, block, block[sweep_axis])
    source = ArraySource(values, Grid("volume", SHAPE))
    labels = swept(Task(layout, Head(3, (0, 1, 2)), Standardiser((0.0,), (1.0,))), source, Cellwise())
    np.testing.assert_array_equal(labels[clear], expected.argmax(axis=0)[clear])


def test_cuts_across_a_resampled_volume_change_no_voxel_even_where_classes_are_close() -> None:
    values = np.random.default_rng(8).normal(0, 0.2, (1, *SHAPE)).astype(np.float32)
    source = ArraySource(values, Grid("volume", SHAPE))
    made = []
    for axis, block in ((0, SHAPE), (0, (4, 9, 7)), (2, (5, 27, 6)), (1, (22, 10, 3))):
        layout = Layout(Lattice.of((9, 40, 31), (6, 6, 6), (4, 4, 4)), SHAPE, Box.whole(SHAPE), axis, block, 2)
        if block[axis] % 2:
            layout = Layout(layout.lattice, SHAPE, layout.region, axis, block, block[axis])
        made.append(swept(Task(layout, Head(9, tuple(range(9))), Standardiser((0.0,), (1.0,))), source, Cellwise(9)))
    for other in made[1:]:
        np.testing.assert_array_equal(other, made[0])


def peak_of(length: int, channels: int) -> int:
    """Bytes that a sweep along a resampled volume of that length allocates at most."""
    shape, model = (length, 24, 24), (length * 3 // 2, 30, 18)
    source = ArraySource(np.zeros((1, *shape), np.float32), Grid("volume", shape))
    layout = Layout(Lattice.of(model, (8, 8, 8), (6, 6, 6)), shape, Box.whole(shape), 0, shape, 4)
    task = Task(layout, Head(channels, tuple(range(channels))), Standardiser((0.0,), (1.0,)))
    forward = Cellwise(channels)
    for _ in sweep(task, source, forward, (0, 0, 0)):  # what is kept from call to call
        break
    tracemalloc.start()
    try:
        for _ in sweep(task, source, forward, (0, 0, 0)):
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_no_array_of_classes_times_volume_exists_and_memory_does_not_grow_with_the_sweep() -> None:
    channels = 40
    short, long = peak_of(48, channels), peak_of(192, channels)
    assert long < 1.1 * short + (1 << 20)
    assert long < channels * 192 * 24 * 24 * 4 / 2


def test_stripes_finer_than_the_models_cells_are_averaged_not_sampled() -> None:
    """Anti-aliasing: every second row bright gives grey, as PIL's filter makes it, not stripes of other width."""
    rows, columns = 60, 40
    values = np.zeros((1, rows, columns), np.float32)
    values[:, ::2] = 255
    source = ArraySource(values, Grid("raster", (rows, columns)))
    target = (14, 11)
    maps = [AxisMap(rows, target[0]), AxisMap(columns, target[1])]
    made, valid = read_model(source, Box.whole(target), maps)
    theirs = np.asarray(Image.fromarray(values[0]).resize(target[::-1], Image.Resampling.BILINEAR))
    assert valid.all()
    np.testing.assert_allclose(made[0], theirs, atol=1e-3)
    assert np.abs(made[0][2:-2] - 127.5).max() < 20
    plain = values[0, ((np.arange(target[0]) + 0.5) * rows / target[0]).astype(int)]
    assert np.ptp(plain) == 255


def test_a_part_read_by_itself_is_the_same_part_of_all_that_is_read() -> None:
    values = np.random.default_rng(1).normal(size=(2, *SHAPE)).astype(np.float32)
    valid = np.random.default_rng(2).random(SHAPE) > 0.3
    source = ArraySource(values, Grid("volume", SHAPE), valid)
    model = (9, 40, 31)
    maps = [AxisMap(n, m) for n, m in zip(SHAPE, model, strict=True)]
    whole, known = read_model(source, Box.whole(model), maps)
    box = Box((2, 11, 5), (7, 40, 30))
    part, part_known = read_model(source, box, maps)
    np.testing.assert_array_equal(part, whole[(slice(None), *box.slices)])
    np.testing.assert_array_equal(part_known, known[box.slices])


@pytest.mark.parametrize(
    ("spacing", "wanted", "shape", "expected"),
    [
        ((0.5, 0.5), 0.8, (300, 260), (188, 162)),
        ((0.5, 0.25), 0.5, (300, 260), (300, 130)),
        ((0.5, 0.5), 0.503, (300, 260), (300, 260)),
        ((30.0, 30.0), 10.0, (7, 5), (21, 15)),
        ((1.0, 1.0, 5.0), (1.0, 1.0, 1.0), (40, 52, 36), (40, 52, 180)),
        ((0.7, 0.9, 2.5), (1.0, 1.5, 1.0), (40, 50, 10), (28, 30, 25)),
        ((0.1, 1.0, 1.0), (1.0, 1.0, 1.0), (4, 50, 10), (1, 50, 10)),
    ],
)
def test_the_models_grid_has_the_cards_gsd_or_spacing_on_each_axis(
    tmp_path_factory: pytest.TempPathFactory,
    spacing: tuple[float, ...],
    wanted: float | tuple[float, ...],
    shape: tuple[int, ...],
    expected: tuple[int, ...],
) -> None:
    kind = "raster" if len(shape) == 2 else "volume"
    key = "gsd" if kind == "raster" else "spacing"
    card = load(make_model(tmp_path_factory.mktemp("m"), kind, **{key: wanted, "classes": classes((1, 2, 3))})).card
    affine = None
    if kind == "raster":
        affine = (spacing[1], 0.0, 0.0, 0.0, -spacing[0], 0.0)
    assert model_shape(Grid(kind, shape, spacing=spacing, affine=affine), card) == expected
