"""Calibration from the confidence: Guo et al., "On Calibration of Modern Neural Networks" (ICML 2017).

Confidence is stored as uint8, so cells are counted by its 256 values; the 15 bins of the paper are 17 values each,
and a value on the border of two belongs to the lower. What rounding to 1 / 255 costs is at most 0.002 of any number
here.
"""

from __future__ import annotations

import numpy as np

from segflow.metrics.results import Calibration, ReliabilityBin
from segflow.metrics.windows import Window

_BINS = 15
_LEVELS = 255


class CalibrationMeter:
    """Counts scored cells, and those of them that are right, by confidence."""

    halo = 0

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._cells = np.zeros(_LEVELS + 1, np.int64)
        self._right = np.zeros(_LEVELS + 1, np.int64)

    def add(self, window: Window) -> None:
        """Take a window, which has a confidence."""
        if window.confidence is None:
            raise ValueError("a window without confidence cannot be calibrated")
        prediction, reference = window.prediction[window.core], window.reference[window.core]
        self._cells += np.bincount(window.confidence[reference != self._classes], minlength=_LEVELS + 1)
        right = (prediction == reference) & (reference != self._classes)
        self._right += np.bincount(window.confidence[right], minlength=_LEVELS + 1)

    def result(self) -> Calibration:
        """Return the errors and the curve."""
        values = np.arange(_LEVELS + 1)
        wide = _LEVELS // _BINS
        number = np.maximum(0, -(-values // wide) - 1)
        cells = np.bincount(number, self._cells, _BINS).astype(np.int64)
        right = np.bincount(number, self._right, _BINS).astype(np.int64)
        said = np.bincount(number, self._cells * values, _BINS) / _LEVELS
        total = int(cells.sum())
        gaps = [abs(int(r) - float(s)) for r, s in zip(right, said, strict=True)]
        held = [(gap, int(n)) for gap, n in zip(gaps, cells, strict=True) if n]
        return Calibration(
            cells=total,
            ece=sum(gaps) / total if total else None,
            mce=max((gap / n for gap, n in held), default=None),
            mean_confidence=float(said.sum()) / total if total else None,
            accuracy=int(right.sum()) / total if total else None,
            bins=tuple(
                ReliabilityBin(
                    low=k / _BINS,
                    high=(k + 1) / _BINS,
                    cells=int(n),
                    confidence=float(s) / int(n) if n else None,
                    accuracy=int(r) / int(n) if n else None,
                )
                for k, (n, r, s) in enumerate(zip(cells, right, said, strict=True))
            ),
        )
