"""A volume as a page holds it: image, labels, reference, confidence, thinned to a bound, each a packed NIfTI."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.report.codec import on_all_cores, text_of

VOXELS = 10_000_000
"""Voxels of one array on a page at most."""

BUDGET = 9_000_000
"""Bytes of base64 of all arrays of a page."""


@dataclass(frozen=True, slots=True)
class Voxels:
    """What is seen of a volume, axes (x, y, z) running right, anterior, superior.

    Attributes:
        image: uint8, stretched.
        labels: uint8, positions of classes, 255 = none.
        matrix: (4, 4), voxels to millimetres.
        spacing: mm of a voxel on each axis.
        steps: voxels of the scene for one of these, on each axis.
        at: the voxel to look at first.
        reference: as labels; None where there is none.
        confidence: uint8, largest probability x 255; None where it was not written.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    matrix: NDArray[np.float64]
    spacing: tuple[float, ...]
    steps: tuple[int, ...]
    at: tuple[int, ...]
    reference: NDArray[np.uint8] | None = None
    confidence: NDArray[np.uint8] | None = None

    def thinned(self) -> Voxels:
        """Return every second voxel of the axis that has most."""
        axis = int(np.argmax(self.image.shape))
        part: list[slice] = [slice(None)] * 3
        part[axis] = slice(None, None, 2)
        cut = tuple(part)
        matrix = self.matrix.copy()
        matrix[:3, axis] *= 2

        def twice(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(value * 2 if i == axis else value for i, value in enumerate(values))

        return Voxels(
            self.image[cut],
            self.labels[cut],
            matrix,
            twice(self.spacing),
            twice(self.steps),
            tuple(value // 2 if i == axis else value for i, value in enumerate(self.at)),
            None if self.reference is None else self.reference[cut],
            None if self.confidence is None else self.confidence[cut],
        )

    def data(self, budget: int = BUDGET) -> dict[str, Any]:
        """Return it as plain data, thinned until its texts fit the budget (bytes of base64)."""
        shown = self
        while True:
            arrays = {"i": shown.image, "l": shown.labels, "r": shown.reference, "c": shown.confidence}
            held = {key: array for key, array in arrays.items() if array is not None}
            texts = dict(zip(held, on_all_cores(partial(_text, shown.matrix), held.items()), strict=True))
            if sum(map(len, texts.values())) <= budget or max(shown.image.shape) < 32:
                break
            shown = shown.thinned()
        return {
            "shape": list(shown.image.shape),
            "spacing": [float(value) for value in shown.spacing],
            "steps": list(shown.steps),
            "at": list(shown.at),
            "volumes": texts,
        }


def _text(matrix: NDArray[np.float64], item: tuple[str, NDArray[np.uint8]]) -> str:
    """Return one of a page's arrays, by its key, as text; of confidence the bits that can be seen."""
    from segflow.io.nifti import packed_nifti  # what opens volumes is loaded for volumes only

    key, array = item
    return text_of(packed_nifti(array & np.uint8(0xF8) if key == "c" else array, matrix))


def steps_for(shape: tuple[int, ...], most: int = VOXELS) -> tuple[int, ...]:
    """Return the steps at which a volume is read: the longest axis is halved until no more than `most` are left."""
    steps = [1, 1, 1]
    while np.prod([-(-n // step) for n, step in zip(shape, steps, strict=True)]) > most:
        longest = int(np.argmax([n / step for n, step in zip(shape, steps, strict=True)]))
        steps[longest] *= 2
    return tuple(steps)
