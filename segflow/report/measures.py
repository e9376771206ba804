"""The sections of what a second pass over label map and reference found: calibration, seams, surfaces, boundaries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape

from segflow.metrics.results import Calibration, ClassDetails, Details, Seam, TileMap
from segflow.report import numbers, sections
from segflow.report.schema import ClassReport

Write = Callable[[float | None], str]


def details_sections(details: Details | None, classes: Sequence[ClassReport]) -> str:
    """Return all that was found, as HTML; a part that was left out says why."""
    if details is None:
        return ""
    return "".join(
        (
            _calibration(details.calibration),
            _classes(details, classes),
            _seam(details.seam),
            _tiles(details.tiles),
            _regions(details),
            _left_out(details),
        )
    )


def section(name: str, title: str, hint: str, body: str) -> str:
    """Return a section of HTML with its heading and what to know of it."""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2><p class="hint">{hint}</p>{body}</section>'


def table(name: str, heads: Iterable[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Return a table of HTML cells; the first of each row is its heading."""
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>' for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}, table">'
        f"<table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
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
    shown = table("Calibration", heads, rows, ' class="brief"')
    return section(
        "calibration",
        "Calibration",
        said,
        f'<div class="columns"><figure>{_reliability(found)}<figcaption class="hint">Share that is right (up) by '
        "confidence (across). A dot's size is its share of the cells; the line leaves out bins of less than 0.1 %."
        f"</figcaption></figure><div>{shown}</div></div>",
    )


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
    """Return volume, surface, boundary and object scores by class."""
    colours = {item.id: item for item in classes}
    differences = [item.volume.absolute_difference for item in details.classes]
    column = {"ml": numbers.volume_column, "m2": numbers.area_column, "cells": numbers.cells_column}
    extent, write = column[details.extent_unit](differences)
    heads = [
        "Class",
        "Volume similarity" if details.extent_unit == "ml" else "Area similarity",
        f"Difference ({extent})",
    ]
    surface, boundary, objects = details.surface, details.boundary, details.objects
    if surface is not None:
        heads += [f"{name} ({surface.unit})" for name in ("HD95, larger", "HD95, pooled", "Mean distance")]
        heads += [f"Surface Dice, {surface.tolerance:g} {surface.unit}"]
    heads += [f"Boundary IoU, {boundary.width_cells} cells"] if boundary is not None else []
    rows = [_class_row(item, colours.get(item.id), details, write) for item in details.classes]
    body = table("Measures by class", heads, rows)
    if objects is not None:
        found = [_object_row(item, colours.get(item.id)) for item in details.classes if item.objects is not None]
        body += table("Objects", ("Objects of", "Found", "Missed", "Invented", "F1"), found, ' class="brief second"')
    said = []
    if surface is not None:
        said.append(
            f"HD95 has two definitions: the larger of both directions' 95th percentiles, and that of all distances "
            f"together. {_sentence(surface.denominators)} A missed or invented class has no distance: it is told, "
            f"and counts as the scene's diagonal ({distance(surface.worst_case)} {surface.unit}) in the worst-case "
            "means."
        )
    if objects is not None:
        said.append(f"Objects are connected regions, matched where their IoU is over {objects.iou_over:g}.")
    return section("measures", "Extent, surfaces, objects", escape(" ".join(said)), body)


def _class_row(item: ClassDetails, known: ClassReport | None, details: Details, write: Write) -> list[str]:
    volume, surface, boundary = item.volume, item.surface, item.boundary
    row = [
        escape(item.name) if known is None else sections.named(known),
        numbers.score(volume.similarity),
        f"{'+' if volume.difference > 0 else '−' * (volume.difference < 0)}{write(abs(volume.difference))}",
    ]
    if details.surface is not None:
        state = "" if surface is None or surface.state == "measured" else surface.state
        values = (None,) * 3 if surface is None else (surface.hd95_max, surface.hd95_pooled, surface.assd)
        row += [state or (numbers.DASH if value is None else distance(value)) for value in values]
        row.append(numbers.score(None if surface is None else surface.nsd))
    if details.boundary is not None:
        row.append(numbers.score(None if boundary is None else boundary.iou))
    return row


def _object_row(item: ClassDetails, known: ClassReport | None) -> list[str]:
    found = item.objects
    counts = () if found is None else (found.detected, found.missed, found.false)
    named = escape(item.name) if known is None else sections.named(known)
    return [named, *map(numbers.count, counts), numbers.score(None if found is None else found.f1)]


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
    return section("seams", "Seams", said, table("Seams", heads, rows, ' class="brief"'))


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
    return section(
        "tiles",
        "Accuracy by place",
        f"Pixel accuracy of tiles of {found.tile} cells; the stronger the colour, the better. Worst: {worst}.",
        f'<svg class="tilemap" viewBox="0 0 {found.columns} {found.rows}" role="img" '
        f'aria-label="Accuracy of {found.rows} by {found.columns} tiles; the worst has {worst}">{cells}</svg>',
    )


def _regions(details: Details) -> str:
    if not details.regions:
        return ""
    rows = [
        (
            escape(item.name),
            numbers.count(item.cells),
            numbers.score(item.pixel_accuracy),
            numbers.score(item.mean_iou),
            numbers.score(item.mean_dice),
        )
        for item in details.regions
    ]
    heads = ("Region", "Cells", "Pixel accuracy", "Mean IoU", "Mean Dice")
    hint = "Denominators are the classes that are in the region."
    return section("regions", "Scores by region", hint, table("Regions", heads, rows))


def _left_out(details: Details) -> str:
    if not details.left_out:
        return ""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(why)}</dd>" for name, why in details.left_out.items())
    return f'<dl class="facts left-out"><dt><b>Not measured</b></dt><dd></dd>{items}</dl>'
