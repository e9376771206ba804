"""From raw values to the network's input, with numbers that hold for the whole scene, never for a patch."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.io.source import Source
from segflow.models.card import Normalisation
from tiling import Box

SLAB_CELLS = 1 << 24


@dataclass(frozen=True, slots=True)
class Standardiser:
    """``(value - mean) / deviation``; cells without valid input become 0, the mean.

    Attributes:
        mean: one number a channel, in raw units.
        deviation: one positive number a channel, in raw units.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def __call__(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return values (channel, *cells) as float32, standardised; `valid` is (*cells), True = valid."""
        column = (-1,) + (1,) * (values.ndim - 1)
        mean = np.asarray(self.mean, np.float32).reshape(column)
        out: NDArray[np.float32] = np.subtract(values, mean, dtype=np.float32, casting="unsafe")
        with np.errstate(over="ignore"):  # the sweep tells of what is not finite, with its place
            out *= (1.0 / np.asarray(self.deviation, np.float64)).astype(np.float32).reshape(column)
        if not valid.all():
            out[:, ~valid] = 0.0
        return out


AS_IT_IS = Standardiser((0.0,), (1.0,))
"""For sources that are standardised already."""


def standardiser_of(rule: Normalisation, channels: int, source: Source) -> Standardiser:
    """Resolve a card's normalisation for one scene; reads the scene once if it asks for the scene's statistics."""
    if rule.source == "scene":
        return scene_statistics(source, rule.over == "nonzero")
    mean = rule.mean * (channels // len(rule.mean))
    deviation = rule.deviation * (channels // len(rule.deviation))
    return Standardiser(mean, deviation)


def scene_statistics(source: Source, nonzero: bool) -> Standardiser:
    """Return mean and standard deviation of each channel over the valid cells of a whole scene.

    Integers are summed exactly. Floats are summed in float64, slab by slab along one axis of the scene in a fixed
    order, and joined by Chan's formula (Chan, Golub, LeVeque 1979): the result depends on the scene alone.

    Args:
        source: the scene.
        nonzero: count only cells that are not 0, channel by channel.

    Raises:
        InputError: a channel has no cell to count, or all its cells are equal.
    """
    whole = Box.whole(source.grid.shape)
    axis = source.slab_axis
    length = whole.shape[axis]
    rows = max(1, SLAB_CELLS // (whole.size // length))
    totals = [Moments() for _ in range(source.channels)]
    for start in range(0, length, rows):
        pixels = source.read(whole.replace_axis(axis, start, min(start + rows, length)))
        for total, channel in zip(totals, pixels.values, strict=True):
            total.add(channel[pixels.valid & (channel != 0)] if nonzero else channel[pixels.valid])
    return Standardiser(
        tuple(total.mean for total in totals), tuple(total.deviation(source.name, k) for k, total in enumerate(totals))
    )


class Moments:
    """Count, mean and sum of squared deviations of a stream of values: exact for integers."""

    def __init__(self) -> None:
        self._count = 0
        self._mean: Fraction | float = Fraction(0)
        self._squares: Fraction | float = Fraction(0)

    def add(self, values: NDArray[Any]) -> None:
        if not values.size:
            return
        count = int(values.size)
        mean: Fraction | float
        if values.dtype.kind in "iub":
            whole = values.astype(np.int64)
            total = int(whole.sum())
            mean = Fraction(total, count)
            squares: Fraction | float = Fraction(_sum_of_squares(whole)) - Fraction(total * total, count)
        else:
            mean = float(values.mean(dtype=np.float64))
            squares = float(np.square(values.astype(np.float64) - mean).sum())
        both = self._count + count
        gap = mean - self._mean
        self._mean = self._mean + gap * Fraction(count, both) if self._count else mean
        self._squares = self._squares + squares + gap * gap * Fraction(self._count * count, both)
        self._count = both

    @property
    def mean(self) -> float:
        return float(self._mean)

    def deviation(self, scene: str, channel: int) -> float:
        variance = float(self._squares) / self._count if self._count else 0.0
        if variance <= 0.0:
            found = "is empty" if not self._count else f"holds the one value {self.mean:g}"
            raise InputError(
                f"channel {channel + 1} of {scene} {found}",
                "values that differ, since the model standardises with the scene's own statistics",
                "check the file, or give model.normalisation in the recipe",
            )
        return sqrt(variance)


def _sum_of_squares(values: NDArray[np.int64]) -> int:
    """Sum squares of integers exactly, in pieces that cannot overflow 64 bits."""
    largest = max(1, int(np.abs(values).max()))
    piece = max(1, (2**62) // (largest * largest))
    flat = values.ravel()
    if piece >= flat.size:
        return int(np.dot(flat, flat))
    return sum(int(np.dot(flat[k : k + piece], flat[k : k + piece])) for k in range(0, flat.size, piece))
