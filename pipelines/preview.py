"""Pictures for a scene's report: the input, the labels and the reference on the same few cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.plan import ScenePlan
from pipelines.predict import inside
from segflow.io.opening import open_source
from segflow.io.raster import RasterSource
from segflow.io.slices import orthogonal_slices
from segflow.io.source import Source
from segflow.metrics import reference_codes
from segflow.report import Preview, stretch, thinning
from tiling import Box

_VOLUME_PX = 512
_BAND_CELLS = 1 << 22
_PLANES = (
    ("Axial", "the patient's right is on the left"),
    ("Coronal", "the patient's right is on the left"),
    ("Sagittal", "anterior is on the left"),
)


def previews(plan: ScenePlan, labels: Callable[[Box], NDArray[Any]]) -> list[Preview]:
    """Return one overview of a raster, or three slices of a volume.

    Args:
        plan: the scene's plan.
        labels: gives the class ids of a box, counted from the region's start.
    """
    source = open_source(plan.spec)
    reference = None if plan.reference is None else open_source(plan.reference.spec)
    try:
        if isinstance(source, RasterSource):
            return [_overview(plan, source, labels, reference)]
        return _slices(plan, source, labels, reference)
    finally:
        source.close()
        if reference is not None:
            reference.close()


def _overview(
    plan: ScenePlan, source: RasterSource, labels: Callable[[Box], NDArray[Any]], reference: Source | None
) -> Preview:
    """Take about every n-th cell, from overviews where the file has them, else row by row in little memory."""
    region = plan.region
    step = thinning((region.shape[0], region.shape[1]))
    pixels = source.decimated(region, step)
    height, width = pixels.valid.shape
    every = Box.whole(region.shape)
    shown = _thinned(labels, every, step, (height, width))
    truth = None
    if reference is not None:
        truth = _thinned(lambda box: _truth(plan, reference, box), region, step, (height, width))
    note = f"every {step}th cell" if step > 1 else "every cell"
    colours = pixels.values[list(_rgb(plan.card.channels))]
    return Preview("Overview", stretch(colours, pixels.valid), shown, pixels.valid, truth, note=note)


def _thinned(read: Callable[[Box], NDArray[Any]], box: Box, step: int, shape: tuple[int, int]) -> NDArray[Any]:
    """Take the middle cell of every `step` x `step` cells of a box; bands of rows are in memory, one at a time."""
    middle = min(step // 2, box.shape[0] - 1), min(step // 2, box.shape[1] - 1)
    lines = max(1, _BAND_CELLS // (step * box.shape[1]))
    parts = []
    for first in range(0, shape[0], lines):
        start = box.start[0] + first * step
        stop = min(box.start[0] + (first + lines) * step, box.stop[0])
        part = read(box.replace_axis(0, start, stop))[middle[0] :: step, middle[1] :: step]
        parts.append(part[: shape[0] - first, : shape[1]].copy())  # a view would keep the whole band
    return np.concatenate(parts)


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
    rows = reference_codes(plan.card.ids, plan.reference.ignore, plan.reference.map)(pixels.values[0].reshape(-1))
    shown = np.array([*plan.card.ids, -1, -1], np.int32)[rows].reshape(box.shape)
    return np.where(pixels.valid & inside(plan.reference, box), shown, np.int32(-1))


def _slices(
    plan: ScenePlan, source: Source, labels: Callable[[Box], NDArray[Any]], reference: Source | None
) -> list[Preview]:
    at = _busiest(labels, plan)
    images = orthogonal_slices(lambda box: source.read(box).values[0], plan.grid, _VOLUME_PX, at)
    shown = orthogonal_slices(labels, plan.grid, _VOLUME_PX, at)
    truths: tuple[NDArray[Any] | None, ...] = (None, None, None)
    if reference is not None:
        truths = orthogonal_slices(lambda box: _truth(plan, reference, box), plan.grid, _VOLUME_PX, at)
    bright = stretch(np.concatenate([picture.ravel() for picture in images])[None, None, :])[0, :, 0]
    out, start = [], 0
    for (title, note), picture, label, truth in zip(_PLANES, images, shown, truths, strict=True):
        grey = bright[start : start + picture.size].reshape(picture.shape)
        start += picture.size
        out.append(Preview(title, np.repeat(grey[..., None], 3, axis=2), label, None, truth, note=note))
    return out


def _busiest(labels: Callable[[Box], NDArray[Any]], plan: ScenePlan) -> tuple[int, ...]:
    """Return, for each axis, the slice with the most voxels that are not background: there is something to see."""
    whole = Box.whole(plan.region.shape)
    counts = [np.zeros(n, np.int64) for n in whole.shape]
    slab = max(1, _BAND_CELLS * whole.shape[0] // whole.size)
    for start in range(0, whole.shape[0], slab):
        box = whole.replace_axis(0, start, min(start + slab, whole.shape[0]))
        marked = labels(box) != plan.card.ids[0]
        counts[0][box.slices[0]] = marked.sum(axis=(1, 2))
        counts[1] += marked.sum(axis=(0, 2))
        counts[2] += marked.sum(axis=(0, 1))
    best = (np.flatnonzero(count == count.max()) for count in counts)
    return tuple(int(ties[len(ties) // 2]) for ties in best)
