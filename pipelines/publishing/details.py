"""The second pass of a report: what label map and reference say beside counts, as the recipe asks."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.planning.measures import MOST_CELLS, regions_of
from pipelines.planning.plan import ScenePlan
from pipelines.postprocess import valid_labels
from pipelines.predict import OpenScene, inside
from segflow.grid import Grid
from segflow.io.opening import open_source
from segflow.io.raster import RasterSpec
from segflow.io.regions import NamedArea
from segflow.io.source import Source
from segflow.io.volume import VolumeSpec
from segflow.metrics import Counts
from segflow.metrics.boundary import boundary_width
from segflow.metrics.details import ObjectRules, Wanted, geometry, measure
from segflow.metrics.places import Region
from segflow.metrics.results import Details
from segflow.metrics.windows import pair_of
from segflow.recipe import Report
from tiling import Box, Layout

_LOG = logging.getLogger(__name__)
_VERSION = 1
"""Raised when other numbers come out of the same label map and settings."""

_TILES = 32
_LEAST_TILE = 16


@dataclass(frozen=True, slots=True)
class Beside:
    """What a scene has beside label map and reference.

    Attributes:
        confidence: whether there is one.
        layout: how it was cut into patches; None for a label map of which that is not known.
    """

    confidence: bool
    layout: Layout | None


def unmeasured(plan: ScenePlan, found: Details | None) -> bool:
    """Tell whether a finished scene's report lacks what is to be measured now, or has it otherwise."""
    if plan.reference is None:
        return False
    return found is None or found.settings != _wanted_by(plan).settings


