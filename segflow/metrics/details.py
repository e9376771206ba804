"""All that is measured of a scene beside the scores that follow from counts, in as few passes as there can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from segflow.grid import Grid
from segflow.metrics.boundary import BoundaryMeter, summarise_boundaries
from segflow.metrics.calibration import CalibrationMeter
from segflow.metrics.counts import Counts
from segflow.metrics.objects import count_objects, summarise_objects
from segflow.metrics.places import Region, RegionMeter, TileMeter
from segflow.metrics.results import (
    ClassDetails,
    Details,
    ObjectScores,
    SurfaceScores,
    SurfaceSummary,
    Unit,
    VolumeScores,
)
from segflow.metrics.seam import SeamMeter
from segflow.metrics.surface import MOST_SURFACE_CELLS, SurfaceMeter, diagonal, summarise_surfaces, surface_scores
from segflow.metrics.windows import Meter, Pair, run_meters
from segflow.models.card import LabelClass


@dataclass(frozen=True, slots=True)
class ObjectRules:
    """What an object is, and when two are one."""

    iou_over: float = 0.0
    connectivity: Literal["faces", "corners"] = "corners"
    min_cells: int = 1


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured, settled for one scene; None: not at all.

    Attributes:
        settings: hash of what was asked for.
        codes: positions of the classes that have surfaces, boundaries and objects.
        tolerance: of the normalised surface Dice, in the grid's unit.
        boundary_width: in cells.
        objects: the rules of objects.
        calibration: whether the pair's confidence is compared with what is right.
        borders: for each axis the lines where patches start or end.
        regions: named parts.
        tile: cells of a tile on a side; rasters only.
        left_out: what is not measured, and why.
    """

    settings: str
    codes: tuple[int, ...]
    tolerance: float | None = None
    boundary_width: int | None = None
    objects: ObjectRules | None = None
    calibration: bool = False
    borders: tuple[tuple[int, ...], ...] | None = None
    regions: tuple[Region, ...] | None = None
    tile: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)


def geometry(grid: Grid) -> tuple[NDArray[np.float64], Unit]:
    """Return what takes steps along a grid's axes to world units (axes, axes), and the unit.

    A volume's affine counts as it is, oblique or sheared; a raster's cells measure what `Grid.spacing` says, in metres
    whatever the CRS. A grid without either is measured in cells.
    """
    if grid.kind == "volume" and grid.affine is not None:
        return grid.matrix[:3, :3], "mm"
    if grid.spacing is not None:
        return np.diag(grid.spacing), "mm" if grid.kind == "volume" else "m"
    return np.eye(len(grid.shape)), "cells"


@dataclass(frozen=True, slots=True)
class _Meters:
    """What one pass feeds; None: not asked for."""

    surfaces: SurfaceMeter | None
    boundaries: BoundaryMeter | None
    calibration: CalibrationMeter | None
    seam: SeamMeter | None
    regions: RegionMeter | None
    tiles: TileMeter | None

    @property
    def asked(self) -> list[Meter]:
        """Those that are there."""
        every: tuple[Meter | None, ...] = (
            *(self.surfaces, self.boundaries, self.calibration),
            *(self.seam, self.regions, self.tiles),
        )
        return [meter for meter in every if meter is not None]


