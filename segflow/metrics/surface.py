"""Distances between the surfaces of a class in prediction and reference, with the grid's geometry.

A surface cell is a cell of the class that shares a side with a cell outside of it, or with the border of the grid (as
in MONAI, medpy and scipy's erosion). A distance goes from a surface cell's centre to the nearest one of the other
surface. DeepMind's surface-distance measures between corners of cells instead, and weights each by the area of its
surface element: its distances differ by up to a cell's diagonal, and its means by the weights.

Two definitions of HD95 are in use, and both are told: the larger of the 95th percentiles of the two directions
(Huttenlocher et al., "Comparing Images Using the Hausdorff Distance", PAMI 1993, with a rank for the maximum; MONAI,
DeepMind), and the 95th percentile of the distances of both directions together (medpy). Percentiles are interpolated
linearly. Normalised surface Dice: Nikolov et al., "Deep learning to achieve clinically applicable segmentation of
head and neck anatomy for radiotherapy" (2018), with cells in place of areas. Names of ASSD and MASD as in Maier-Hein,
Reinke et al., "Metrics reloaded" (Nature Methods 2024).

Surfaces are collected window by window, and distances are looked up in a k-d tree: memory grows with the surface, not
with the volume, and an oblique or sheared grid needs no resampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

from segflow.metrics.means import mean_of_known, named
from segflow.metrics.results import SurfaceScores, SurfaceSummary, Unit
from segflow.metrics.windows import Codes, Window

MOST_SURFACE_CELLS = 1 << 25
"""Surface cells of all classes together, at most: beyond, distances would take minutes and gigabytes."""


class SurfaceMeter:
    """Collects the surface cells of some classes.

    Attributes:
        too_many: whether there were more than can be measured; nothing is kept then.
    """

    halo = 1

    def __init__(self, shape: tuple[int, ...], codes: Sequence[int], most: int = MOST_SURFACE_CELLS) -> None:
        self._shape = shape
        self._most = most
        self._kept = 0
        self.too_many = False
        self._found: dict[int, tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]]] = {c: ([], []) for c in codes}

    def add(self, window: Window) -> None:
        """Take a window."""
        if self.too_many:
            return
        at_start = window.around.start[0] == 0
        at_stop = window.around.stop[0] == self._shape[0]
        ahead = window.box.start[0] * int(np.prod(self._shape[1:]))
        for side, codes in enumerate((window.reference, window.prediction)):
            on_surface = _surface(codes, at_start, at_stop)[window.core]
            place = np.flatnonzero(on_surface)
            code = codes[window.core].ravel()[place]
            for wanted, lists in self._found.items():
                here = place[code == wanted]
                self._kept += here.size
                lists[side].append(here + ahead)
        if self._kept > self._most:
            self.too_many = True
            self._found = {code: ([], []) for code in self._found}

    def surface(self, code: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the surface cells of a class in the reference and in the prediction: flat indices, ascending."""
        reference, prediction = self._found[code]
        empty = np.empty(0, np.int64)
        return np.concatenate([empty, *reference]), np.concatenate([empty, *prediction])


def _surface(codes: Codes, at_start: bool, at_stop: bool) -> NDArray[np.bool_]:
    """Return which cells have a neighbour of another code, or the border of the grid, at a side."""
    found = np.zeros(codes.shape, np.bool_)
    for axis in range(codes.ndim):
        lower = (slice(None),) * axis + (slice(None, -1),)
        upper = (slice(None),) * axis + (slice(1, None),)
        differs = codes[lower] != codes[upper]
        found[lower] |= differs
        found[upper] |= differs
        if axis or at_start:
            found[(slice(None),) * axis + (0,)] = True
        if axis or at_stop:
            found[(slice(None),) * axis + (-1,)] = True
    return found


