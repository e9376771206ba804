"""From blended sums to labels: one rule for each kind of network head. Ties go to the lowest class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

_PIECE = 1 << 17  # cells that are worked on at once, so that they stay in the cache

Sums = NDArray[np.signedinteger] | NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decision:
    """Labels (*cells) uint16 and confidence (*cells) float32: the winning sum, in the sums' own scale."""

    labels: NDArray[np.uint16]
    confidence: NDArray[np.float32]


def argmax(sums: Sums, ids: Sequence[int]) -> Decision:
    """Take the class with the largest sum; sums (class, *cells)."""
    if len(sums) != len(ids):
        raise ValueError(f"{len(sums)} channels and {len(ids)} class ids do not match")
    cells = sums.shape[1:]
    labels, confidence = np.empty(cells, np.uint16), np.empty(cells, np.float32)
    table = np.array(ids, np.uint16)
    rows = max(1, _PIECE // max(1, prod(cells[1:])))
    for start in range(0, cells[0], rows):
        part = sums[:, start : start + rows]
        best = part[0].copy()
        index = np.zeros(best.shape, np.uint8 if len(ids) <= 256 else np.uint16)
        for channel, values in enumerate(part[1:], 1):
            # the last channel that beat all before it is the first of the largest
            np.maximum(index, (values > best) * index.dtype.type(channel), out=index)
            np.maximum(best, values, out=best)
        labels[start : start + rows] = table[index]
        confidence[start : start + rows] = best
    return Decision(labels, confidence)


def over(sums: Sums, ids: Sequence[int], threshold: float, scale: int) -> Decision:
    """Take the foreground ``ids[1]`` where the one channel reaches the threshold, else ``ids[0]``."""
    inside = sums[0] >= threshold * scale
    labels = np.where(inside, np.uint16(ids[1]), np.uint16(ids[0]))
    foreground = sums[0].astype(np.float32)
    return Decision(labels, np.where(inside, foreground, np.float32(scale) - foreground))


def write_regions(
    sums: Sums, regions: Sequence[tuple[int, int]], background: int, threshold: float, scale: int
) -> Decision:
    """Write each region's id where its channel reaches the threshold, later over earlier.

    Args:
        sums: (channel, *cells).
        regions: (channel, id), in the order of writing.
        background: id where no region reaches the threshold; its confidence is 1 minus the largest region's.
        threshold: probability from which a region counts.
        scale: the sum that stands for a probability of 1.
    """
    labels = np.full(sums.shape[1:], background, np.uint16)
    confidence = np.full(sums.shape[1:], np.float32(scale), np.float32)
    for channel, _ in regions:
        np.minimum(confidence, np.float32(scale) - sums[channel].astype(np.float32), out=confidence)
    for channel, label in regions:
        inside = sums[channel] >= threshold * scale
        np.copyto(labels, np.uint16(label), where=inside)
        np.copyto(confidence, sums[channel].astype(np.float32), where=inside)
    return Decision(labels, confidence)


def to_byte(confidence: NDArray[np.float32], scale: int) -> NDArray[np.uint8]:
    """Return confidences as round(probability x 255), uint8."""
    whole: NDArray[np.float32] = np.rint(confidence * np.float32(255.0 / scale))
    return whole.clip(0, 255).astype(np.uint8)
