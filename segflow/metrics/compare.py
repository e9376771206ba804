"""Confusion counts of two files that lie on one grid, read band by band."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.source import Source
from segflow.metrics.counts import Counts, count_confusion, reference_codes, unknown_ids
from tiling.box import Box

_TILE = 512


def evaluate(
    prediction: Source,
    reference: Source,
    ids: Sequence[int],
    *,
    ignore: Sequence[int] = (),
    mapping: Mapping[int, int] | None = None,
    region: Box | None = None,
    band_cells: int = 1 << 23,
) -> Counts:
    """Count a prediction against a reference; the same numbers as the sweep of a run gives. Memory: two bands.

    Args:
        prediction: one channel of class ids; where it is not valid there was no input.
        reference: one channel of ids; where it is not valid nothing is scored.
        ids: class ids, in the order of rows and columns.
        ignore: ids that are not scored.
        mapping: ids in the reference to ids of the model.
        region: only this part of the grid is scored; the rest is counted as excluded.
        band_cells: about how many cells are read at a time.

    Raises:
        GridMismatchError: shape or position differ (coordinate systems are the caller's to compare).
        InputError: more than one channel, a region outside the grid, an unknown id, or a broken file.
    """
    for what, source in (("prediction", prediction), ("reference", reference)):
        if source.channels != 1:
            raise InputError(
                f"the {what} {source.name} has {source.channels} channels",
                "a label map: one channel of class ids",
                "give the label map itself, not an image or probabilities",
            )
    prediction.grid.require_same_place(reference.grid, prediction.name, reference.name)
    whole = Box.whole(prediction.grid.shape)
    if region is not None and not whole.contains(region):
        raise InputError(
            f"the region {region.start} to {region.stop} reaches beyond {prediction.name}",
            f"a region inside {prediction.grid.named(prediction.grid.shape)}",
            "correct references.region (x, y, width, height in cells)",
        )
    total = Counts.zero(ids)
    for band in bands(prediction, band_cells):
        ours = prediction.read(band)
        part = band if region is None else band.intersect(region)
        values: NDArray[np.generic] = np.zeros(band.shape, reference.dtype)
        scored = np.zeros(band.shape, np.bool_)
        if part is not None:
            theirs = reference.read(part)
            values[part.within(band)] = theirs.values[0]
            scored[part.within(band)] = theirs.valid
        total += count_confusion(
            values, ours.values[0], ids, ignore=ignore, mapping=mapping, valid=ours.valid, scored=scored
        )
    return total


def require_known_ids(
    reference: Source, ids: Sequence[int], ignore: Sequence[int], mapping: Mapping[int, int], region: Box | None = None
) -> None:
    """Read a whole reference and refuse ids that are no class, before hours are spent on what it is compared with.

    Args:
        reference: one channel of ids.
        ids: class ids.
        ignore: ids that are not scored.
        mapping: ids in the reference to ids of the model.
        region: only this part counts.

    Raises:
        InputError: it holds such ids; all are named, with how often each occurs.
    """
    codes = reference_codes(ids, ignore, mapping)
    strangers: Counter[float] = Counter()
    for band in bands(reference, 1 << 23):
        part = band if region is None else band.intersect(region)
        if part is not None:
            pixels = reference.read(part)
            strangers.update(codes.strangers(pixels.values[0][pixels.valid]))
    if strangers:
        raise unknown_ids("reference", strangers, ids)


def bands(source: Source, cells: int) -> Iterator[Box]:
    """Yield boxes of about `cells` cells that cover a source: rows of a raster, z-slabs of a volume.

    A raster's bands begin at multiples of 512 rows, so that no tile of the file is unpacked twice.
    """
    whole = Box.whole(source.grid.shape)
    raster = source.grid.kind == "raster"
    axis = 0 if raster else whole.ndim - 1
    depth = whole.shape[axis]
    step = max(1, cells // (prod(whole.shape) // depth))
    if raster:
        step = max(_TILE, step // _TILE * _TILE)
    for start in range(0, depth, step):
        yield whole.replace_axis(axis, start, min(start + step, depth))
