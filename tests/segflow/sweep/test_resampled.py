"""A model with another cell size: inputs and probabilities are resampled as on whole arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import Standardiser
from segflow.sweep import Head, Task, sweep
from tiling import Box, Lattice, Layout


class Cellwise:
    """A network that looks at one cell at a time, so that tiling cannot matter and only resampling does."""

    facts: Mapping[str, str] = MappingProxyType({})
    in_flight = 1

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for patch in patches:
            yield self.run(patch)

    @staticmethod
    def run(patch: NDArray[np.float32]) -> NDArray[np.float32]:
        powers = np.exp(np.stack([patch[0], -patch[0], 0.5 * patch[0] ** 2 - 0.6]))
        out: NDArray[np.float32] = (powers / powers.sum(axis=0)).astype(np.float32)
        return out

    def close(self) -> None:
        pass


@pytest.mark.parametrize("model", [(30, 26), (60, 52), (90, 33), (13, 91)])
def test_labels_are_those_of_resampling_the_whole_array_with_torch(model: tuple[int, int]) -> None:
    shape = (60, 52)
    values = np.random.default_rng(4).normal(0, 1.5, (1, *shape)).astype(np.float32)

    def resize(array: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
        made = torch.nn.functional.interpolate(
            torch.from_numpy(array)[None], size=size, mode="bilinear", align_corners=False, antialias=True
        )
        out: NDArray[np.float32] = made[0].numpy()
        return out

    expected = resize(Cellwise.run(resize(values, model)), shape)
    ordered = np.sort(expected, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-3
    lattice = Lattice.of(model, (12, 12), (8, 8))
    layout = Layout(lattice, shape, Box.whole(shape), 1, (20, 14), 7)
    task = Task(layout, Head(3, (1, 2, 3)), Standardiser((0.0,), (1.0,)), confidence=True)
    labels, sure = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    for block in layout:
        for part in sweep(task, ArraySource(values, Grid("raster", shape)), Cellwise(), block):
            labels[part.chunk.slices] = part.labels
            assert part.confidence is not None
            sure[part.chunk.slices] = part.confidence
    assert clear.mean() > 0.98
    np.testing.assert_array_equal(labels[clear], expected.argmax(axis=0)[clear] + 1)
    assert np.abs(sure.astype(int) - np.rint(expected.max(axis=0) * 255)).max() <= 1


def test_a_hole_does_not_darken_its_surroundings() -> None:
    """Where input is missing, the mean of what is there counts, not the zeros of what is not."""
    shape, model = (40, 40), (20, 20)
    values = np.full((1, *shape), 2.0, np.float32)
    valid = np.ones(shape, bool)
    valid[10:21, 13:30] = False
    values[:, ~valid] = -50.0
    layout = Layout(Lattice.of(model, (8, 8), (6, 6)), shape, Box.whole(shape), 0, (40, 40), 40)
    task = Task(layout, Head(3, (1, 2, 3)), Standardiser((0.0,), (1.0,)), confidence=True)
    (part,) = sweep(task, ArraySource(values, Grid("raster", shape), valid), Cellwise(), (0, 0))
    assert part.confidence is not None
    plain = np.rint(Cellwise.run(values[:, :1, :1]).max() * 255)
    assert (part.confidence[valid] == plain).all()
    assert (part.labels[valid] == Cellwise.run(values[:, :1, :1]).argmax() + 1).all()
    assert (part.labels[~valid] == 255).all()
