"""What publishing takes once all labels are there: changes of the label map, other formats of it, measures, pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import log2

from pipelines.planning.measures import MOST_CELLS
from segflow.postprocess import changes
from segflow.recipe import Recipe
from tiling import Disk, Extra

_MIB = 1 << 20
_SLAB_CELLS = 1 << 22
"""Cells of a slab or strip that postprocessing, polygons and measures work on at once."""
_REPORT_BYTES = 70 * _MIB
_POSTPROCESS_BYTES = 140 * _MIB
_SURFACE_CELLS = 1 << 25
"""Cells of surfaces that are measured, at most: what is more than that is left out."""
_PAGE_BYTES = 4 * _MIB
_POLYGON_BYTES = 130
"""A cell, in a map whose every cell is drawn by lot; in one of real roofs, roads and fields it is 1."""

OFF = {
    "postprocess": "postprocess: null",
    "polygons": "outputs.polygons: null",
    "coverage": "outputs.coverage: false",
    "bids": "outputs.bids: false",
    "seg_nrrd": "outputs.seg_nrrd: false",
    "dicom_seg": "outputs.dicom_seg: false",
}
"""The settings with which each is not made."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done after another, as measured.

    Attributes:
        work_bytes: memory while it is done, with the libraries that it brings.
        kept_bytes: what the process holds afterwards: the libraries.
    """

    work_bytes: int
    kept_bytes: int = 0


def finish_bytes(recipe: Recipe, cells: int, writing_bytes: int) -> int:
    """Project the memory of all that is done once the sweep is over, at its peak.

    Args:
        recipe: what is asked for.
        cells: of the label map.
        writing_bytes: what writing the label map's own file takes.
    """
    peak = held = 0
    for step in _steps(recipe, cells, writing_bytes):
        peak = max(peak, held + step.work_bytes)
        held += step.kept_bytes
    return peak


def _steps(recipe: Recipe, cells: int, writing_bytes: int) -> Iterator[Step]:
    outputs, slab = recipe.outputs, min(cells, _SLAB_CELLS)
    if recipe.postprocess is not None:
        yield Step(_POSTPROCESS_BYTES)
    yield Step(writing_bytes + _REPORT_BYTES)
    if outputs.polygons is not None:  # Arrow, PROJ, GEOS; a strip and its corners
        yield Step(160 * _MIB + 24 * slab, 160 * _MIB)
    if outputs.dicom_seg is not None:  # highdicom; labels as they are, as segments and as they are read back
        yield Step(125 * _MIB + 3 * cells, 95 * _MIB)
    if recipe.references is not None:  # a slab with its margin, and lists of surface cells with their trees
        surface = 10 * min(cells, _SURFACE_CELLS) if _has_surfaces(recipe, cells) else 0
        yield Step(30 * _MIB + 71 * slab + surface, 70 * _MIB)
    yield Step(_REPORT_BYTES)


def _has_surfaces(recipe: Recipe, cells: int) -> bool:
    asked = recipe.report.surface
    return cells <= MOST_CELLS[recipe.kind] if asked == "auto" else bool(asked)


def with_extras(disk: Disk, recipe: Recipe, cells: int, ids: tuple[int, ...]) -> Disk:
    """Return the disk of a scene with that of what is made of its maps.

    Args:
        disk: of the maps.
        recipe: what is asked for.
        cells: of the label map.
        ids: of the classes.
    """
    return replace(disk, extras=tuple(_extras(disk, recipe, cells, ids)))


def _extras(disk: Disk, recipe: Recipe, cells: int, ids: tuple[int, ...]) -> Iterator[Extra]:
    outputs, segments = recipe.outputs, sum(label != 0 for label in ids)
    most, usual = disk.labels_bytes, disk.usual.labels_bytes
    yield Extra("report", _PAGE_BYTES, _PAGE_BYTES)
    if recipe.postprocess is not None:  # each change keeps its labels until the scene is done
        number = sum(1 for _ in changes(recipe.postprocess))
        yield Extra("postprocess", 0, 0, number * most, number * usual)
    if outputs.polygons is not None:
        files = sum("://" not in target for target in outputs.polygons.to)
        yield Extra("polygons", files * _POLYGON_BYTES * cells, files * cells, _POLYGON_BYTES * cells, cells)
    if outputs.coverage:
        share = log2(4) / log2(len(ids) + 1)
        yield Extra("coverage", round(most * share), round(usual * share))
    if outputs.bids:
        yield Extra("bids", most + disk.probabilities_bytes, usual + disk.usual.probabilities_bytes)
    if outputs.seg_nrrd:
        yield Extra("seg_nrrd", most, usual)
    if outputs.dicom_seg is not None:
        bits = segments if outputs.dicom_seg.type == "BINARY" else 8 if segments < 256 else 16
        yield Extra("dicom_seg", cells * bits // 8, cells * bits // 8)
