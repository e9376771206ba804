"""Pictures for a report: what went in, what came out, and where it differs from the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    numbers, good = _shown(values, valid)
    if not good.any():
        return None
    bounds = [np.percentile(channel[good], (cut, 100 - cut)) for channel in numbers]
    common = (min(low for low, _ in bounds), max(high for _, high in bounds))
    apart = max(max(low - common[0], common[1] - high) for low, high in bounds)
    together = apart <= 0.2 * (common[1] - common[0])
    found = []
    for channel, own in zip(numbers, bounds, strict=True):
        low, high = common if together else own
        if high <= low:
            low, high = float(channel[good].min()), float(channel[good].max())
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
    numbers, good = _shown(values, valid)
    image = np.full((*values.shape[1:], 3), 128, np.uint8)
    if bounds is None or not good.any():
        return image
    for place, (channel, (low, high)) in enumerate(zip(numbers, bounds, strict=True)):
        if high > low:
            stretched = np.clip((channel[good] - low) * (255 / (high - low)), 0, 255)
            image[good, place] = np.rint(stretched).astype(np.uint8)
    return image if len(bounds) == 3 else image[..., [0, 0, 0]]


def _shown(values: NDArray[Any], valid: NDArray[np.bool_] | None) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the channels that are shown, one or three, and where they can be."""
    numbers = (values[:1] if len(values) < 3 else values[:3]).astype(np.float32)
    good = np.logical_and.reduce(np.isfinite(numbers), axis=0)
    return numbers, np.asarray(good if valid is None else good & valid, np.bool_)
