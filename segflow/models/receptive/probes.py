"""Patches to measure a network on: overlapping leaves of all sizes over noise, standardised, the same everywhere.

Leaves that cover each other (Lee, Mumford, Huang: Occlusion Models for Natural Images, IJCV 2001) have edges at all
scales, as scenes have. What cuts change on them was within a factor of three of what they change on aerial, satellite
and MR scenes, at every distance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAVES = {1: 100, 2: 400, 3: 250}


def leaves(channels: int, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """Return (channel, *shape) float32 of mean 0 and deviation 1 in each channel, whose channels go together.

    Args:
        channels: of the network's input.
        shape: cells on each axis.
        seed: another seed, another patch. numpy's legacy generator, whose stream never changes.
    """
    random = np.random.RandomState(seed)
    out = random.standard_normal((channels, *shape)).astype(np.float32)
    for _ in range(_LEAVES[len(shape)]):
        radius = 2 + 0.35 * min(shape) * random.random_sample() ** 2.5
        centre = random.uniform(0, shape)
        extent = radius * random.uniform(0.4, 1.6, len(shape))
        colour = random.standard_normal() + 0.5 * random.standard_normal(channels)
        rough, round_one = 0.3 * random.random_sample(), random.random_sample() < 0.5
        box = tuple(slice(max(0, int(c - e)), max(0, int(c + e) + 1)) for c, e in zip(centre, extent, strict=True))
        inside = _inside(box, shape, centre, extent, round_one)
        noise = random.standard_normal((channels, *inside.shape)).astype(np.float32)
        leaf = colour.reshape(-1, *(1,) * len(shape)).astype(np.float32) + np.float32(rough) * noise
        out[(slice(None), *box)] = np.where(inside, leaf, out[(slice(None), *box)])
    cells = tuple(range(1, len(shape) + 1))
    out -= out.mean(cells, keepdims=True)
    out /= out.std(cells, keepdims=True)
    return out


def _inside(
    box: tuple[slice, ...], shape: tuple[int, ...], centre: NDArray[np.float64], extent: NDArray[np.float64], oval: bool
) -> NDArray[np.bool_]:
    """Return which cells of a leaf's box, as far as it lies in the shape, are the leaf's."""
    axes = [np.arange(part.start, min(part.stop, n), dtype=np.float64) for part, n in zip(box, shape, strict=True)]
    scaled = np.ix_(*[(cells - c) / e for cells, c, e in zip(axes, centre, extent, strict=True)])
    squares = [axis**2 for axis in scaled]
    total = squares[0]
    for square in squares[1:]:
        total = total + square if oval else np.maximum(total, square)
    return np.asarray(total <= 1.0)