def measure(
    pair: Pair, grid: Grid, classes: Sequence[LabelClass], counts: Counts, wanted: Wanted, cells: int = 1 << 22
) -> Details:
    """Measure a scene against its reference.

    Args:
        pair: the label map and the reference, as positions of `classes`.
        grid: where they lie.
        classes: the classes.
        counts: of the same cells, with a matrix.
        wanted: what is measured.
        cells: about how many are in memory at once; results do not depend on it.
    """
    if counts.matrix is None:
        raise ValueError("counts without a reference have no details")
    meters, left = _meters(pair, classes, wanted), dict(wanted.left_out)
    if meters.asked:
        run_meters(pair, meters.asked, cells)
    objects = _objects(pair, wanted, cells)
    distances, summary = _distances(meters.surfaces, pair, grid, classes, wanted, left)
    edges, rules = meters.boundaries, wanted.objects
    contours = {} if edges is None else {code: edges.scores(code) for code in wanted.codes}
    unit, extent = _extent(grid)
    return Details(
        settings=wanted.settings,
        extent_unit=unit,
        classes=tuple(
            ClassDetails(
                id=item.id,
                name=item.name,
                volume=_volume(counts.matrix, code, extent),
                surface=distances.get(code),
                boundary=contours.get(code),
                objects=objects.get(code),
            )
            for code, item in enumerate(classes)
        ),
        surface=summary,
        boundary=None if edges is None else summarise_boundaries(list(contours.values()), edges.width),
        objects=None
        if rules is None
        else summarise_objects(list(objects.values()), rules.iou_over, rules.connectivity, rules.min_cells),
        calibration=None if meters.calibration is None else meters.calibration.result(),
        seam=None if meters.seam is None else meters.seam.result(),
        regions=None if meters.regions is None else meters.regions.result(),
        tiles=None if meters.tiles is None else meters.tiles.result(),
        left_out=left,
    )


def _meters(pair: Pair, classes: Sequence[LabelClass], wanted: Wanted) -> _Meters:
    n = pair.classes
    return _Meters(
        surfaces=None if wanted.tolerance is None else SurfaceMeter(pair.shape, wanted.codes),
        boundaries=None if wanted.boundary_width is None else BoundaryMeter(n, wanted.boundary_width),
        calibration=CalibrationMeter(n) if wanted.calibration else None,
        seam=None if wanted.borders is None else SeamMeter(pair.shape, wanted.borders, n),
        regions=None if wanted.regions is None else RegionMeter(wanted.regions, [item.id for item in classes]),
        tiles=None if wanted.tile is None else TileMeter(pair.shape, wanted.tile, n),
    )


def _distances(
    meter: SurfaceMeter | None,
    pair: Pair,
    grid: Grid,
    classes: Sequence[LabelClass],
    wanted: Wanted,
    left: dict[str, str],
) -> tuple[dict[int, SurfaceScores], SurfaceSummary | None]:
    """Return the distances of each class, and their means; say in `left` where the surfaces are too large."""
    if meter is None or wanted.tolerance is None:
        return {}, None
    if meter.too_many:
        left["surface"] = (
            f"the surfaces have more than {MOST_SURFACE_CELLS:,} cells together; name fewer report.classes"
        )
        return {}, None
    matrix, unit = geometry(grid)
    found = {code: surface_scores(*meter.surface(code), pair.shape, matrix, wanted.tolerance) for code in wanted.codes}
    named = [(classes[code].name, item) for code, item in found.items()]
    return found, summarise_surfaces(named, unit, wanted.tolerance, diagonal(pair.shape, matrix))


def _objects(pair: Pair, wanted: Wanted, cells: int) -> dict[int, ObjectScores]:
    rules = wanted.objects
    if rules is None or not wanted.codes:
        return {}
    found = count_objects(
        pair,
        wanted.codes,
        iou_over=rules.iou_over,
        connectivity=rules.connectivity,
        min_cells=rules.min_cells,
        slab_cells=cells,
    )
    return dict(zip(wanted.codes, found, strict=True))


def _extent(grid: Grid) -> tuple[Literal["ml", "m2", "cells"], float]:
    if grid.spacing is None:
        return "cells", 1.0
    return ("ml", prod(grid.spacing) / 1000) if grid.kind == "volume" else ("m2", prod(grid.spacing))


def _volume(matrix: NDArray[np.int64], code: int, extent: float) -> VolumeScores:
    """Return volume similarity and difference over scored cells: Taha and Hanbury, BMC Medical Imaging 15:29, 2015."""
    ours, theirs = int(matrix[code].sum()), int(matrix[:, code].sum())
    return VolumeScores(
        reference=ours * extent,
        prediction=theirs * extent,
        similarity=1 - abs(ours - theirs) / (ours + theirs) if ours + theirs else None,
        difference=(theirs - ours) * extent,
        absolute_difference=abs(theirs - ours) * extent,
        relative_difference=(theirs - ours) / ours if ours else None,
    )
