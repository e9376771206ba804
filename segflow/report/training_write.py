"""A training's report to files: one HTML page, and its curve as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

from segflow.io.atomic import write_text
from segflow.report.training import Point, Scored, TrainingReport
from segflow.report.training_page import training_page


def write_training_report(report: TrainingReport, path: Path) -> None:
    """Write a training's page: one HTML file that needs nothing else, under 5 MB.

    Raises:
        OutputError: the file cannot be written.
    """
    write_text(path, training_page(report))


def write_curve_csv(points: Sequence[Point], scored: Sequence[Scored], path: Path) -> None:
    """Write the curve as CSV, one row a step: step, seconds, loss, learning_rate, then scores where there are any.

    What is not known is an empty cell; a loss that is not a number is `nan` or `inf`. RFC 4180 quoting, LF.

    Raises:
        OutputError: the file cannot be written.
    """
    tables = {item.step: _flat(item) for item in scored}
    columns = list(dict.fromkeys(name for table in tables.values() for name in table))
    rows = {point.step: (point.seconds, point.loss, point.rate) for point in points}
    buffer = StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["step", "seconds", "loss", "learning_rate", *columns])
    for step in sorted({*rows, *tables}):
        table = tables.get(step, {})
        found = [*rows.get(step, (None,) * 3), *(table.get(name) for name in columns)]
        writer.writerow([step, *("" if value is None else repr(float(value)) for value in found)])
    write_text(path, buffer.getvalue())


def _flat(item: Scored) -> dict[str, float | None]:
    """Return one score's numbers by column: overall ones first, then iou: and dice: of each class."""
    named = dict(item.overall)
    for measure, table in (("iou", item.iou), ("dice", item.dice)):
        named.update({f"{measure}: {name}": value for name, value in table.items()})
    return named
