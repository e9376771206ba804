"""Where files say that they lie, read back from the files themselves, for the geometry contract."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import hypot
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.orientation import canonical_affine, directions, turn_of
from segflow.io.volume_formats import read_header
from segflow.io.volume_header import MILLIMETRES, furthest, nifti_header, read_errors

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one file lies.

    Attributes:
        shape: cells on each axis, in the file's own order; (y, x) for rasters.
        matrix: (4, 4) from voxel indices to mm, RAS+; (3, 3) from the corner of (column, row) to the CRS. None where
            the file does not say.
        orientation: in words or letters; None where unknown.
        right_handed: of a volume's axes; None for rasters.
        spacing: a cell's extent on each axis: mm, or units of the CRS.
        codes: of a NIfTI file's qform and sform; None for others.
        forms_apart_mm: how far these put the worst corner apart; None where there are not both.
        crs: of a raster, by code or name.
    """

    shape: tuple[int, ...]
    matrix: Doubles | None
    orientation: str | None = None
    right_handed: bool | None = None
    spacing: tuple[float, ...] | None = None
    codes: tuple[int, int] | None = None
    forms_apart_mm: float | None = None
    crs: str | None = None


def place_of_volume(path: str) -> Placement:
    """Return where a volume of any format lies.

    Raises:
        InputError: its header cannot be read.
    """
    header = read_header(path)
    matrix = header.matrix
    codes, apart = _forms(path, header.file_shape)
    return Placement(
        shape=header.file_shape,
        matrix=matrix,
        orientation=directions(matrix),
        right_handed=bool(np.linalg.det(matrix[:3, :3]) > 0),
        spacing=tuple(float(side) for side in np.linalg.norm(matrix[:3, :3], axis=0)),
        codes=codes,
        forms_apart_mm=apart,
    )


def _forms(path: str, shape: tuple[int, ...]) -> tuple[tuple[int, int] | None, float | None]:
    """Return the codes of a NIfTI file's qform and sform, and how far these are apart."""
    if not _is_nifti(path):
        return None, None
    try:
        found = nifti_header(path)
        codes = int(found["qform_code"]), int(found["sform_code"])
        if 0 in codes:
            return codes, None
        qform, sform = np.asarray(found.get_qform(), float), np.asarray(found.get_sform(), float)
        return codes, furthest(qform, sform, shape) * _millimetres(found)
    except ValueError:
        return codes, None  # a qform that is no rotation, of which a notice tells
    except read_errors() as error:
        raise InputError(f"{path} is broken: {error}", "the header that was there", "copy it again") from error


def matrix_for_itk(path: str) -> Doubles:
    """Return the (4, 4) affine, mm, RAS+, by which ITK reads a volume, and so 3D Slicer and ITK-SNAP show it.

    Of NIfTI it takes the sform where its code is 1 (scanner) or the qform has none, else the qform; without codes, the
    voxel sizes along L, P and S from 0 (itkNiftiImageIO.cxx). We take the sform as soon as it has a code, as nibabel.

    Raises:
        InputError: its header cannot be read.
    """
    matrix = read_header(path).matrix
    if not _is_nifti(path):
        return matrix
    found = nifti_header(path)
    qcode, scode = int(found["qform_code"]), int(found["sform_code"])
    if scode == 1 or (scode and not qcode):
        return matrix
    try:
        own = found.get_qform() if qcode else np.diag([*found.get_zooms()[:3], 1.0]) * [[-1], [-1], [1], [1]]
    except ValueError:  # a qform that is no rotation
        return matrix
    own = np.asarray(own, np.float64)
    own[:3] *= _millimetres(found)
    return own


def _is_nifti(path: str) -> bool:
    return path.lower().endswith((".nii", ".nii.gz"))


def _millimetres(header: Any) -> float:
    return MILLIMETRES.get(int(header["xyzt_units"]) & 7, (1.0, ""))[0]


def place_of_raster(grid: Grid) -> Placement:
    """Return where a raster lies, given the grid that was read from it."""
    if grid.affine is None:
        return Placement(grid.shape, None, crs=_crs_name(grid.crs))
    a, b, _, d, e, _ = grid.affine
    turned = "rotated" if b or d else ("north up" if e < 0 else "south up") + ("" if a > 0 else ", east to west")
    return Placement(
        shape=grid.shape,
        matrix=grid.matrix,
        orientation=turned,
        spacing=(hypot(b, e), hypot(a, d)),
        crs=_crs_name(grid.crs),
    )


def apart(one: Placement, two: Placement) -> float | None:
    """Return how far two files put the worst corner apart: in mm for volumes, in cells of the first for rasters.

    Volumes may be stored in different orientations. None where shapes differ, or a file does not say where it lies.
    """
    if one.matrix is None or two.matrix is None:
        return None
    if len(one.shape) == 3:
        first, shape = _in_ras(one.matrix, one.shape)
        second, other = _in_ras(two.matrix, two.shape)
        return furthest(first, second, shape) if shape == other else None
    if one.shape != two.shape:
        return None
    height, width = one.shape
    corners = np.array([(x, y, 1.0) for x, y in product((0.0, width), (0.0, height))])
    moved = np.linalg.solve(one.matrix, (two.matrix - one.matrix) @ corners.T)[:2]
    return float(np.linalg.norm(moved, axis=0).max())


def _in_ras(matrix: Doubles, shape: tuple[int, ...]) -> tuple[Doubles, tuple[int, ...]]:
    x, y, z = shape
    turn = turn_of(matrix, (x, y, z), "RAS")
    return canonical_affine(matrix, turn), turn.shape


def _crs_name(wkt: str | None) -> str | None:
    from rasterio.crs import CRS

    if wkt is None:
        return None
    crs = CRS.from_wkt(wkt)
    authority = crs.to_authority()
    return ":".join(authority) if authority else wkt.split('"')[1] if '"' in wkt else "unnamed"
