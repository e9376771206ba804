"""Objects: connected regions of one class, matched between prediction and reference.

Pairs that share cells are matched one to one, the largest IoU first, as long as it is over a threshold; what has no
partner is missed or false. Over 0.5 a match is unique whatever the order: that is the matching of Kirillov et al.,
"Panoptic Segmentation" (CVPR 2019), and F1, mean IoU and their product are its recognition, segmentation and panoptic
quality. Over 0, any shared cell is enough, but an object that covers two still matches one of them only.

Regions are found slab by slab and joined across slabs, and shared cells are counted slab by slab: memory is a slab
and a few numbers a region.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.means import mean_of_known
from segflow.metrics.results import ObjectScores, ObjectsSummary
from segflow.metrics.windows import Pair
from segflow.postprocess import components
from segflow.postprocess.components import Components, Connectivity


def count_objects(
    pair: Pair,
    codes: Sequence[int],
    *,
    iou_over: float = 0.0,
    connectivity: Connectivity = "corners",
    min_cells: int = 1,
    slab_cells: int = 1 << 22,
) -> list[ObjectScores]:
    """Match the objects of some classes.

    Args:
        pair: prediction and reference.
        codes: the classes, as positions.
        iou_over: a pair is matched where its IoU is larger.
        connectivity: of cells by sides (faces), or by corners too.
        min_cells: smaller regions are no objects, on either side.
        slab_cells: about how many cells are in memory at once.

    Returns:
        For each of `codes`, its objects.
    """
    table = np.zeros(pair.classes + 2, np.uint32)
    table[list(codes)] = np.asarray(codes, np.uint32) + 1

    def values(read: NDArray[Any]) -> NDArray[np.uint32]:
        return np.asarray(table[read])

    def side(number: int) -> Components:
        return components(lambda box: pair.read(box)[number], pair.shape, values, connectivity, slab_cells)

    prediction, reference = side(0), side(1)
    shared = _shared(reference, prediction, min_cells)
    return [_scores(reference, prediction, shared, code + 1, iou_over, min_cells) for code in codes]


def _shared(reference: Components, prediction: Components, min_cells: int) -> NDArray[np.int64]:
    """Return (pair, 3) int64: an object of the reference, one of the prediction of that class, and common cells."""
    many = np.int64(max(1, prediction.size.size))
    keys: NDArray[np.int64] = np.empty(0, np.int64)
    cells: NDArray[np.int64] = np.empty(0, np.int64)
    for (_, _, ours), (_, _, theirs) in zip(reference.cells(), prediction.cells(), strict=True):
        both = (ours >= 0) & (theirs >= 0)
        one, two = ours[both], theirs[both]
        kept = (reference.value[one] == prediction.value[two]) & (reference.size[one] >= min_cells)
        kept &= prediction.size[two] >= min_cells
        here, counts = np.unique(one[kept] * many + two[kept], return_counts=True)
        keys, where = np.unique(np.concatenate((keys, here)), return_inverse=True)
        summed = np.zeros(keys.size, np.int64)
        np.add.at(summed, where, np.concatenate((cells, counts)))
        cells = summed
    return np.stack((keys // many, keys % many, cells), axis=1)


def _scores(
    reference: Components, prediction: Components, shared: NDArray[np.int64], value: int, over: float, min_cells: int
) -> ObjectScores:
    ours = int(np.count_nonzero((reference.value == value) & (reference.size >= min_cells)))
    theirs = int(np.count_nonzero((prediction.value == value) & (prediction.size >= min_cells)))
    here = shared[reference.value[shared[:, 0]] == value]
    union = reference.size[here[:, 0]] + prediction.size[here[:, 1]] - here[:, 2]
    matched = _matched(here[:, :2], here[:, 2] / union, reference.first, over)
    detected = len(matched)
    missed, false = ours - detected, theirs - detected
    f1 = 2 * detected / (2 * detected + missed + false) if ours + theirs else None
    mean = sum(matched) / detected if detected else None
    return ObjectScores(
        reference=ours,
        prediction=theirs,
        detected=detected,
        missed=missed,
        false=false,
        touched=np.unique(here[:, 0]).size,
        precision=None if f1 is None else detected / theirs if theirs else 0.0,
        recall=None if f1 is None else detected / ours if ours else 0.0,
        f1=f1,
        mean_iou=mean,
        panoptic_quality=None if f1 is None else f1 * (mean or 0.0),
    )


def _matched(pairs: NDArray[np.int64], iou: NDArray[np.float64], first: NDArray[np.int64], over: float) -> list[float]:
    """Return the IoUs of the pairs that are matched: the largest first, of equal ones the first in reading order."""
    order = np.lexsort((pairs[:, 1], first[pairs[:, 0]], -iou))
    taken: tuple[set[int], set[int]] = set(), set()
    found = []
    for index in order[iou[order] > over].tolist():
        one, two = int(pairs[index, 0]), int(pairs[index, 1])
        if one not in taken[0] and two not in taken[1]:
            taken[0].add(one)
            taken[1].add(two)
            found.append(float(iou[index]))
    return found


def summarise_objects(
    found: Sequence[ObjectScores], iou_over: float, connectivity: Connectivity, min_cells: int
) -> ObjectsSummary:
    """Return means over the classes that have an object on either side."""
    held = [item for item in found if item.f1 is not None]

    def mean(key: str) -> float | None:
        return mean_of_known(getattr(item, key) for item in held)

    return ObjectsSummary(
        iou_over=iou_over,
        connectivity=connectivity,
        min_cells=min_cells,
        mean_f1=mean("f1"),
        mean_panoptic_quality=mean("panoptic_quality"),
        classes_scored=len(held),
    )
