"""What a page shows of a raster: an overview, tiles at several scales, and the worst places at full resolution."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.publishing.open_seen import OpenSeen
from segflow.io.raster import RasterSource
from segflow.report import Bounds, Pictures, Place, Preview, bounds_of, stretch, thinning
from segflow.report.codec import NOTHING, positions
from segflow.report.pictures import block_sums, confidence_of, worst_blocks
from segflow.report.pyramid import LONGEST, Layers, pyramid
from tiling import Box

_BAND_CELLS = 1 << 22
_STRIP_CELLS = 1 << 20
_BLOCK = 512
"""Cells of a place's side, at most."""


def raster_pictures(scene: OpenSeen) -> Pictures:
    """Return a raster's pictures. Labels and reference, where there is one, are read in full, in bands of rows."""
    rows, columns = scene.shape
    step = thinning((rows, columns), LONGEST)
    seen = _thin(scene, step)
    found = _labelled(scene, step)
    confidence = None
    if isinstance(scene.confidence, RasterSource):
        confidence = scene.confidence.decimated(Box.whole(scene.shape), step).values[0].astype(np.uint8, copy=False)
    layers = Layers(seen.image, found.labels, found.reference, confidence)
    sure = None if confidence is None else confidence_of(confidence, found.labels, len(scene.classes), step)
    return Pictures(
        previews=(_overview(scene, layers, step),),
        pyramid=pyramid(layers, step),
        worst=_worst(scene, found, confidence, step, seen.bounds),
        by_confidence=found.reference is None,
        confidence=sure,
    )


@dataclass(frozen=True, slots=True)
class _Thin:
    """The input, thinned; and how it was stretched."""

    image: NDArray[np.uint8]
    bounds: Bounds | None


@dataclass(frozen=True, slots=True)
class _Labelled:
    """Labels and reference, thinned; and for each block how many of its cells are wrong, and how many are scored."""

    labels: NDArray[np.uint8]
    reference: NDArray[np.uint8] | None = None
    wrong: NDArray[np.int64] | None = None
    scored: NDArray[np.int64] | None = None


