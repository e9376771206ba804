"""What a second pass found of each class: extents, surfaces, boundaries and objects, with their means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from segflow.metrics.results import ClassDetails, Details, ObjectsSummary
from segflow.report import numbers
from segflow.report.parts import Cell, Row, named, section, table
from segflow.report.schema import ClassReport

Write = Callable[[float | None], str]


def extents_section(details: Details, classes: Sequence[ClassReport]) -> str:
    """Return volume, surface and boundary scores by class, and their means with what they were divided by."""
    known = {item.id: item for item in classes}
    column = {"ml": numbers.volume_column, "m2": numbers.area_column, "cells": numbers.cells_column}
    unit, write = column[details.extent_unit](item.volume.absolute_difference for item in details.classes)
    surface, boundary = details.surface, details.boundary
    what = "Volume" if details.extent_unit == "ml" else "Area"
    heads = ["Class", f"{what} similarity", f"Difference ({unit})"]
    if surface is not None:
        heads += [f"{name} ({surface.unit})" for name in ("HD95, larger", "HD95, pooled", "Mean distance")]
        heads += [f"Surface Dice, {surface.tolerance:.3g} {surface.unit}"]
    heads += [f"Boundary IoU, {boundary.width_cells} cells"] if boundary is not None else []
    far = _distances(details)
    rows = [_class_row(item, known.get(item.id), details, write, far) for item in details.classes]
    said = [
        f"{what} similarity compares extents alone: 1 where they are equal, wherever they lie. Differences are "
        "prediction less reference."
    ]
    if surface is not None:
        said.append(
            f"HD95 has two definitions: the larger of both directions' 95th percentiles, and that of all distances "
            f"together. {_sentence(surface.denominators)} A missed or invented class has no distance: it is told, "
            f"and counts as the scene's diagonal ({_distance(surface.worst_case)} {surface.unit}) in the worst-case "
            "means."
        )
    if boundary is not None:
        said.append(f"Mean boundary IoU over {boundary.classes_scored} of {len(rows)} classes.")
    body = table("Extents and surfaces", heads, rows, foot=_mean_rows(details, far), sorts=True)
    return section("measures", "Extents and surfaces", body, escape(" ".join(said)))


def _distances(details: Details) -> list[Write]:
    """Return what writes the columns of distances: HD95 by both definitions, and the mean distance."""
    found = [item.surface for item in details.classes if item.surface is not None]
    summary = details.surface
    worst = [] if summary is None else [summary.mean_hd95_max_worst, summary.mean_assd_worst]
    hd95 = numbers.distance_column([*(item.hd95_max for item in found), *(item.hd95_pooled for item in found), *worst])
    return [hd95, hd95, numbers.distance_column([*(item.assd for item in found), *worst])]


def _class_row(
    item: ClassDetails, known: ClassReport | None, details: Details, write: Write, far: Sequence[Write]
) -> list[str | Cell]:
    volume, surface, boundary = item.volume, item.surface, item.boundary
    sign = "+" if volume.difference > 0 else "−" * (volume.difference < 0)
    row: list[str | Cell] = [
        _name(item, known),
        numbers.score(volume.similarity),
        Cell(f"{sign}{write(abs(volume.difference))}", value=volume.difference),
    ]
    if details.surface is not None:
        state = "" if surface is None or surface.state == "measured" else surface.state
        values = (None,) * 3 if surface is None else (surface.hd95_max, surface.hd95_pooled, surface.assd)
        row += [Cell(state or wrote(value), value=value) for wrote, value in zip(far, values, strict=True)]
        row.append(numbers.score(None if surface is None else surface.nsd))
    if details.boundary is not None:
        row.append(numbers.score(None if boundary is None else boundary.iou))
    return row


def _mean_rows(details: Details, far: Sequence[Write]) -> list[Row]:
    """Return the means over classes, and where a class was missed or invented those in which it has the worst case."""
    surface, boundary = details.surface, details.boundary
    if surface is None and boundary is None:
        return []
    row, worst = ["Mean over classes", "", ""], ["Mean, worst case", "", ""]
    if surface is not None:
        values = (surface.mean_hd95_max, surface.mean_hd95_pooled, surface.mean_assd)
        row += [wrote(value) for wrote, value in zip(far, values, strict=True)] + [numbers.score(surface.mean_nsd)]
        worst += [far[0](surface.mean_hd95_max_worst), "", far[2](surface.mean_assd_worst), ""]
    if boundary is not None:
        row.append(numbers.score(boundary.mean_iou))
        worst.append("")
    wrong = surface is not None and surface.classes_missed + surface.classes_invented
    return [row, worst] if wrong else [row]


def objects_section(details: Details, classes: Sequence[ClassReport]) -> str:
    """Return how many objects of each class were found, missed and invented."""
    summary = details.objects
    if summary is None:
        return ""
    known = {item.id: item for item in classes}
    rows = [
        (
            _name(item, known.get(item.id)),
            *map(numbers.count, (found.reference, found.detected, found.missed, found.false)),
            *map(numbers.score, (found.precision, found.recall, found.f1, found.panoptic_quality)),
        )
        for item in details.classes
        for found in (item.objects,)
        if found is not None
    ]
    heads = (
        "Class",
        "In the reference",
        "Found",
        "Missed",
        "Invented",
        "Precision",
        "Recall",
        "F1",
        "Panoptic quality",
    )
    mean = (
        "Mean over classes",
        *[""] * 6,
        numbers.score(summary.mean_f1),
        numbers.score(summary.mean_panoptic_quality),
    )
    body = table("Objects", heads, rows, foot=[mean], sorts=True)
    return section("objects", "Objects", body, _rule(summary, len(rows)))


def _rule(summary: ObjectsSummary, classes: int) -> str:
    """Say what an object is, and when two are one."""
    touching = "sides or corners" if summary.connectivity == "corners" else "sides"
    least = f", of at least {summary.min_cells:,} cells" * (summary.min_cells > 1)
    over = "any shared cell is enough" if summary.iou_over == 0 else f"where their IoU is over {summary.iou_over:g}"
    return (
        f"An object is a connected region of one class (cells that share {touching}){least}. One of the reference and "
        f"one of the prediction are matched, the largest IoU first and each once; {over}. Means over "
        f"{summary.classes_scored} of {classes} classes: those that have an object on either side."
    )


def _name(item: ClassDetails, known: ClassReport | None) -> str:
    return escape(item.name) if known is None else named(known)


def _distance(value: float) -> str:
    """Return a distance with three digits, and none behind the point from 100 on."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
