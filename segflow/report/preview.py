"""Pictures for a report: what went in, what came out, and where it differs from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

LONGEST_PX = 1024
"""Longest side of a preview; rasters are thinned to it."""


@dataclass(frozen=True, slots=True)
class Preview:
    """One view of a scene, small enough to show whole.

    Attributes:
        title: what is seen, such as "Overview" or "Axial, z = 94".
        image: (y, x, 3) uint8, the input as it is shown.
        labels: (y, x) class ids; None where there is no label map.
        valid: (y, x) bool, True = valid input; None: everywhere.
        reference: (y, x) class ids, ids that are no class = not scored; None: there is no reference.
        aspect: height of a cell over its width, for volumes whose voxels are not cubes.
        note: one line below, such as which side is left.
    """

    title: str
    image: NDArray[np.uint8]
    labels: NDArray[Any] | None = None
    valid: NDArray[np.bool_] | None = None
    reference: NDArray[Any] | None = None
    aspect: float = 1.0
    note: str = ""

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"an image is (y, x, 3) uint8, got {self.image.shape} {self.image.dtype}")
        for what in ("labels", "valid", "reference"):
            array = getattr(self, what)
            if array is not None and array.shape != self.image.shape[:2]:
                raise ValueError(f"{what} has shape {array.shape}, the image {self.image.shape[:2]}")
        if not self.aspect > 0:
            raise ValueError(f"aspect {self.aspect} must be positive")

    def thinned(self, longest: int) -> Preview:
        """Return the preview with no side over `longest` cells: every k-th cell of every array."""
        step = -(-max(self.image.shape[:2]) // longest)
        if step == 1:
            return self
        part = (slice(step // 2, None, step), slice(step // 2, None, step))

        def thin(array: NDArray[Any] | None) -> NDArray[Any] | None:
            return None if array is None else array[part]

        return Preview(
            self.title,
            self.image[part],
            thin(self.labels),
            thin(self.valid),
            thin(self.reference),
            self.aspect,
            self.note,
        )


def thinning(shape: tuple[int, int], longest: int = LONGEST_PX) -> int:
    """Return the step at which a raster of this shape (y, x) is read for its overview."""
    return max(1, -(-max(shape) // longest))


Bounds = tuple[tuple[float, float], ...]
"""For red, green and blue, the value that is shown black and the one that is shown full."""


def bounds_of(values: NDArray[Any], valid: NDArray[np.bool_] | None = None, cut: float = 2.0) -> Bounds | None:
    """Return between which values an image is stretched; None where nothing is valid.

    From the 2nd to the 98th percentile of the valid cells: of all shown channels together where their ranges nearly
    agree (so that colours stay true), else channel by channel (so that a dark band of a satellite is seen).

    Args:
        values: (channel, y, x), any real dtype; channels 1 to 3 are red, green, blue, or one is grey.
        valid: (y, x) bool, True = valid.
        cut: percent that is cut off at both ends.
    """
    channels, good = _shown(values, valid)
    if not good.any():
        return None
    kind: Literal["stable"] | None = "stable" if _is_short(channels) else None  # which is a radix sort of these
    shown = [np.sort(channel[good], kind=kind) for channel in channels]
    bounds = [(_percentile(numbers, cut), _percentile(numbers, 100 - cut)) for numbers in shown]
    common = (min(low for low, _ in bounds), max(high for _, high in bounds))
    apart = max(max(low - common[0], common[1] - high) for low, high in bounds)
    together = apart <= 0.2 * (common[1] - common[0])
    found = []
    for numbers, own in zip(shown, bounds, strict=True):
        low, high = common if together else own
        if high <= low:
            low, high = numbers[0], numbers[-1]
        found.append((float(low), float(high)))
    return tuple(found)


def stretch(
    values: NDArray[Any], valid: NDArray[np.bool_] | None = None, bounds: Bounds | None = None
) -> NDArray[np.uint8]:
    """Return an image to look at. Only pictures are stretched, never what the network sees.

    Args:
        values: (channel, y, x), any real dtype; channels 1 to 3 are red, green, blue, or one is grey.
        valid: (y, x) bool, True = valid; cells that are not are shown grey.
        bounds: between which values; those of `bounds_of` when None.

    Returns:
        (y, x, 3) uint8.
    """
    bounds = bounds_of(values, valid) if bounds is None else bounds
    channels, good = _shown(values, valid)
    image = np.full((*values.shape[1:], 3), 128, np.uint8)
    if bounds is None or not good.any():
        return image
    for place, (channel, (low, high)) in enumerate(zip(channels, bounds, strict=True)):
        if high > low:
            numbers = channel if _is_short(channel) else np.where(good, channel, np.float32(low))
            np.copyto(image[..., place], _grey(numbers, low, high), where=good)
    return image if len(bounds) == 3 else image[..., [0, 0, 0]]


def _grey(channel: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Return 0 for `low` to 255 for `high`; of many short numbers each is looked up in a table of all there are."""
    if _is_short(channel) and channel.size > 256**channel.itemsize:
        native = channel.astype(channel.dtype.newbyteorder("="), copy=False)
        places = np.arange(256**channel.itemsize, dtype=f"u{channel.itemsize}")
        table = _grey(places.view(native.dtype), low, high)
        return np.take(table, native.view(places.dtype))
    numbers = channel.astype(np.float32, copy=False)
    grey: NDArray[np.uint8] = np.rint(np.clip((numbers - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)
    return grey


def _percentile(ordered: NDArray[Any], percent: float) -> float:
    """Return what `numpy.percentile` does, of values that are sorted already."""
    place = percent / 100 * (len(ordered) - 1)
    low, high = ordered[[int(place), ceil(place)]].astype(np.float32)
    gap, part = float(high - low), place % 1
    return float(low) + gap * part if part < 0.5 else float(high) - gap * (1 - part)


def _is_short(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iu" and values.itemsize <= 2


def _shown(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the channels that are shown, one or three, and where they can be."""
    channels = values[:1] if len(values) < 3 else values[:3]
    if not _is_short(channels):
        channels = channels.astype(np.float32)
        finite = np.logical_and.reduce(np.isfinite(channels), axis=0)
        valid = finite if valid is None else finite & valid
    return channels, np.ones(channels.shape[1:], np.bool_) if valid is None else np.asarray(valid, np.bool_)
