"""The sections of what a second pass over label map and reference found: calibration, seams, places, and by class."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from segflow.metrics.results import Calibration, Details, Seam, TileMap
from segflow.report import numbers
from segflow.report.class_measures import extents_section, objects_section
from segflow.report.parts import facts_list, section, table
from segflow.report.schema import ClassReport

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
            extents_section(details, classes),
            objects_section(details, classes),
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
