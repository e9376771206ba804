"""What a cut changes: a patch by itself against the same cells of a prediction with more around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


def change(network: nn.Module, around: NDArray[np.float32], context: Sequence[int]) -> NDArray[np.float32]:
    """Return the largest change of a probability, by distance from the nearest cut.

    Args:
        network: takes (batch, channel, *axes) and gives probabilities (batch, output channel, *axes).
        around: (channel, *axes) float32, a patch with further cells on both sides of the axes that are cut.
        context: their number, an axis; 0: not cut there.

    Returns:
        float32, one for each distance from 0 (the cells at a cut) on: the largest absolute difference, over cells that
        are at least so far from every cut and over all channels.
    """
    sizes = around.shape[1:]
    inner = (slice(None), *[slice(k, n - k) for k, n in zip(context, sizes, strict=True)])
    with torch.inference_mode():
        whole = network(torch.from_numpy(around)[None])[0][inner]
        alone = network(torch.from_numpy(np.ascontiguousarray(around[inner]))[None])[0]
        differences = (whole - alone).abs().amax(0).numpy()
    nearest = np.full(differences.shape, max(sizes), np.int64)
    for axis, (n, cut) in enumerate(zip(differences.shape, context, strict=True)):
        if cut:
            near = np.minimum(np.arange(n), n - 1 - np.arange(n))
            nearest = np.minimum(nearest, near.reshape(-1, *(1,) * (differences.ndim - 1 - axis)))
    out = np.zeros(int(nearest.max()) + 1, np.float32)
    np.maximum.at(out, nearest.ravel(), differences.ravel())
    result: NDArray[np.float32] = np.maximum.accumulate(out[::-1])[::-1].copy()
    return result
