"""The one protocol by which pixels come in, whatever the format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from segflow.grid import Grid
from tiling.box import Box


@dataclass(frozen=True, slots=True)
class Pixels:
    """What one read gives.

    Attributes:
        values: (channel, *axes), in the file's own dtype. Where `valid` is False they mean nothing.
        valid: (*axes) bool, True = valid.
    """

    values: NDArray[Any]
    valid: NDArray[np.bool_]


@runtime_checkable
class Source(Protocol):
    """One scene, opened lazily: making one reads headers only.

    A source may be used by one thread at a time. It is never pickled: workers open their own from the spec.
    """

    @property
    def name(self) -> str:
        """The scene's name: the file's without its extensions."""

    @property
    def notices(self) -> tuple[str, ...]:
        """What is odd in the file and how it was read, for people; known once it is open."""

    @property
    def grid(self) -> Grid:
        """The grid that `read` speaks of. For volumes in the orientation that was asked for."""

    @property
    def channels(self) -> int:
        """Number of channels."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""

    @property
    def slab_axis(self) -> int:
        """The axis that the file stores slowest: slabs across it are the cheapest way to read all."""

    @property
    def sweep_axis(self) -> int | None:
        """The axis along which a sweep must go, since the file can only be read across it; None where any will do."""

    def read(self, box: Box) -> Pixels:
        """Read a box that lies inside the grid.

        Raises:
            InputError: the file is broken there.
        """

    def wanted(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which cells of a box are asked for (an area of interest), or None where all are.

        Other cells get no label, but they are context: results inside do not depend on the area.
        """

    def identity(self) -> str:
        """Return a string that changes when the content may have: no mtime alone, no absolute path."""

    def close(self) -> None:
        """Let go of the file. Reading afterwards is an error."""


@runtime_checkable
class PreparedSource(Source, Protocol):
    """A scene that is put on the model's grid, and standardised there, as a whole: the sweep reads what is ready.

    All its cells are valid, and all are asked for.
    """

    def read_model(self, box: Box) -> NDArray[np.float32]:
        """Read a box of the model's grid, padding included: the network's input (channel, *box) float32.

        Raises:
            InputError: the file is broken.
            OutputError: there is no room for the prepared scene.
        """
