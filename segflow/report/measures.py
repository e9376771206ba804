"""The sections of what a second pass over label map and reference found: calibration, seams, surfaces, boundaries."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from segflow.metrics.results import Calibration, ClassDetails, Details, ObjectsSummary, Seam, TileMap
from segflow.report import numbers
from segflow.report.parts import Cell, Row, facts_list, named, section, table
from segflow.report.schema import ClassReport

Write = Callable[[float | None], str]

_PARTS = {
    "surface": "Surface distances",
    "boundary": "Boundary IoU",
    "objects": "Objects",
    "calibration": "Calibration",
    "seam": "Seams",
    "regions": "Scores by region",
    "tiles": "Accuracy by place",
}
"""Parts of the details, as the page calls them."""


def details_sections(details: Details | None, classes: Sequence[ClassReport]) -> str:
    """Return all that was found, as HTML; a part that was left out says why."""
    if details is None:
        return ""
    return "".join(
        (
            _calibration(details.calibration),
            _classes(details, classes),
            _objects(details, classes),
            _seam(details.seam),
            _tiles(details.tiles),
            _regions(details),
            _left_out(details),
        )
    )


def _calibration(found: Calibration | None) -> str:
    if found is None or not found.cells:
        return ""
    said = (
        f"A confidence of 0.8 should be right in 8 of 10 cells: on the diagonal. Over {numbers.count(found.cells)} "
        f"cells the expected calibration error is {numbers.score(found.ece)}, the largest of a bin "
        f"{numbers.score(found.mce)}; mean confidence {numbers.score(found.mean_confidence)}, accuracy "
        f"{numbers.score(found.accuracy)}."
    )
    rows = [
        (
            f"{item.low:.2f}–{item.high:.2f}",
            numbers.percent(item.cells, found.cells),
            numbers.score(item.confidence),
            numbers.score(item.accuracy),
        )
        for item in found.bins
        if item.cells
    ]
    heads = ("Confidence", "Cells", "Mean confidence", "Right")
    shown = table("Calibration", heads, rows, "brief")
    body = (
        f'<div class="columns"><figure>{_reliability(found)}<figcaption class="hint">Share that is right (up) by '
        "confidence (across). A dot's size is its share of the cells; the line leaves out bins of less than 0.1 %."
        f"</figcaption></figure><div>{shown}</div></div>"
    )
    return section("calibration", "Calibration", body, said)


def _reliability(found: Calibration) -> str:
    """Return the reliability curve: accuracy over confidence, 0 to 1 on both axes."""
    known = [
        (item.confidence, item.accuracy, item.cells)
        for item in found.bins
        if item.confidence is not None and item.accuracy is not None
    ]
    enough = [(x, y) for x, y, cells in known if cells >= found.cells / 1000]
    line = " ".join(f"{100 * x:.2f},{100 - 100 * y:.2f}" for x, y in enough)
    dots = "".join(
        f'<circle class="iou" cx="{100 * x:.2f}" cy="{100 - 100 * y:.2f}" '
        f'r="{0.8 + 3 * (cells / found.cells) ** 0.5:.2f}"/>'
        for x, y, cells in known
    )
    grid = "".join(f'<path class="grid" d="M0 {v}H100M{v} 0V100"/>' for v in (0, 25, 50, 75, 100))
    return (
        '<svg class="reliability" viewBox="-13 -4 118 114" role="img" aria-label="Reliability curve; its numbers stand '
        f'in the table beside">{grid}<path class="ideal" d="M0 100L100 0"/>'
        f'<polyline class="curve" points="{line}"/>{dots}'
        + "".join(f'<text x="{v}" y="107" text-anchor="middle">{v / 100:g}</text>' for v in (0, 50, 100))
        + "".join(f'<text x="-2" y="{101.5 - v}" text-anchor="end">{v / 100:g}</text>' for v in (0, 50, 100))
        + "</svg>"
    )


def _classes(details: Details, classes: Sequence[ClassReport]) -> str:
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
            f"and counts as the scene's diagonal ({distance(surface.worst_case)} {surface.unit}) in the worst-case "
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


def _objects(details: Details, classes: Sequence[ClassReport]) -> str:
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


def distance(value: float) -> str:
    """Return a distance with three digits, and none behind the point from 100 on."""
    return f"{value:,.0f}" if value >= 99.95 else f"{value:.3g}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def _seam(found: Seam | None) -> str:
    if found is None:
        return ""
    verdict = {
        True: "The borders of patches can be seen in the labels.",
        False: "The borders of patches cannot be told from any other place.",
        None: "Whether the borders of patches can be seen could not be measured.",
    }[found.visible]
    ratio = numbers.DASH if found.score is None else f"{found.score:.3f}"
    of_reference = numbers.DASH if found.reference_score is None else f"{found.reference_score:.3f}"
    spread = "" if found.spread is None else f" ± {found.spread:.3f}"
    said = (
        f"{verdict} Labels change across them {ratio} times as often as elsewhere (1 is no seam; lines that are no "
        f"borders: 1{spread}; the reference, which knows of no patches: {of_reference}). Accuracy beside a border "
        f"{numbers.score(found.accuracy_near)}, farther off {numbers.score(found.accuracy_far)}."
    )
    last = found.bins[-1].distance if found.bins else 0
    rows = [
        (
            f"{item.distance}{' or more' if item.distance == last else ''}",
            numbers.count(item.cells),
            numbers.score(item.accuracy),
            numbers.DASH if item.change_rate is None else f"{item.change_rate:.4f}",
            numbers.DASH if item.reference_change_rate is None else f"{item.reference_change_rate:.4f}",
        )
        for item in found.bins
        if item.distance in (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, last)
    ]
    heads = ("Cells from a border", "Cells", "Accuracy", "Label changes", "in the reference")
    return section("seams", "Seams", table("Seams", heads, rows, "brief"), said)


def _tiles(found: TileMap | None) -> str:
    """Return the accuracy of tiles as a grid of shaded cells."""
    if found is None or found.rows * found.columns > 4096:
        return ""
    cells = "".join(
        f'<rect x="{column}" y="{row}" width="1" height="1" class="{"none" if value is None else "iou"}"'
        f"{'' if value is None else f' fill-opacity={chr(34)}{0.06 + 0.94 * value:.3f}{chr(34)}'}/>"
        for row, values in enumerate(found.pixel_accuracy)
        for column, value in enumerate(values)
    )
    known = [value for values in found.pixel_accuracy for value in values if value is not None]
    worst = numbers.score(min(known)) if known else numbers.DASH
    hint = (
        f"Pixel accuracy of tiles of {found.tile:,} × {found.tile:,} cells; the stronger the colour, the better. "
        f"Worst: {worst}. White: nothing is scored there."
    )
    body = (
        f'<svg class="tilemap" viewBox="0 0 {found.columns} {found.rows}" role="img" '
        f'aria-label="Accuracy of {found.rows} by {found.columns} tiles; the worst has {worst}">{cells}</svg>'
        '<div class="tilekey"><span>0</span><span class="key"></span><span>1</span></div>'
    )
    return section("tiles", "Accuracy by place", body, hint)


def _regions(details: Details) -> str:
    if not details.regions:
        return ""
    rows = [
        (
            escape(item.name),
            numbers.count(item.cells),
            *map(numbers.score, (item.pixel_accuracy, item.mean_iou, item.mean_dice)),
            numbers.count(sum(one.iou is not None for one in item.classes)),
        )
        for item in details.regions
    ]
    heads = ("Region", "Cells", "Pixel accuracy", "Mean IoU", "Mean Dice", "Classes in the means")
    hint = (
        "A region's means are over the classes that its reference or prediction holds. A dash: nothing is scored there."
    )
    return section("regions", "Scores by region", table("Regions", heads, rows, sorts=True), hint)


def _left_out(details: Details) -> str:
    if not details.left_out:
        return ""
    shown = [(_PARTS.get(name, name), escape(why)) for name, why in details.left_out.items()]
    return section("left-out", "Not measured", facts_list(shown))
