"""Grids: where an array lies in the world. The only place that knows axis order and what a cell measures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isclose, prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segflow.errors import GridMismatchError
from tiling import Box

Kind = Literal["raster", "volume"]

AXES: dict[Kind, tuple[str, ...]] = {"raster": ("y", "x"), "volume": ("x", "y", "z")}


@dataclass(frozen=True, slots=True)
class Grid:
    """The lattice of cells of one scene.

    Attributes:
        kind: "raster" has axes (y, x), "volume" (x, y, z), as in NIfTI.
        shape: cells on each axis, in the order of `axes`.
        affine: for a raster GDAL's six (a, b, c, d, e, f) that take the corner of (column, row) to the world; for a
            volume the twelve of a 3 x 4 matrix, row by row, that take a voxel's centre (i, j, k) to millimetres, RAS+.
            None where the file has no georeference.
        crs: the coordinate reference system as WKT; None for volumes and for rasters without one.
        spacing: a cell's extent on each axis: metres for rasters (whatever the CRS), millimetres for volumes.
            None where it is unknown.
    """

    kind: Kind
    shape: tuple[int, ...]
    affine: tuple[float, ...] | None = None
    crs: str | None = None
    spacing: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes):
            raise ValueError(f"a {self.kind} grid has axes {self.axes}, got shape {self.shape}")
        if any(n < 1 for n in self.shape):
            raise ValueError(f"grid shape {self.shape} has an empty axis")
        if self.affine is not None and len(self.affine) != (6 if self.kind == "raster" else 12):
            raise ValueError(f"a {self.kind} grid got an affine of {len(self.affine)} numbers")
        if self.spacing is not None and (len(self.spacing) != len(self.axes) or min(self.spacing) <= 0):
            raise ValueError(f"spacing {self.spacing} needs one positive number for each of {self.axes}")

    @property
    def axes(self) -> tuple[str, ...]:
        """Names of the axes, in array order."""
        return AXES[self.kind]

    @property
    def size(self) -> int:
        """Number of cells."""
        return prod(self.shape)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as a square matrix, (3, 3) or (4, 4) float64; the identity where there is none."""
        square = np.eye(len(self.axes) + 1)
        if self.affine is not None:
            square[:-1] = np.reshape(self.affine, (len(self.axes), -1))
        return square

    @property
    def cell_area_m2(self) -> float | None:
        """Area of a raster's cell in square metres; None where unknown or for a volume."""
        return prod(self.spacing) if self.kind == "raster" and self.spacing else None

    @property
    def cell_volume_ml(self) -> float | None:
        """Volume of a voxel in millilitres; None where unknown or for a raster."""
        return prod(self.spacing) / 1000.0 if self.kind == "volume" and self.spacing else None

    def crop(self, box: Box) -> Grid:
        """Return the grid of a part of this one."""
        if self.affine is None:
            return replace(self, shape=box.shape)
        columns = 3 if self.kind == "raster" else 4
        shift = box.start[::-1] if self.kind == "raster" else box.start
        rows = [list(self.affine[k : k + columns]) for k in range(0, len(self.affine), columns)]
        moved = [[*row[:-1], row[-1] + sum(a * b for a, b in zip(row[:-1], shift, strict=True))] for row in rows]
        return replace(self, shape=box.shape, affine=tuple(value for row in moved for value in row))

    def named(self, values: tuple[float, ...]) -> str:
        """Return values in array order with the axes' names: 'y 512, x 512'."""
        return ", ".join(f"{axis} {value:g}" for axis, value in zip(self.axes, values, strict=True))

    def require_same_place(self, other: Grid, mine: str, theirs: str) -> None:
        """Raise `GridMismatchError` unless shape and affine agree (the CRS is the format's to compare).

        Affines agree when no corner of the grid moves by more than a hundredth of a cell.
        """
        if self.shape != other.shape:
            raise GridMismatchError(
                f"{theirs} has {self.named(other.shape)}, {mine} has {self.named(self.shape)}",
                "both on one grid: the same shape and position, cell for cell",
                "resample one onto the other's grid first (gdalwarp, or nibabel's resample_from_to)",
            )
        if self.affine is None or other.affine is None:
            return
        if not _close(self.affine, other.affine, self.shape):
            raise GridMismatchError(
                f"{theirs} lies elsewhere than {mine}: affine {_brief(other.affine)} against {_brief(self.affine)}",
                "both on one grid: the same shape and position, cell for cell",
                "resample one onto the other's grid first (gdalwarp, or nibabel's resample_from_to)",
            )


def _close(one: tuple[float, ...], two: tuple[float, ...], shape: tuple[int, ...]) -> bool:
    """Compare two affines by how far they put the far end of each axis apart, in cells."""
    columns = 3 if len(one) == 6 else 4
    axes = columns - 1
    cell = max(abs(value) for i, value in enumerate(one) if i % columns != axes)
    extent = shape[::-1] if len(one) == 6 else shape
    reach = [float(n) for n in extent] + [1.0]
    return all(
        isclose(a * reach[i % columns], b * reach[i % columns], rel_tol=0.0, abs_tol=0.01 * cell)
        for i, (a, b) in enumerate(zip(one, two, strict=True))
    )


def _brief(affine: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.6g}" for value in affine) + ")"
