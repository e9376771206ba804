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


def stretch(values: NDArray[Any], valid: NDArray[np.bool_] | None = None) -> NDArray[np.uint8]:
    """Return an image to look at: channels 1 to 3 as red, green, blue (one channel as grey), each stretched.

    Stretching is from the 2nd to the 98th percentile of the valid cells: of all shown channels together where
    their ranges nearly agree (so that colours stay true), else channel by channel (so that a dark
    band of a satellite is seen). Only pictures are stretched, never what the network sees.

    Args:
        values: (channel, y, x), any real dtype.
        valid: (y, x) bool, True = valid; cells that are not are shown grey.

    Returns:
        (y, x, 3) uint8.
    """
    shown = values[[0, 0, 0]] if len(values) < 3 else values[:3]
    numbers = shown.astype(np.float32)
    good = np.isfinite(numbers).all(axis=0) if valid is None else valid & np.isfinite(numbers).all(axis=0)
    image = np.full((*values.shape[1:], 3), 128, np.uint8)
    if not good.any():
        return image
    bounds = [np.percentile(numbers[channel, good], (2, 98)) for channel in range(3)]
    common = (min(low for low, _ in bounds), max(high for _, high in bounds))
    apart = max(max(low - common[0], common[1] - high) for low, high in bounds)
    together = apart <= 0.2 * (common[1] - common[0])
    for channel in range(3):
        low, high = common if together else bounds[channel]
        if high <= low:
            low, high = float(numbers[channel, good].min()), float(numbers[channel, good].max())
        scale = 255 / (high - low) if high > low else 0.0
        stretched = np.clip((numbers[channel, good] - low) * scale, 0, 255)
        image[good, channel] = np.rint(stretched).astype(np.uint8) if scale else 128
    return image