def _thin(scene: OpenSeen, step: int) -> _Thin:
    whole = Box.whole(scene.shape)
    height, width = (max(1, n // step) for n in scene.shape)
    if not isinstance(scene.image, RasterSource):
        return _Thin(np.full((height, width, 3), 128, np.uint8), None)
    pixels = scene.image.decimated(scene.moved(whole), step)
    colours = pixels.values[list(_rgb(scene.seen.channels))]
    coarse = slice(None, None, max(1, max(height, width) // 1024))
    bounds = bounds_of(colours[:, coarse, coarse], pixels.valid[coarse, coarse])
    image = np.empty((height, width, 3), np.uint8)
    lines = max(1, _STRIP_CELLS // width)
    for top in range(0, height, lines):
        part = slice(top, top + lines)
        image[part] = stretch(colours[:, part], pixels.valid[part], bounds)
    return _Thin(image, bounds)


def _rgb(channels: tuple[str, ...]) -> tuple[int, ...]:
    """Return the channels that show best as red, green, blue: those of these names, else the first."""
    names = [name.lower() for name in channels]
    found = tuple(names.index(colour) for colour in ("red", "green", "blue") if colour in names)
    return found if len(found) == 3 else ((0, 1, 2) if len(channels) >= 3 else (0,))


def _labelled(scene: OpenSeen, step: int) -> _Labelled:
    """Return the labels from the file's overviews; with a reference from the middle cell of each, and count errors."""
    if not isinstance(scene.labels, RasterSource):
        raise ValueError("the labels of a raster are a raster")
    whole = Box.whole(scene.shape)
    if scene.reference is None:
        return _Labelled(positions(scene.labels.decimated(whole, step).values[0], None, scene.classes))
    (rows, columns), block = scene.shape, _block(scene)
    height, width = (max(1, n // step) for n in scene.shape)
    labels, reference = np.empty((height, width), np.uint8), np.empty((height, width), np.uint8)
    wrong, scored = (np.zeros((-(-rows // block), -(-columns // block)), np.int64) for _ in range(2))
    middle = min(step // 2, rows - 1), min(step // 2, columns - 1)
    lines = max(1, _BAND_CELLS // (step * columns))
    for first in range(0, -(-rows // step), lines):
        top, bottom = first * step, min((first + lines) * step, rows)
        box = whole.replace_axis(0, top, bottom)
        made = positions(scene.labels.read(box).values[0], None, scene.classes)
        truth = scene.truth(box)
        known = (made != NOTHING) & (truth != NOTHING)
        place = np.arange(top, bottom) // block
        for sums, cells in ((wrong, known & (made != truth)), (scored, known)):
            across = np.add.reduceat(cells, np.arange(0, columns, block), axis=1, dtype=np.int64)
            np.add.at(sums, place, across)
        part = slice(first, min(first + lines, height))
        for thin, full in ((labels, made), (reference, truth)):
            few = full[middle[0] :: step, middle[1] :: step]
            thin[part] = few[: part.stop - part.start, :width]
    return _Labelled(labels, reference, wrong, scored)


def _block(scene: OpenSeen) -> int:
    """Return the side of a place: about a twelfth of the scene, from 64 to 512 cells."""
    return int(min(_BLOCK, max(64, 1 << round(np.log2(max(scene.shape) / 12)))))


def _overview(scene: OpenSeen, layers: Layers, step: int) -> Preview:
    note = f"every {step}th cell" if step > 1 else "every cell"
    ids = scene.ids
    reference = None if layers.reference is None else ids[layers.reference]
    shown = Preview("Overview", layers.image, ids[layers.labels], None, reference, note=note)
    return shown.thinned(1024)


def _worst(
    scene: OpenSeen, found: _Labelled, confidence: NDArray[np.uint8] | None, step: int, bounds: Bounds | None
) -> tuple[Place, ...]:
    """Return the places with the largest share of errors; without a reference those of the lowest mean confidence."""
    if found.wrong is not None and found.scored is not None:
        values, weights = found.wrong.astype(float), found.scored.astype(float)
        shares = np.divide(values, weights, out=np.zeros_like(values), where=weights > 0)
        values = shares
    elif confidence is not None:
        values, weights, shares = _doubt(confidence, found.labels, max(1, _block(scene) // step))
    else:
        return ()
    chosen = worst_blocks(values, weights)
    return tuple(_place(scene, index, float(shares[index]), bounds) for index in chosen)


def _doubt(
    confidence: NDArray[np.uint8], labels: NDArray[np.uint8], side: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return by block how unsure the network was on the whole, the valid cells, and the mean confidence."""
    known = labels != NOTHING
    weights = block_sums(known.astype(np.float64), side)
    sums = block_sums(np.where(known, confidence, 0) / 255.0, side)
    mean = np.divide(sums, weights, out=np.ones_like(sums), where=weights > 0)
    return 1.0 - mean, weights, mean


def _place(scene: OpenSeen, index: tuple[int, ...], value: float, bounds: Bounds | None) -> Place:
    block = _block(scene)
    start = tuple(i * block for i in index)
    stop = tuple(min(a + block, n) for a, n in zip(start, scene.shape, strict=True))
    box = Box(start, stop)
    ids = scene.ids
    labels = ids[positions(scene.labels.read(box).values[0], None, scene.classes)]
    reference = None if scene.reference is None else ids[scene.truth(box)]
    image = np.full((*box.shape, 3), 128, np.uint8)
    if isinstance(scene.image, RasterSource):
        pixels = scene.image.read(scene.moved(box))
        image = stretch(pixels.values[list(_rgb(scene.seen.channels))], pixels.valid, bounds)
    view = Preview(
        f"Columns {start[1]:,}–{stop[1] - 1:,}, rows {start[0]:,}–{stop[0] - 1:,}", image, labels, None, reference
    )
    return Place(view, start, stop, value, (start[1], start[0], stop[1], stop[0]))
