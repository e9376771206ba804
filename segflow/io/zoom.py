"""Resampling of a whole volume by splines, one axis pair and then the last axis, slab by slab in flat memory.

The tensor product of one-dimensional splines (Unser, Aldroubi, Eden 1993) is applied axis by axis, which gives what one
pass over all axes gives, up to rounding. Cells, not corners, are aligned; beyond the border the last value is repeated;
what a cubic spline overshoots is cut off at the volume's own range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SLAB_VOXELS = 1 << 21


def zoom_volume(
    values: NDArray[np.float32], shape: tuple[int, ...], order: int, apart: int | None = None, order_apart: int = 0
) -> NDArray[np.float32]:
    """Resample a volume (x, y, z) to another shape over the same extent.

    Args:
        values: float32; may be changed.
        shape: cells of the result.
        order: of the splines, 0 (nearest) to 5; 1 is linear.
        apart: an axis that is resampled by `order_apart` instead, after the others; slices across it do not mix before.
        order_apart: order along `apart`.
    """
    if values.shape == tuple(shape):
        return values
    last = 0 if apart is None else apart
    within = tuple(n if axis != last else values.shape[axis] for axis, n in enumerate(shape))
    low, high = values.min(), values.max()
    if within != values.shape:
        values = _slice_by_slice(values, within, last, order, clip=apart is not None)
    if values.shape != tuple(shape):
        order_last = order if apart is None else order_apart
        values = _along(values, shape, last, order_last)
    if apart is None and order > 1:
        np.clip(values, low, high, out=values)
    return values


def _slice_by_slice(
    values: NDArray[np.float32], shape: tuple[int, ...], across: int, order: int, clip: bool
) -> NDArray[np.float32]:
    """Resample every slice across an axis, each by itself."""
    out = np.empty(shape, np.float32)
    for number in range(values.shape[across]):
        piece = values[(slice(None),) * across + (number,)]
        made = _zoomed(piece, tuple(n for axis, n in enumerate(shape) if axis != across), order)
        if clip and order > 1:
            np.clip(made, piece.min(), piece.max(), out=made)
        out[(slice(None),) * across + (number,)] = made
    return out


def _along(values: NDArray[np.float32], shape: tuple[int, ...], axis: int, order: int) -> NDArray[np.float32]:
    """Resample along one axis alone, slab by slab of another one."""
    if order == 0:
        n, m = values.shape[axis], shape[axis]
        nearest: NDArray[np.float32] = np.take(values, (2 * np.arange(m) + 1) * n // (2 * m), axis)
        return nearest
    out = np.empty(shape, np.float32)
    other = 1 if axis == 0 else 0
    rows = max(1, _SLAB_VOXELS // (out.size // shape[other]))
    for start in range(0, shape[other], rows):
        at = (slice(None),) * other + (slice(start, start + rows),)
        piece = values[at]
        out[at] = _zoomed(
            piece, tuple(m if k == axis else n for k, (n, m) in enumerate(zip(piece.shape, shape, strict=True))), order
        )
    return out


def _zoomed(values: NDArray[np.float32], shape: tuple[int, ...], order: int) -> NDArray[np.float64]:
    from scipy.ndimage import zoom

    factors = [m / n for n, m in zip(values.shape, shape, strict=True)]
    out = np.empty(shape, np.float64)
    zoom(values.astype(np.float64), factors, output=out, order=order, mode="nearest", grid_mode=True)
    return out
