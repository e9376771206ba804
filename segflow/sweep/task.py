"""Everything that decides the bits of a block, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segflow.normalise import Standardiser
from segflow.sweep.head import Head
from tiling import AxisMap, Box, Layout, Store, scale_of

Padding = Literal["reflect", "edge", "constant"]


@dataclass(frozen=True, slots=True)
class Task:
    """How a scene is swept.

    Attributes:
        layout: patches and blocks.
        head: what the network's channels mean.
        standardise: from raw values to the network's input.
        padding: what lies beyond the scene's end, in standardised values (constant: 0).
        store: type of the sums.
        confidence: whether the winning probability is kept, as uint8.
        nodata: label of cells without valid input.
        probabilities: whether each class's probability is kept, as uint8.
    """

    layout: Layout
    head: Head
    standardise: Standardiser
    padding: Padding = "reflect"
    store: Store = "int32"
    confidence: bool = False
    nodata: int = 255
    probabilities: bool = False

    @property
    def scale(self) -> int:
        """The sum that stands for a probability of 1."""
        return scale_of(self.store, self.layout.lattice.most)

    @property
    def input_maps(self) -> tuple[AxisMap, ...]:
        """For each axis, how the model's cells are made of the input's."""
        shapes = zip(self.layout.shape, self.layout.lattice.shape, strict=True)
        return tuple(AxisMap(n, m) for n, m in shapes)

    def place(self, patch: Box) -> str:
        """Tell where a patch of the model's grid lies, in cells of the input."""
        shapes = zip(patch.start, self.layout.shape, self.layout.lattice.shape, strict=True)
        return "(" + ", ".join(str(start * n // m) for start, n, m in shapes) + ")"
