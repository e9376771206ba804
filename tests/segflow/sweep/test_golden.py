"""The bits of two small scenes, frozen. If one of these changes, raise `segflow.sweep.ENGINE` and freeze them anew."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.normalise import Standardiser
from segflow.sweep import ENGINE, Head, Task, sweep
from tiling import Box, Lattice, Layout


class Plain:
    """A network of additions and products alone, so that its bits are those of IEEE 754 on any machine."""

    facts: Mapping[str, str] = MappingProxyType({})
    in_flight = 1

    def stream(self, patches: Iterable[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for patch in patches:
            first = np.clip(patch[0] * np.float32(0.2) + np.float32(0.5), 0, 1)
            mixed = (first + np.roll(first, 3, -1)) * np.float32(0.5)
            yield np.stack([mixed, (1 - mixed) * np.float32(0.625), (1 - mixed) * np.float32(0.375)])

    def close(self) -> None:
        pass


GOLDEN = {
    (1, "same grid"): "cc4262d35de02bcf5036268b18a6a4b0c7037fc75bec3884025d90082df3e819",
    (1, "coarser model"): "bde3cff674f1947a999b9c232b4af7b46c9d0c02c410b52ad6f6ec64f6ec5bde",
}


@pytest.mark.parametrize(("name", "model"), [("same grid", (61, 53)), ("coarser model", (40, 35))])
def test_bits_change_only_with_the_engine_number(name: str, model: tuple[int, int]) -> None:
    shape = (61, 53)
    values = (np.arange(61 * 53, dtype=np.int64).reshape(1, *shape) * 2654435761 % 251).astype(np.uint8)
    valid = values[0] > 12
    lattice = Lattice.of(model, (16, 16), (12, 12))
    layout = Layout(lattice, shape, Box.whole(shape), 0, (24, 53), 12)
    task = Task(layout, Head(3, (1, 2, 3)), Standardiser((125.0,), (50.0,)), confidence=True)
    digest = hashlib.sha256()
    for block in layout:
        for part in sweep(task, ArraySource(values, Grid("raster", shape), valid), Plain(), block):
            digest.update(part.labels.tobytes())
            if part.confidence is not None:
                digest.update(part.confidence.tobytes())
    assert digest.hexdigest() == GOLDEN[ENGINE, name]
