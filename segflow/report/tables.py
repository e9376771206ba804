"""Reports as tables: CSV for programs, Markdown for people."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO

from segflow.errors import first_line
from segflow.metrics.results import ClassDetails, ObjectScores
from segflow.report import numbers
from segflow.report.extents import extents_of
from segflow.report.schema import ClassReport, OverallReport, RunReport, SceneReport

_COUNTED = (
    "id",
    "name",
    "pixels",
    "area_m2",
    "volume_ml",
    "iou",
    "dice",
    "precision",
    "recall",
    "specificity",
    "support",
)
_MEASURED = (
    "volume.similarity",
    "volume.relative_difference",
    "surface.state",
    "surface.hd95_max",
    "surface.hd95_pooled",
    "surface.hd",
    "surface.assd",
    "surface.nsd",
    "boundary.iou",
    "objects.reference",
    "objects.prediction",
    "objects.detected",
    "objects.missed",
    "objects.false",
    "objects.f1",
    "objects.panoptic_quality",
)
"""What `details` says of a class."""

CSV_COLUMNS = (
    "scene",
    *_COUNTED,
    *(name.replace(".", "_").replace("surface_state", "surface") for name in _MEASURED),
    "distance_unit",
)


def metrics_csv(report: RunReport) -> str:
    """Return one row a scene and class (RFC 4180 quoting, LF). What is not known is an empty cell."""
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for state in report.scenes:
        details = None if state.report is None else state.report.details
        unit = None if details is None or details.surface is None else details.surface.unit
        for number, item in enumerate(state.report.classes if state.report is not None else ()):
            values = [getattr(item, column) for column in _COUNTED]
            found = None if details is None else details.classes[number]
            values += [_detail(found, column) for column in _MEASURED]
            values.append(unit)
            writer.writerow([state.scene, *("" if value is None else value for value in values)])
    return buffer.getvalue()


def _detail(found: ClassDetails | None, column: str) -> str | float | None:
    part, key = column.split(".")
    value: str | float | None = getattr(getattr(found, part, None), key, None)
    return value


def detail_rows(report: SceneReport) -> list[tuple[str, ...]]:
    """Return the table of what details say of the classes as texts, heads first; empty where they say nothing."""
    details = report.details
    if details is None or not (details.surface or details.boundary or details.objects):
        return []
    surface, heads = details.surface, ["Class"]
    if surface is not None:
        heads += [f"HD95 {surface.unit}", "HD95 pooled", "HD", "ASSD", f"NSD {surface.tolerance:.3g} {surface.unit}"]
    heads += ["Boundary IoU"] * (details.boundary is not None)
    heads += ["Detected", "Missed", "False", "F1"] * (details.objects is not None)
    rows = [tuple(heads)]
    for item in details.classes:
        row = [item.name]
        if surface is not None:
            one = item.surface
            far = [None] * 4 if one is None else [one.hd95_max, one.hd95_pooled, one.hd, one.assd]
            said = one.state if one is not None and one.state in ("missed", "invented") else numbers.DASH
            row += [said if value is None else f"{value:.3g}" for value in far]
            row.append(numbers.score(None if one is None else one.nsd))
        if details.boundary is not None:
            row.append(numbers.score(None if item.boundary is None else item.boundary.iou))
        if details.objects is not None:
            met = item.objects
            row += [numbers.DASH if met is None else numbers.count(n) for n in _met(met)]
            row.append(numbers.score(None if met is None else met.f1))
        if item.surface or item.boundary or item.objects:
            rows.append(tuple(row))
    return rows


def _met(objects: ObjectScores | None) -> tuple[int, int, int]:
    return (0, 0, 0) if objects is None else (objects.detected, objects.missed, objects.false)


def run_markdown(report: RunReport) -> str:
    """Return the run as Markdown: states, pooled scores, and a table of classes for each scene."""
    rows = [("Scene", "State", "Mean IoU", "Mean Dice", "Pixel accuracy", "Kappa", "Excluded")]
    for state in report.scenes:
        overall = state.report.overall if state.report is not None else None
        rows.append(
            (
                state.scene,
                state.state + (f": {first_line(state.error)}" if state.error else ""),
                *_overall(overall),
                numbers.count(state.report.excluded) if state.report is not None else numbers.DASH,
            )
        )
    parts = [f"# {_cell(report.name)}", markdown_table(rows, left=2)]
    if report.drift is not None and report.drift.told:
        parts.append("\n".join(f"> {_cell(text)}" for text in report.drift.told))
    if report.pooled is not None:
        parts.append(f"## All {report.pooled.scenes} scenes together")
        parts.append(_scored(report.pooled.classes, report.pooled.overall))
    for state in report.scenes:
        if state.report is None:
            continue
        parts.append(f"## {_cell(state.scene)}")
        parts += ["\n".join(f"> {_cell(text)}" for text in state.report.notices)] if state.report.notices else []
        parts.append(_scored(state.report.classes, state.report.overall))
        measured = detail_rows(state.report)
        parts += [markdown_table(measured)] if measured else []
    return "\n\n".join(parts) + "\n"


def _scored(classes: Sequence[ClassReport], overall: OverallReport | None) -> str:
    table = markdown_table(class_rows(classes), left=1)
    return table if overall is None else f"{table}\n\n{_cell(overall.denominators)}."


def _overall(overall: OverallReport | None) -> tuple[str, str, str, str]:
    if overall is None:
        return (numbers.DASH,) * 4
    return (
        numbers.score(overall.mean_iou),
        numbers.score(overall.mean_dice),
        numbers.score(overall.pixel_accuracy),
        numbers.score(overall.kappa),
    )


def class_rows(classes: Sequence[ClassReport]) -> list[tuple[str, ...]]:
    """Return the table of classes as texts, heads first: extents, and scores where there is a reference."""
    extents = extents_of(classes)
    scored = any(item.support is not None for item in classes)
    heads = ["Class", extents.cells.capitalize()] + [f"{extents.what} {extents.unit}"] * extents.known
    heads += ["IoU", "Dice", "Precision", "Recall", "Specificity", "Support"] * scored
    rows = [tuple(heads)]
    for item, extent in zip(classes, extents.values, strict=True):
        row = [item.name, numbers.count(item.pixels)] + [extents.write(extent)] * extents.known
        if scored:
            values = (item.iou, item.dice, item.precision, item.recall, item.specificity)
            row += [*map(numbers.score, values), numbers.count(item.support or 0)]
        rows.append(tuple(row))
    return rows


def markdown_table(rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table whose columns align as plain text too; the first `left` columns to the left."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(cells[0]))]

    def line(row: Sequence[str]) -> str:
        padded = [
            value.ljust(width) if i < left else value.rjust(width)
            for i, (value, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(padded)} |"

    rule = ["-" * width if i < left else "-" * (width - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def _cell(text: str) -> str:
    """Return text that stays in its cell and is not taken for HTML."""
    plain = " ".join(text.split())
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("|", "\\|")
