"""From the positions of slices to one grid of voxels, or to what is wrong with them. Pure functions.

Slices are ordered by where they lie along their common normal; names and instance numbers mean nothing. Standard:
DICOM PS3.3 C.7.6.2.1.1, whose millimetres are LPS; affines here are RAS+, as in NIfTI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from segflow.errors import InputError

OFF = 0.1
"""How far a slice may lie off the regular grid: this part of a voxel's side."""

_GAP = 1.5
"""A step that is so many times the usual one leaves a slice out."""

_SAME_MM = 0.01
"""Slices that are no further apart lie in one place."""

_TO_RAS = np.diag([-1.0, -1.0, 1.0])

Doubles = NDArray[np.float64]


def along_normal(positions: Doubles, orientation: Sequence[float]) -> Doubles:
    """Return how far slices lie along their normal, in mm.

    Args:
        positions: (n, 3) mm, LPS.
        orientation: six cosines: of a row, then of a column.
    """
    return positions @ normal_of(orientation)


def normal_of(orientation: Sequence[float]) -> Doubles:
    """Return the unit vector across slices: row x column."""
    across = np.cross(np.asarray(orientation[:3]), np.asarray(orientation[3:]))
    length = float(np.linalg.norm(across))
    return across / length if length else across


def affine_of(
    positions: Doubles,
    orientation: Sequence[float],
    spacing: tuple[float, float],
    between: float,
    names: Sequence[str],
    what: str,
) -> Doubles:
    """Return the (4, 4) affine from (column, row, slice) to mm, RAS+, of slices that are in order.

    Args:
        positions: (n, 3) mm, LPS, of the first pixel of each slice, ordered along the normal.
        orientation: six cosines: of a row, then of a column.
        spacing: mm from row to row and from column to column.
        between: mm between slices where there is one only.
        names: of the slices' files, for messages.
        what: the series, for messages.

    Raises:
        InputError: slices are there twice, lacking, unevenly spaced or sheared (gantry tilt), or the header's numbers
            cannot be.
    """
    across = normal_of(orientation)
    row, column = np.asarray(orientation[:3]), np.asarray(orientation[3:])
    sides = [float(np.linalg.norm(row)), float(np.linalg.norm(column))]
    if max(abs(side - 1.0) for side in sides) > 0.01 or abs(float(row @ column)) > 0.01 or min(spacing) <= 0:
        raise InputError(
            f"{what}: the orientation {tuple(orientation)} or the pixel spacing {spacing} cannot be",
            "two perpendicular directions, and positive millimetres",
            "export the series again",
        )
    places = positions @ across
    if len(places) == 1:
        step = across * (between if between > 0 else max(spacing))
    else:
        _require_even(places, names, what)
        step = _require_straight(positions, across, min(spacing), what)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1] = row / sides[0] * spacing[1], column / sides[1] * spacing[0]
    matrix[:3, 2], matrix[:3, 3] = step, positions[0]
    matrix[:3] = _TO_RAS @ matrix[:3]
    return matrix


def _require_even(places: Doubles, names: Sequence[str], what: str) -> None:
    """Refuse slices that are there twice, that lack, or that are spaced unevenly."""
    steps = np.diff(places)
    twice = np.flatnonzero(steps <= _SAME_MM)
    if twice.size:
        _refuse_twice(places, twice, names, what)
    # Of two steps the median would lie between a gap and what is usual.
    usual = float(np.median(steps)) if steps.size > 2 else float(steps.min())
    gaps = np.flatnonzero(steps > _GAP * usual)
    if gaps.size:
        told = "; ".join(
            f"between {places[k]:.2f} and {places[k + 1]:.2f} mm ({names[k]}, {names[k + 1]})" for k in gaps[:5]
        )
        lacking = int(sum(max(1, round(float(steps[k]) / usual) - 1) for k in gaps))
        raise InputError(
            f"{what}: slices are missing, about {lacking}: {told}" + (" and more" if gaps.size > 5 else ""),
            f"a slice every {usual:.4g} mm along the normal",
            "fetch the missing slices; a gap would be filled with what is not there",
        )
    step, start = np.polyfit(np.arange(len(places)), places, 1)
    off = places - (start + step * np.arange(len(places)))
    worst = int(np.abs(off).argmax())
    if abs(off[worst]) > OFF * step:
        raise InputError(
            f"{what}: slices are unevenly spaced, {steps.min():.4g} to {steps.max():.4g} mm; the one at "
            f"{places[worst]:.2f} mm ({names[worst]}) lies {abs(off[worst]):.3g} mm off",
            f"a slice every {step:.4g} mm along the normal, within {OFF:.0%}",
            "resample it to even spacing first (3D Slicer: DICOM module, acquisition geometry regularisation)",
        )


def _refuse_twice(places: Doubles, twice: NDArray[np.intp], names: Sequence[str], what: str) -> NoReturn:
    told = "; ".join(f"at {places[k]:.2f} mm ({names[k]} and {names[k + 1]})" for k in twice[:5])
    raise InputError(
        f"{what}: {twice.size} slices lie where others do: {told}" + (" and more" if twice.size > 5 else ""),
        "one slice at each position",
        "take the copies away; where they are several volumes, choose one by inputs.series",
    )


def _require_straight(positions: Doubles, across: Doubles, side: float, what: str) -> Doubles:
    """Return the step from slice to slice, if it goes along the normal."""
    count = len(positions) - 1
    step: Doubles = (positions[-1] - positions[0]) / count
    aside = step - across * float(step @ across)
    bent = positions - (positions[0] + np.outer(np.arange(count + 1), step))
    sheared, bend = float(np.linalg.norm(aside)) * count, float(np.linalg.norm(bent, axis=1).max())
    if sheared > OFF * side:
        angle = float(np.degrees(np.arctan2(np.linalg.norm(aside), step @ across)))
        raise InputError(
            f"{what}: gantry tilt: slices are shifted against each other, sheared by {angle:.2f} degrees, "
            f"{sheared:.2f} mm from the first to the last",
            "slices stacked along their normal",
            "resample it to an upright grid first (dcm2niix writes such a volume, ending in _Tilt), and run on that",
        )
    if bend > 2 * OFF * max(side, float(np.linalg.norm(step))):
        raise InputError(
            f"{what}: slices do not lie on one straight line: up to {bend:.2f} mm off",
            "slices stacked along their normal",
            "resample it to a regular grid first (3D Slicer: DICOM module, acquisition geometry regularisation)",
        )
    return step
