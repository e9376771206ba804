"""A scene that is already in memory: the door for notebooks and tests."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.source import Pixels
from tiling import Box


class ArraySource:
    """An array as a `Source`.

    Args:
        values: (channel, *axes), any real dtype.
        grid: where it lies; its shape is that of the axes.
        valid: (*axes) bool, True = valid; where not given, what is finite in every channel.
        wanted: (*axes) bool, True = asked for; all where not given.
        name: the scene's name.

    Raises:
        InputError: the shapes do not agree.
    """

    def __init__(
        self,
        values: NDArray[Any],
        grid: Grid,
        valid: NDArray[np.bool_] | None = None,
        wanted: NDArray[np.bool_] | None = None,
        name: str = "array",
    ) -> None:
        if values.shape[1:] != grid.shape:
            raise InputError(
                f"an array of shape {values.shape} on a grid of {grid.named(grid.shape)}",
                f"(channel, {', '.join(grid.axes)}) with the grid's shape",
                "move the channels to the front, or give the grid of this array",
            )
        self._values = values
        self._valid = valid if valid is not None else _finite(values)
        self._wanted = wanted
        self.name = name
        self.grid = grid
        self.notices: tuple[str, ...] = ()
        self.slab_axis = 0
        self.sweep_axis: int | None = None

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self._values.shape[0])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self._values.dtype

    def read(self, box: Box) -> Pixels:
        """Return a part of the array, without a copy."""
        return Pixels(self._values[(slice(None), *box.slices)], self._valid[box.slices])

    def wanted(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which cells are asked for, None for all."""
        return None if self._wanted is None else self._wanted[box.slices]

    def identity(self) -> str:
        """Return the sha256 of values and validity."""
        digest = hashlib.sha256(f"{self._values.dtype}{self._values.shape}".encode())
        for part in (self._values, self._valid, self._wanted):
            digest.update(b"-" if part is None else np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def close(self) -> None:
        """Do nothing: the array is the caller's."""


def _finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    if values.dtype.kind == "f":
        finite: NDArray[np.bool_] = np.isfinite(values).all(axis=0)
        return finite
    return np.ones(values.shape[1:], np.bool_)