def surface_scores(
    reference: NDArray[np.int64],
    prediction: NDArray[np.int64],
    shape: tuple[int, ...],
    matrix: NDArray[np.float64],
    tolerance: float,
) -> SurfaceScores:
    """Return the distances between two surfaces.

    Args:
        reference: (n,) flat indices of its surface cells, ascending.
        prediction: (m,) the same.
        shape: of the grid.
        matrix: (axes, axes), from steps along the axes to world units.
        tolerance: of the normalised surface Dice, in world units.
    """
    sizes = {"surface_cells_reference": reference.size, "surface_cells_prediction": prediction.size}
    if not reference.size or not prediction.size:
        if not reference.size and not prediction.size:
            return SurfaceScores(state="absent", **sizes)
        return SurfaceScores(state="missed" if reference.size else "invented", nsd=0.0, **sizes)
    back = _distances(reference, prediction, shape, matrix)
    forth = _distances(prediction, reference, shape, matrix)
    pooled = np.concatenate((back, forth))
    within = tolerance + 1e-9 * float(np.abs(matrix).max())
    return SurfaceScores(
        state="measured",
        **sizes,
        hd=float(pooled.max()),
        hd95_max=max(float(np.percentile(back, 95)), float(np.percentile(forth, 95))),
        hd95_pooled=float(np.percentile(pooled, 95)),
        assd=float(pooled.mean()),
        masd=(float(back.mean()) + float(forth.mean())) / 2,
        to_reference=float(forth.mean()),
        to_prediction=float(back.mean()),
        nsd=float(np.count_nonzero(pooled <= within)) / pooled.size,
    )


def _distances(
    here: NDArray[np.int64], there: NDArray[np.int64], shape: tuple[int, ...], matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distance of each cell of one surface to the nearest of another; cells of both are at 0."""
    from scipy.spatial import KDTree

    apart = np.flatnonzero(~np.isin(here, there, assume_unique=True))
    found = np.zeros(here.size)
    if apart.size:
        tree = KDTree(_points(there, shape, matrix), balanced_tree=False)
        found[apart] = tree.query(_points(here[apart], shape, matrix))[0]
    return found


def _points(cells: NDArray[np.int64], shape: tuple[int, ...], matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = np.stack(np.unravel_index(cells, shape), axis=1).astype(np.float64)
    points: NDArray[np.float64] = steps @ matrix.T
    return points


def diagonal(shape: tuple[int, ...], matrix: NDArray[np.float64]) -> float:
    """Return the longest diagonal of a grid: no distance in it is longer."""
    corners = [np.array(signs) * shape for signs in product((1.0, -1.0), repeat=len(shape))]
    return max(float(np.linalg.norm(matrix @ corner)) for corner in corners)


def summarise_surfaces(
    found: Sequence[tuple[str, SurfaceScores]], unit: Unit, tolerance: float, worst: float
) -> SurfaceSummary:
    """Return means over classes.

    Args:
        found: the classes' names and distances, these in `unit`.
        unit: of lengths.
        tolerance: of the NSD, in `unit`.
        worst: what a class has that is on one side only, in `unit`.
    """
    states: dict[str, list[str]] = {state: [] for state in ("measured", "missed", "invented", "absent")}
    for name, item in found:
        states[item.state].append(name)
    wrong = len(states["missed"]) + len(states["invented"])

    def mean(key: str, bad: float | None = None) -> float | None:
        return mean_of_known([*(getattr(item, key) for _, item in found), *[bad] * wrong])

    said = [
        f"mean distances over {len(states['measured'])} of {len(found)} classes, those that are on both sides",
        f"mean NSD over {len(states['measured']) + wrong}",
    ]
    for state, why in (("missed", "not predicted"), ("invented", "not in the reference")):
        if states[state]:
            said.append(f"{why}, so 0 in the mean NSD and {worst:.4g} {unit} in the worst case: {named(states[state])}")
    return SurfaceSummary(
        unit=unit,
        tolerance=tolerance,
        classes_measured=len(states["measured"]),
        classes_missed=len(states["missed"]),
        classes_invented=len(states["invented"]),
        classes_absent=len(states["absent"]),
        mean_hd=mean("hd"),
        mean_hd95_max=mean("hd95_max"),
        mean_hd95_pooled=mean("hd95_pooled"),
        mean_assd=mean("assd"),
        mean_nsd=mean("nsd"),
        worst_case=worst,
        mean_hd95_max_worst=mean("hd95_max", worst),
        mean_assd_worst=mean("assd", worst),
        denominators="; ".join(said),
    )
