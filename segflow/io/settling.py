"""How a volume is prepared as a whole: its crop, shape and numbers, settled once, by the driver, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.source import Source
from segflow.models.card import ChannelScheme, Preparation
from tiling.axismap import Filter
from tiling.block import Frame
from tiling.box import Box

_SLAB_VOXELS = 1 << 22
_LEAST = 1e-8
"""The least deviation that is divided by, as in nnU-Net."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """How one channel is standardised: clipped, then ``(value - mean) / deviation``.

    Attributes:
        mean, deviation: in raw units.
        lower, upper: what values are clipped to before; None: they are not.
        masked: voxels that are 0 in all channels, and not enclosed by others, keep their value.
    """

    mean: float = 0.0
    deviation: float = 1.0
    lower: float | None = None
    upper: float | None = None
    masked: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """How one volume is prepared, with nothing left to decide. Plain data: it is part of a plan.

    Attributes:
        crop: the voxels that the model sees, on the volume's own grid.
        shape: cells that these become on the model's grid.
        padded: cells of the model's grid with padding (zeros) around; a patch fits in.
        numbers: one a channel.
        order: of the splines by which it is resampled.
        apart: the axis that is resampled apart from the others, by `order_apart`; None: none is.
        order_apart: 0 takes the nearest slice.
        back: for each axis, how labels come back to the volume's own grid.
    """

    crop: Box
    shape: tuple[int, ...]
    padded: tuple[int, ...]
    numbers: tuple[Numbers, ...]
    order: int
    apart: int | None
    order_apart: int
    back: tuple[Filter, ...]

    @property
    def inner(self) -> Box:
        """The cells of the padded grid that are no padding; of an odd number of cells the last side gets one more."""
        start = tuple((whole - n) // 2 for whole, n in zip(self.padded, self.shape, strict=True))
        return Box.whole(self.shape).shift(start)

    @property
    def frame(self) -> Frame:
        """Where the model's grid lies in the volume."""
        return Frame(self.crop, self.inner, self.back)

    @property
    def bytes_while_made(self) -> int:
        """Memory that is needed at most while the prepared volume is made."""
        middle = self.crop.size // self.crop.shape[0] * max(self.crop.shape[0], self.shape[0])
        return 4 * (self.crop.size + 2 * max(self.crop.size, middle, Box.whole(self.shape).size)) + self.crop.size


def settle(source: Source, rule: Preparation, spacing: tuple[float, ...] | None, patch: tuple[int, ...]) -> Settled:
    """Settle how a volume is prepared; reads it once or twice.

    Args:
        source: the volume, in the model's orientation.
        rule: the card's.
        spacing: of the model's cells in mm, in the order of the grid's axes; None: as the volume's own.
        patch: cells of a patch.

    Raises:
        InputError: the volume is 0 everywhere, or holds NaN or infinity.
    """
    crop = _extent(source) if rule.crop else Box.whole(source.grid.shape)
    mine = source.grid.spacing or (1.0,) * 3
    theirs = (
        mine
        if spacing is None
        else tuple(a if k == rule.keep else b for k, (a, b) in enumerate(zip(mine, spacing, strict=True)))
    )
    shape = tuple(max(1, round(a / b * n)) for a, b, n in zip(mine, theirs, crop.shape, strict=True))
    apart = _apart(mine, theirs, rule.apart)
    apart_back = _apart(theirs, mine, rule.apart_back)
    back: list[Filter] = [_filter(rule.order_back)] * 3
    if apart_back is not None:
        back[apart_back] = _filter(rule.order_apart_back)
    return Settled(
        crop=crop,
        shape=shape,
        padded=tuple(max(n, p) for n, p in zip(shape, patch, strict=True)),
        numbers=_numbers(source, crop, rule.schemes),
        order=rule.order,
        apart=apart,
        order_apart=rule.order_apart,
        back=tuple(back),
    )


def nonzero(source: Source, crop: Box) -> NDArray[np.bool_]:
    """Return which voxels of a crop are not 0 in some channel, or are enclosed by such: (*crop) bool."""
    from scipy.ndimage import binary_fill_holes

    mask = np.zeros(crop.shape, np.bool_)
    for part, raw in slabs(source, crop):
        mask[part.within(crop)] = (raw != 0).any(axis=0)
    filled: NDArray[np.bool_] = binary_fill_holes(mask)
    return filled


