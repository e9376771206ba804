"""Which cells of a raster are valid.

A cell is invalid when
- the file's own mask (internal, or a .msk beside it) is 0 there, or its alpha is 0 (any alpha above 0 is valid);
- any band that is read holds NaN or infinity there;
- every band that is read holds its nodata value there. One band alone at nodata does not make a cell invalid: a
  dark-water 0 in the near infrared is a measurement. That is GDAL's rule for a data set's mask, taken over the bands
  that are read.

A nodata value that the type cannot hold (-9999 in uint8, 0.5 in int16) matches nothing. For floats the match is as wide
as GDAL's, two parts in 2^22; and a nodata value at the far end of the type means all that end, since many files write
-3.40282e+38 in text. A nodata value of the user's replaces the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
_FAR_END = 2e-6
MaskKind = Literal["none", "mask", "nodata", "bands"]


@dataclass(frozen=True, slots=True)
class MaskRule:
    """How validity is told from what is read.

    Attributes:
        nodata: for each band that is read, the closed range of values that mean no data; None = no such value.
        alpha: the alpha band's number, 1-based; None = none, or it is read as an input.
        kind: what GDAL's mask band of the file adds: "none"; "mask", a mask for all bands; "nodata", one that GDAL
            makes of a tuple of nodata values (PNG's transparent colour); "bands", each band has its own.
    """

    nodata: tuple[tuple[Any, Any] | None, ...]
    alpha: int | None
    kind: MaskKind

    @property
    def knows_nodata(self) -> bool:
        """Tell whether any value of this raster means no data."""
        return self.kind == "nodata" or all(item is not None for item in self.nodata)

    def judge(
        self, values: NDArray[Any], alpha: NDArray[Any] | None, masks: NDArray[np.uint8] | None
    ) -> tuple[Bools, Bools]:
        """Tell which cells are invalid, and why.

        Args:
            values: (band, y, x), the bands that are read.
            alpha: (y, x), the alpha band where `self.alpha` names one.
            masks: (band, y, x) uint8, 0 = masked, where `kind` is not "none"; one band suffices unless it is "bands".

        Returns:
            Two (y, x) bool arrays, True = invalid: by mask, alpha or a value that is not finite; and by nodata.
        """
        shape = values.shape[1:]
        hard = np.zeros(shape, dtype=np.bool_)
        if np.issubdtype(values.dtype, np.floating):
            for band in values:
                hard |= ~np.isfinite(band)
        if alpha is not None:
            hard |= alpha == 0
        soft = self._at_nodata(values)
        if masks is not None:
            masked = (masks == 0).all(axis=0)
            if self.kind == "nodata":
                soft |= masked
            else:
                hard |= masked
        return hard, soft

    def _at_nodata(self, values: NDArray[Any]) -> Bools:
        blank = np.zeros(values.shape[1:], dtype=np.bool_)
        if any(item is None for item in self.nodata):
            return blank
        blank[...] = True
        for band, limits in zip(values, self.nodata, strict=True):
            if limits is not None:
                low, high = limits
                blank &= (band == low) if low == high else (band >= low) & (band <= high)
        return blank


def nodata_range(nodata: float | None, dtype: np.dtype[Any]) -> tuple[Any, Any] | None:
    """Return the closed range of values of `dtype` that mean no data; None where none does.

    NaN gives None: not finite is invalid in any case.
    """
    if nodata is None or nodata != nodata:
        return None
    if np.issubdtype(dtype, np.integer):
        limits = np.iinfo(dtype)
        if nodata in (float("inf"), float("-inf")) or nodata != int(nodata):
            return None
        whole = int(nodata)
        return (dtype.type(whole), dtype.type(whole)) if limits.min <= whole <= limits.max else None
    finite = np.finfo(dtype)
    slack = 4.0 * float(np.finfo(np.float32).eps) if dtype.itemsize <= 4 else 4.0 * float(finite.eps)
    end = float(finite.max) * (1.0 - _FAR_END)
    if abs(nodata) >= end:
        return (finite.min, dtype.type(-end)) if nodata < 0 else (dtype.type(end), finite.max)
    low, high = sorted((nodata * (1.0 - slack), nodata * (1.0 + slack)))
    return dtype.type(low), dtype.type(high)


def mask_kind(flags: Sequence[Sequence[str]], overridden: bool) -> MaskKind:
    """Tell what GDAL's mask bands add to nodata values and alpha, which are judged here.

    Args:
        flags: for each band that is read, the names of GDAL's mask flags.
        overridden: the user gave a nodata value, so those of the file do not count.
    """
    if not flags:
        return "none"
    if any("per_dataset" in item and "alpha" not in item for item in flags):
        if any("nodata" in item for item in flags):
            return "none" if overridden else "nodata"
        return "mask"
    return "bands" if all(not item for item in flags) else "none"
