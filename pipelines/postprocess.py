"""The stage that changes labels once all are there, as the recipe's `postprocess` says, and counts them again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.journal import Totals
from pipelines.planning.plan import ScenePlan
from pipelines.predict import OpenScene, count, open_scene
from pipelines.workshop import Workshop
from segflow.io.staging import Staging
from segflow.io.stamp import require_unchanged
from segflow.metrics import Counts
from segflow.postprocess import Change, changes
from tiling import Box

_SLAB_CELLS = 1 << 22
_FILE_CELLS = 1024


def postprocess(plan: ScenePlan, workshop: Workshop, totals: Totals) -> Totals:
    """Change the labels of a finished scene, and return its sums with the counts of the changed labels.

    What has no valid input stays as it is, also where a volume's masked voxels are of a class that is changed.

    Args:
        plan: the scene's plan; where it asks for no change, nothing is done.
        workshop: where its chunks are; the changed labels are put beside them.
        totals: the sums over its chunks.

    Raises:
        InputError: the input or the reference was changed meanwhile.
        DamagedStagingError: a staged chunk is not as it was stored.
        OutputError: the disk is full or cannot be written.
    """
    if plan.postprocess is None:
        return totals
    began = perf_counter()
    counts = Counts.zero(plan.card.ids, referenced=plan.reference is not None)
    passes = _passes(plan)
    with open_scene(plan) as scene:
        for number, change in enumerate(passes):
            read, store = labels_reader(plan, workshop, number), _store(plan, workshop, number)
            last = number == len(passes) - 1

            def write(box: Box, labels: NDArray[Any], store: Staging = store, last: bool = last) -> None:
                nonlocal counts
                chunk = box.shift(plan.region.start)
                if last:
                    valid = valid_labels(plan, scene, chunk, labels)
                    labels = np.where(valid, labels, labels.dtype.type(plan.task.nodata))
                    counts += count(plan, chunk, labels, valid, scene.reference)
                store.write(chunk, {"labels": labels})

            change(read, plan.region.shape, write, _SLAB_CELLS)
    require_unchanged(plan.stamps)
    return replace(totals.with_seconds(postprocess=perf_counter() - began), counts=counts)


def final_labels(plan: ScenePlan, workshop: Workshop) -> Callable[[Box], NDArray[Any]]:
    """Return a function that reads the labels that are published, in a box counted from the region's start."""
    return labels_reader(plan, workshop, len(_passes(plan)))


def labels_reader(plan: ScenePlan, workshop: Workshop, number: int) -> Callable[[Box], NDArray[Any]]:
    """Return a function that reads labels after so many changes, in a box counted from the region's start."""
    staging = Staging(workshop.staging if number == 0 else workshop.changed(number - 1), plan.region)
    return lambda box: staging.read("labels", box.shift(plan.region.start))


def _passes(plan: ScenePlan) -> tuple[Change, ...]:
    nodata = plan.task.nodata if plan.grid.kind == "raster" else None
    return () if plan.postprocess is None else tuple(changes(plan.postprocess, nodata))


def _store(plan: ScenePlan, workshop: Workshop, number: int) -> Staging:
    shape = plan.region.shape
    rows = max(1, min(shape[0], _SLAB_CELLS // prod(shape[1:])))
    chunk = (rows, *(min(n, _FILE_CELLS) for n in shape[1:]))
    return Staging.prepare(workshop.changed(number), plan.region, chunk, {"labels": plan.label_type})


def valid_labels(plan: ScenePlan, scene: OpenScene, chunk: Box, labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which labels count: a raster says it by its nodata, of a volume the input is asked."""
    if plan.grid.kind == "raster":
        return np.asarray(labels != plan.task.nodata)
    if plan.task.layout.frame is not None:  # prepared as a whole: every voxel has a label that counts
        return np.ones(labels.shape, np.bool_)
    return scene.source.read(chunk).valid
