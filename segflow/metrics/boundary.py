"""Boundary IoU: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation" (CVPR 2021).

The boundary region of a class is what a square of 2 w + 1 cells about the cell does not lie wholly inside the class,
the outside of the scene being no class. Boundary IoU is the IoU of the two boundary regions, so that a large class'
interior does not hide what its contour is like. The paper has w = 2 % of an image's diagonal; a scene of 30,000
pixels would have 850, so w is at most 15 here unless the recipe says more, and is told with the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import hypot

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.means import mean_of_known
from segflow.metrics.results import BoundaryScores, BoundarySummary
from segflow.metrics.windows import Codes, Window

_WIDEST = 15


def boundary_width(shape: tuple[int, ...]) -> int:
    """Return the width of a boundary where none is asked for, in cells."""
    return min(_WIDEST, max(1, round(0.02 * hypot(*shape))))


class BoundaryMeter:
    """Counts the cells of boundary regions."""

    def __init__(self, classes: int, width: int) -> None:
        self.width = width
        self._classes = classes
        self._counts = np.zeros((3, classes + 1), np.int64)

    @property
    def halo(self) -> int:
        """How many cells around a window it must see."""
        return self.width

    def add(self, window: Window) -> None:
        """Take a window."""
        length = self._classes + 1
        sides = []
        for number, codes in enumerate((window.reference, window.prediction)):
            inner = codes[window.core].copy()
            inner[~self._near(codes)[window.core]] = self._classes  # not scored, which is in no class' boundary
            self._counts[number] += np.bincount(inner.ravel(), minlength=length)
            sides.append(inner)
        both = sides[0][sides[0] == sides[1]]
        self._counts[2] += np.bincount(both, minlength=length)

    def _near(self, codes: Codes) -> NDArray[np.bool_]:
        """Return which cells see another code, or the border, within the width."""
        from scipy.ndimage import maximum_filter, minimum_filter

        size, outside = 2 * self.width + 1, self._classes + 1
        least = minimum_filter(codes, size=size, mode="constant", cval=outside)
        near: NDArray[np.bool_] = least != maximum_filter(codes, size=size, mode="constant", cval=outside)
        return near

    def scores(self, code: int) -> BoundaryScores:
        """Return the score of a class."""
        reference, prediction, both = (int(row[code]) for row in self._counts)
        union = reference + prediction - both
        return BoundaryScores(
            iou=both / union if union else None,
            cells_reference=reference,
            cells_prediction=prediction,
            cells_both=both,
        )


def summarise_boundaries(found: Sequence[BoundaryScores], width: int) -> BoundarySummary:
    """Return the mean over classes; those on one side only are 0 in it."""
    values = [item.iou for item in found if item.iou is not None]
    return BoundarySummary(width_cells=width, mean_iou=mean_of_known(values), classes_scored=len(values))
