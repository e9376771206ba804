"""A scene blended in the plainest way, and the same by rolling bands, block after block."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from tiling import Box, Lattice, Layout, NumpyBand, Store, WeightCache, patch_weight

Index = tuple[int, ...]
Predict = Callable[[Index], NDArray[np.float32] | None]


def _whole(
    lattice: Lattice,
    predict: Predict,
    channels: int,
    scale: int,
    store: Store = "int32",
    order: Iterable[Index] | None = None,
) -> NDArray[np.int64]:
    band = NumpyBand(channels, Box.whole(lattice.shape), 0, lattice.shape[0], store)
    for index in order if order is not None else product(*map(range, lattice.counts)):
        probabilities = predict(index)
        if probabilities is not None:
            band.add(probabilities, patch_weight(lattice, index, scale), lattice.box(index))
    return band.sums(0, lattice.shape[0]).astype(np.int64)


def _swept(
    layout: Layout, predict: Predict, channels: int, scale: int, store: Store = "int32", slack: int = 0
) -> NDArray[np.int64]:
    lattice, sweep = layout.lattice, layout.sweep
    out = np.full((channels, *layout.region.shape), -1, np.int64)
    cache = WeightCache(lattice, scale)
    for block in layout:
        box = layout.box(block)
        band = NumpyBand(channels, box, sweep, lattice.patch[sweep] + slack, store)
        ranges = layout.patches(block)
        done = box.start[sweep]
        for row in ranges[sweep]:
            for index in product(*(indices if axis != sweep else (row,) for axis, indices in enumerate(ranges))):
                probabilities = predict(index)
                if probabilities is not None:
                    band.add(probabilities, cache[index], lattice.box(index))
            last = row + 1 == ranges[sweep].stop
            complete = box.stop[sweep] if last else max(done, lattice.axes[sweep].starts[row + 1])
            if complete > done:
                rows = box.replace_axis(sweep, done, complete)
                out[(slice(None), *rows.within(layout.region))] = band.sums(done, complete)
                band.drop(complete)
                done = complete
    return out


@pytest.fixture(scope="session")
def whole() -> Callable[..., NDArray[np.int64]]:
    """Sums (channel, *scene) of all patches, added to one band that holds the whole scene; None is not run."""
    return _whole


@pytest.fixture(scope="session")
def swept() -> Callable[..., NDArray[np.int64]]:
    """Sums (channel, *region), block after block, each by a band that is a patch (and some slack) deep."""
    return _swept
