"""Pictures for a scene's report: the input, the labels and the reference on the same few cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.export import reader_of
from pipelines.plan import ScenePlan
from pipelines.predict import Workshop
from segflow.io.opening import open_source
from segflow.io.slices import middle_slices
from segflow.io.source import Source
from segflow.io.staging import Staging
from segflow.report import Preview, stretch, thinning
from tiling import Box

_VOLUME_PX = 512
_PLANES = (
    ("Axial", "the patient's right is on the left"),
    ("Coronal", "the patient's right is on the left"),
    ("Sagittal", "anterior is on the left"),
)


def previews(plan: ScenePlan, workshop: Workshop) -> list[Preview]:
    """Return one overview of a raster, or the three middle slices of a volume."""
    labels = reader_of(Staging(workshop.staging, plan.region), "labels", plan.region)
    source = open_source(plan.spec)
    reference = None if plan.reference is None else open_source(plan.reference.spec)
    try:
        if plan.grid.kind == "raster":
            return [_overview(plan, source, labels, reference)]
        return _slices(plan, source, labels, reference)
    finally:
        source.close()
        if reference is not None:
            reference.close()


def _overview(
    plan: ScenePlan, source: Source, labels: Callable[[Box], NDArray[Any]], reference: Source | None
) -> Preview:
    """Take every n-th cell of every n-th row; a row is in memory at a time."""
    region = plan.region
    height, width = region.shape
    step = thinning((height, width))
    values, valid, shown, truth = [], [], [], []
    for row in range(step // 2, height, step):
        box = region.replace_axis(0, region.start[0] + row, region.start[0] + row + 1)
        pixels = source.read(box)
        values.append(pixels.values[:, 0, step // 2 :: step])
        valid.append(pixels.valid[0, step // 2 :: step])
        shown.append(labels(Box((row, 0), (row + 1, width)))[0, step // 2 :: step])
        if reference is not None and plan.reference is not None:
            truth.append(_truth(plan, reference, box)[0, step // 2 :: step])
    mask = np.stack(valid)
    image = np.stack(values, axis=1)
    colour = image[list(_rgb(plan.card.channels))]
    note = f"every {step}th cell" if step > 1 else "every cell"
    return Preview(
        "Overview", stretch(colour, mask), np.stack(shown), mask, np.stack(truth) if truth else None, note=note
    )


def _rgb(channels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the channels that show best as red, green, blue: those of these names, else the first."""
    names = [name.lower() for name in channels]
    found = tuple(names.index(colour) for colour in ("red", "green", "blue") if colour in names)
    return found if len(found) == 3 else ((0, 1, 2) if len(channels) >= 3 else (0,))


def _truth(plan: ScenePlan, reference: Source, box: Box) -> NDArray[np.int32]:
    """Return the reference as ids of the model, -1 where nothing is scored."""
    if plan.reference is None:
        raise ValueError("the scene has no reference")
    pixels = reference.read(box)
    ids = np.where(pixels.valid, pixels.values[0], -1).astype(np.int32)
    out = np.full(ids.shape, -1, np.int32)
    targets = {value: value for value in plan.card.ids} | plan.reference.map
    for value, target in targets.items():
        if value not in plan.reference.ignore and target in plan.card.ids:
            out[ids == value] = target
    if plan.reference.region is not None:
        held = box.intersect(plan.reference.region)
        kept = np.full(ids.shape, -1, np.int32)
        if held is not None:
            kept[held.within(box)] = out[held.within(box)]
        out = kept
    return out


def _slices(
    plan: ScenePlan, source: Source, labels: Callable[[Box], NDArray[Any]], reference: Source | None
) -> list[Preview]:
    images = middle_slices(lambda box: source.read(box).values[0], plan.grid, _VOLUME_PX)
    shown = middle_slices(labels, plan.grid, _VOLUME_PX)
    truths: tuple[NDArray[Any] | None, ...] = (None, None, None)
    if reference is not None:
        truths = middle_slices(lambda box: _truth(plan, reference, box), plan.grid, _VOLUME_PX)
    bright = stretch(np.concatenate([picture.ravel() for picture in images])[None, None, :])[0, :, 0]
    out, start = [], 0
    for (title, note), picture, label, truth in zip(_PLANES, images, shown, truths, strict=True):
        grey = bright[start : start + picture.size].reshape(picture.shape)
        start += picture.size
        out.append(Preview(title, np.repeat(grey[..., None], 3, axis=2), label, None, truth, note=note))
    return out
