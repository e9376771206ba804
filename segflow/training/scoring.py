"""How a network does on cells that it was not trained on. Simple: centres of windows, no blending."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from segflow.metrics import Counts, count_confusion
from segflow.training.sampling import IGNORED, LabelIndex, Scene, Statistics
from tiling.box import Box


def count_scene(
    network: nn.Module,
    scene: Scene,
    boxes: Sequence[Box],
    statistics: Statistics,
    index: LabelIndex,
    patch: tuple[int, ...],
    ids: Sequence[int],
) -> Counts:
    """Count a scene's labels against a network's, inside some boxes.

    Args:
        network: puts out one channel a class; left in evaluation mode.
        scene: what is labelled. Its values around the boxes are context.
        boxes: where to count; a cell in two boxes counts twice.
        statistics: for normalising, as in training.
        index: from label ids to channels.
        patch: window that the network sees; only its middle half (on every axis) is taken.
        ids: class ids, by channel.
    """
    network.eval()
    total = Counts.zero(list(ids))
    table = np.asarray(ids, np.int64)
    for box in boxes:
        for target in tiles(box, tuple(max(n // 2, 1) for n in patch)):
            pixels = scene.label.read(target)
            labels = index(pixels)
            predicted = table[predict_box(network, scene, target, statistics, patch)]
            seen = scene.image.read(target).valid
            known = labels != IGNORED
            reference = table[np.where(known, labels, 0)]
            total = total + count_confusion(reference, predicted, list(ids), valid=seen, scored=known)
    return total


def predict_box(
    network: nn.Module, scene: Scene, target: Box, statistics: Statistics, patch: tuple[int, ...]
) -> NDArray[np.int64]:
    """Return channels of the largest output in a box, seen in a window of a patch's size with the box in its middle.

    Beyond the scene its nearest cell is repeated.
    """
    shape = scene.image.grid.shape
    lead = [(n - (high - low)) // 2 for n, low, high in zip(patch, target.start, target.stop, strict=True)]
    low = [start - margin for start, margin in zip(target.start, lead, strict=True)]
    inside = Box(
        tuple(max(n, 0) for n in low), tuple(min(a + n, end) for a, n, end in zip(low, patch, shape, strict=True))
    )
    pixels = scene.image.read(inside)
    wide = (-1, *(1,) * len(patch))
    values = (pixels.values.astype(np.float32) - statistics.mean.reshape(wide)) / statistics.deviation.reshape(wide)
    values[:, ~pixels.valid] = 0.0
    pad = [(a - b, b + n - c) for a, b, n, c in zip(inside.start, low, patch, inside.stop, strict=True)]
    padded = np.pad(values, [(0, 0), *pad], mode="edge")
    with torch.inference_mode():
        best = network(torch.from_numpy(padded)[None]).argmax(dim=1)[0].numpy()
    middle = tuple(slice(m, m + n) for m, n in zip(lead, target.shape, strict=True))
    result: NDArray[np.int64] = best[middle]
    return result


def tiles(box: Box, size: tuple[int, ...]) -> Iterator[Box]:
    """Cut a box into pieces of at most a size; the last on each axis may be smaller."""
    starts = [range(low, high, n) for low, high, n in zip(box.start, box.stop, size, strict=True)]
    for corner in product(*starts):
        yield Box(corner, tuple(min(a + n, end) for a, n, end in zip(corner, size, box.stop, strict=True)))