def slabs(source: Source, crop: Box) -> Iterator[tuple[Box, NDArray[Any]]]:
    """Read a crop slab by slab: boxes, and their raw values (channel, *box).

    Raises:
        InputError: a value is not finite.
    """
    axis = source.slab_axis
    rows = max(1, _SLAB_VOXELS // (crop.size // crop.shape[axis]))
    for start in range(crop.start[axis], crop.stop[axis], rows):
        part = crop.replace_axis(axis, start, min(start + rows, crop.stop[axis]))
        pixels = source.read(part)
        if not pixels.valid.all():
            place = tuple(int(a + i) for a, i in zip(part.start, np.argwhere(~pixels.valid)[0], strict=True))
            raise InputError(
                f"{source.name} holds NaN or infinity, first at voxel {place} of the model's orientation",
                "finite numbers, since this model standardises and resamples the volume as a whole",
                "replace them, for instance by 0 (nibabel, numpy.nan_to_num)",
            )
        yield part, pixels.values


def _extent(source: Source) -> Box:
    """Return the smallest box that holds all voxels that are not 0 in some channel."""
    whole = Box.whole(source.grid.shape)
    held = [np.zeros(n, np.bool_) for n in whole.shape]
    for part, raw in slabs(source, whole):
        mask = (raw != 0).any(axis=0)
        for axis, line in enumerate(held):
            others = tuple(other for other in range(mask.ndim) if other != axis)
            line[part.start[axis] : part.stop[axis]] |= mask.any(axis=others)
    if not held[0].any():
        raise InputError(
            f"{source.name} is 0 everywhere", "a volume with something in it", "check the file, or leave it out"
        )
    ends = [np.flatnonzero(line)[[0, -1]] for line in held]
    return Box(tuple(int(low) for low, _ in ends), tuple(int(high) + 1 for _, high in ends))


def _numbers(source: Source, crop: Box, schemes: tuple[ChannelScheme, ...]) -> tuple[Numbers, ...]:
    mask = None
    if any(item.scheme == "zscore" and item.masked for item in schemes):
        mask = nonzero(source, crop)
    totals = [_Totals() for _ in schemes]
    if any(item.scheme in ("zscore", "rescale") for item in schemes):
        for square in (False, True):
            for part, raw in slabs(source, crop):
                for values, total, item in zip(raw, totals, schemes, strict=True):
                    held = values[mask[part.within(crop)]] if item.masked and mask is not None else values
                    total.add(held.astype(np.float64), square)
    return tuple(_settled_numbers(item, total) for item, total in zip(schemes, totals, strict=True))


class _Totals:
    """Count, mean, squared deviation and range of a channel, in two passes."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: NDArray[np.float64], square: bool) -> None:
        """Add values: to the sum in the first pass, to the squared deviations in the second."""
        if not values.size:
            return
        if square:
            self.squares += float(np.square(values - self.mean).sum())
            return
        self.count += values.size
        self.total += float(values.sum())
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    @property
    def mean(self) -> float:
        return self.total / max(1, self.count)

    @property
    def deviation(self) -> float:
        return float(np.sqrt(self.squares / max(1, self.count)))


def _settled_numbers(item: ChannelScheme, total: _Totals) -> Numbers:
    if item.scheme == "zscore":
        return Numbers(total.mean, max(total.deviation, _LEAST), masked=item.masked)
    if item.scheme == "rescale":
        return Numbers(total.low, max(total.high - total.low, _LEAST))
    return Numbers(item.mean, max(item.deviation, _LEAST), item.lower, item.upper)


def _filter(order: int) -> Filter:
    return "nearest" if order == 0 else "linear"


def _apart(first: tuple[float, ...], second: tuple[float, ...], rule: bool | float) -> int | None:
    """Return the axis of thick slices: the one longest side of a voxel that is over `rule` times the shortest.

    Of the grid that is left first, then of the other one. True asks no such proportion; False: never.
    """
    if rule is False:
        return None
    for spacing in (first, second):
        if rule is True or max(spacing) / min(spacing) > rule:
            longest = [axis for axis, value in enumerate(spacing) if value == max(spacing)]
            return longest[0] if len(longest) == 1 else None
    return None
