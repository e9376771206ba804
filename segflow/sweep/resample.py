"""Between the input's grid and the model's: masked, separable, and the same however the scene is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.io.source import Pixels, Source
from tiling import AxisMap, Box, PlacedMap


def to_model(
    pixels: Pixels, read: Box, box: Box, maps: Sequence[AxisMap | PlacedMap]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Resample what was read onto the model's grid.

    Args:
        pixels: what was read.
        read: its cells, on the input's grid.
        box: the wanted cells, on the model's grid.
        maps: for each axis, from the input's cells to the model's.

    Returns:
        Values (channel, *box) float32, means over the valid input cells; and (*box) bool, True where any was valid.
    """
    if pixels.valid.all():
        return _apply(pixels.values.astype(np.float32), read, box, maps), np.ones(box.shape, np.bool_)
    values = _apply(np.where(pixels.valid, pixels.values, 0).astype(np.float32), read, box, maps)
    weight, divisor = _weights(pixels.valid, read, box, maps)
    values /= divisor
    return values, weight > 0


def read_model(
    source: Source, box: Box, maps: Sequence[AxisMap | PlacedMap]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read cells of the model's grid by themselves.

    Args:
        source: the scene.
        box: the wanted cells, on the model's grid.
        maps: for each axis, from the input's cells to the model's.

    Returns:
        As `to_model`.
    """
    supports = [one.support(a, b) for one, a, b in zip(maps, box.start, box.stop, strict=True)]
    read = Box(tuple(low for low, _ in supports), tuple(high for _, high in supports))
    return to_model(source.read(read), read, box, maps)


def to_output(sums: NDArray[Any], held: Box, box: Box, maps: Sequence[AxisMap | PlacedMap]) -> NDArray[np.float32]:
    """Interpolate blended sums from the model's grid to the output's.

    No mask is needed: the triangle is symmetric, so every model cell that a valid output cell is made of was itself
    made of that cell, hence is valid, and all its patches were run.

    Args:
        sums: (channel, *held), as the accumulator holds them.
        held: cells on the model's grid.
        box: cells on the output's grid.
        maps: for each axis, from the model's cells to the output's.
    """
    return _apply(sums.astype(np.float32), held, box, maps)


def _weights(
    valid: NDArray[np.bool_], held: Box, box: Box, maps: Sequence[AxisMap | PlacedMap]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the weight of valid cells in each result, and what to divide by.

    A result of valid cells alone is divided by exactly 1, whatever its neighbours are, so that no bit depends on the
    cut; one of no valid cell too.
    """
    weight = _apply(valid.astype(np.float32)[None], held, box, maps)[0]
    lost = _apply((~valid).astype(np.float32)[None], held, box, maps)[0]
    return weight, np.where((lost == 0) | (weight == 0), np.float32(1), weight)


def _apply(
    values: NDArray[np.float32], held: Box, box: Box, maps: Sequence[AxisMap | PlacedMap]
) -> NDArray[np.float32]:
    for axis, axis_map in enumerate(maps):
        values = axis_map.apply(values, axis + 1, held.start[axis], box.start[axis], box.stop[axis])
    return values