def details_of(plan: ScenePlan, files: dict[str, Path], counts: Counts) -> Details | None:
    """Measure a published label map against its reference; None without one.

    Args:
        plan: the scene's plan.
        files: what was published, by layer.
        counts: of the published labels.

    Raises:
        InputError: a file is gone or broken.
    """
    reference = plan.reference
    if reference is None or counts.matrix is None:
        return None
    with ExitStack() as stack:

        def opened(spec: RasterSpec | VolumeSpec) -> Source:
            return stack.enter_context(closing(open_source(spec)))

        labels, truth = opened(_spec(plan, files["labels"])), opened(_anew(reference.spec))
        confidence = opened(_spec(plan, files["confidence"])) if "confidence" in files else None
        asked = plan.grid.kind == "volume" and counts.excluded and plan.task.layout.frame is None
        scene = OpenScene(opened(_anew(plan.spec)), None) if asked else None

        def ours(box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            values, valid = ids_of(labels)(box)
            return values, valid if scene is None else valid_labels(plan, scene, box.shift(plan.region.start), values)

        def theirs(box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
            there = box.shift(plan.region.start)
            values, valid = ids_of(truth)(there)
            return values, valid & inside(reference, there)

        pair = pair_of(
            plan.region.shape,
            ours,
            theirs,
            plan.card.ids,
            ignore=reference.ignore,
            mapping=reference.map,
            confidence=None if confidence is None else bytes_of(confidence),
        )
        return measure(pair, plan.output_grid, plan.card.classes, counts, _wanted_by(plan))


def ids_of(source: Source) -> Callable[[Box], tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Return what reads a label map: ids, and where they are valid."""

    def read(box: Box) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        pixels = source.read(box)
        return pixels.values[0], pixels.valid

    return read


def bytes_of(source: Source) -> Callable[[Box], NDArray[np.uint8]]:
    """Return what reads a confidence."""
    return lambda box: source.read(box).values[0].astype(np.uint8, copy=False)


def _spec(plan: ScenePlan, path: Path) -> RasterSpec | VolumeSpec:
    if plan.grid.kind == "raster":
        return RasterSpec(str(path), (1,))
    return VolumeSpec(str(path), plan.card.orientation)


def _anew(spec: RasterSpec | VolumeSpec) -> RasterSpec | VolumeSpec:
    """Return a spec that leaves nothing in a scratch folder, which may be gone by now."""
    return replace(spec, scratch=None) if isinstance(spec, VolumeSpec) else spec


def _wanted_by(plan: ScenePlan) -> Wanted:
    beside = Beside(plan.task.confidence, plan.task.layout)
    return wanted_of(plan.report, plan.output_grid, plan.card.ids, beside)


def wanted_of(asked: Report, grid: Grid, ids: tuple[int, ...], beside: Beside) -> Wanted:
    """Settle what is measured of one scene.

    Args:
        asked: what the recipe says; paths are absolute.
        grid: of the label map.
        ids: of its classes.
        beside: what else there is.

    Raises:
        InputError: the regions cannot be read.
    """
    left: dict[str, str] = {}
    raster = grid.kind == "raster"
    tolerance = _tolerance(asked, grid, left)
    boundary = (asked.boundary_cells or boundary_width(grid.shape)) if asked.boundary and raster else None
    if boundary is None:
        left["boundary"] = "report.boundary is false" if raster else "for rasters; volumes have distances"
    calibration = asked.calibration and beside.confidence
    if not calibration:
        left["calibration"] = (
            "there is no confidence: set outputs.confidence" if asked.calibration else "report.calibration is false"
        )
    areas = () if asked.regions is None else regions_of(asked, grid)
    regions = None if asked.regions is None else tuple(Region(a.name, a.bounds, a.inside) for a in areas)
    if regions is None:
        left["regions"] = "report.regions names no file"
    objects = None
    if _affordable(asked.objects, "objects", grid, left):
        objects = ObjectRules(asked.objects_iou, asked.connectivity, asked.objects_min_cells)
    chosen = tuple(code for code, i in enumerate(ids) if (i in asked.classes if asked.classes else raster or i != 0))
    return Wanted(
        settings=_settings(asked, areas, beside),
        codes=chosen,
        tolerance=tolerance,
        boundary_width=boundary,
        objects=objects,
        calibration=calibration,
        borders=_borders(asked, beside, left),
        regions=regions,
        tile=_tile(asked, grid, left),
        left_out=left,
    )


def _settings(asked: Report, areas: tuple[NamedArea, ...], beside: Beside) -> str:
    plain = asked.model_dump(mode="json", exclude={"bootstrap", "regions", "region_name"})
    named = [(item.name, item.area.identity()) for item in areas]
    told = json.dumps([_VERSION, plain, named, beside.confidence], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _affordable(asked: bool | str, key: str, grid: Grid, left: dict[str, str]) -> bool:
    """Tell whether a dear part is measured; say why not."""
    most = MOST_CELLS[grid.kind]
    if asked == "auto" and grid.size > most:
        left[key] = f"the scene has {grid.size:,} cells, and report.{key}: auto stops at {most:,}; set it to true"
        return False
    if asked is False:
        left[key] = f"report.{key} is false"
    return asked is not False


def _tolerance(asked: Report, grid: Grid, left: dict[str, str]) -> float | None:
    """Return the tolerance in the grid's unit; None where no surface is measured."""
    if not _affordable(asked.surface, "surface", grid, left):
        return None
    matrix, unit = geometry(grid)
    given = asked.tolerance_mm if grid.kind == "volume" else asked.tolerance_m
    if given is not None and unit == "cells":
        key = "tolerance_mm" if grid.kind == "volume" else "tolerance_m"
        left["surface"] = f"report.{key} is set, but the file does not say what a cell measures; remove it"
        return None
    return float(np.linalg.norm(matrix, axis=0).max()) if given is None else given


def _borders(asked: Report, beside: Beside, left: dict[str, str]) -> tuple[tuple[int, ...], ...] | None:
    """Return the lines where patches start or end, in cells of the label map, for each axis."""
    if not asked.seam or beside.layout is None or beside.layout.frame is not None:
        if not asked.seam:
            left["seam"] = "report.seam is false"
        elif beside.layout is None:
            left["seam"] = "how the label map was cut into patches is not known; a run's own report tells"
        else:
            left["seam"] = "the volume was prepared as a whole: borders of patches are no lines of its voxels"
        return None
    layout = beside.layout
    if layout.lattice.size == 1:
        left["seam"] = "the scene is one patch: there is no border in it"
        return None
    found = []
    for axis, size, start in zip(layout.lattice.axes, layout.shape, layout.region.start, strict=True):
        lines = {s + axis.margin for s in axis.starts[1:]} | {s + axis.patch - axis.margin for s in axis.starts[:-1]}
        inner = sorted(line for line in lines if line < axis.size)
        found.append(tuple(dict.fromkeys(round(line * size / axis.size) - start for line in inner)))
    return tuple(found)


def _tile(asked: Report, grid: Grid, left: dict[str, str]) -> int | None:
    if grid.kind == "volume":
        left["tiles"] = "for rasters"
        return None
    if asked.tiles is None:
        left["tiles"] = "report.tiles is null"
        return None
    return max(_LEAST_TILE, -(-max(grid.shape) // _TILES)) if asked.tiles == "auto" else asked.tiles
