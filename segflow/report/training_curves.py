"""The curves of a training: loss, learning rate and scores over steps, as charts that share one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from segflow.report import numbers
from segflow.report.curves import Chart, Line, chart_html, step_axis
from segflow.report.parts import section, table
from segflow.report.series import Values, axis_of, smooth
from segflow.report.training import Point, Scored, TrainingReport

if TYPE_CHECKING:
    from segflow.models.card import LabelClass

_OVERALL = {"mean_iou": "mean IoU", "mean_dice": "mean Dice", "pixel_accuracy": "pixel accuracy"}
_KINDS = ("first", "second", "third")
_CLASSES = 12
_ROWS = 100
_UNIT_RANGE = (0.0, 1.0)


def broken_steps(points: Sequence[Point]) -> list[int]:
    """Return the steps whose loss is not a number, or infinite."""
    return [point.step for point in points if not isfinite(point.loss)]


def curves_section(report: TrainingReport) -> str:
    """Return the charts and the table of scores, or nothing where there is no curve."""
    if not report.points and not report.scored:
        return ""
    every = [point.step for point in report.points] + [item.step for item in report.scored]
    across = step_axis(min(every), max(every))
    charts = []
    hint = []
    if report.points:
        loss, window, cut = _loss(report.points)
        charts += [loss, _rate(report.points)]
        if len(report.points) > 2:
            hint.append(f"Bold: the mean of {window} steps around each.")
        if cut:
            hint.append("The highest single steps lie outside of the frame.")
    if report.scored:
        overall = _overall(report.scored)
        charts[1:1] = [overall] if overall.lines else []
        by_class = _by_class(report.scored, report.card.classes)
        charts += [by_class] if by_class is not None else []
        hint.append("Scores are of what was held back.")
    if report.kept is not None:
        hint.append(f"The upright line is step {report.kept:,}, whose weights were kept.")
    figures = "".join(chart_html(chart, across, report.kept) for chart in charts)
    body = (
        f'<div class="charts" data-low="{across.low:g}" data-high="{across.high:.10g}">{figures}</div>'
        f"{_reader(report.points, max(every))}{_table(report)}"
    )
    return section("curves", "Curves", body, " ".join(hint))


def _loss(points: Sequence[Point]) -> tuple[Chart, int, bool]:
    steps = np.array([point.step for point in points], float)
    loss = np.array([point.loss for point in points], float)
    loss[~np.isfinite(loss)] = np.nan
    mean, window = smooth(loss)
    known = loss[np.isfinite(loss)]
    typical = np.percentile(known, [0.2, 99.8]) if len(known) > 200 else known
    axis = axis_of(np.concatenate([typical, mean]), may_log=True)
    lines = [Line("each step", steps, loss, "raw")]
    if len(points) > 2:
        lines.append(Line("smoothed", steps, mean, "first"))
    cut = bool((known > axis.high).any() or (known < axis.low).any())
    return Chart("Loss", "mean of a step's patches", axis, lines, broken_steps(points)), window, cut


def _rate(points: Sequence[Point]) -> Chart:
    steps = np.array([point.step for point in points], float)
    rate = np.array([point.rate for point in points], float)
    axis = axis_of(np.append(rate, 0.0), bounds=(0.0, np.inf))
    return Chart("Learning rate", "of the optimiser", axis, [Line("rate", steps, rate, "third")])


def _overall(scored: Sequence[Scored]) -> Chart:
    steps = np.array([item.step for item in scored], float)
    names = [name for name in _OVERALL if any(item.overall.get(name) is not None for item in scored)]
    lines = [
        Line(_OVERALL[name], steps, _column([item.overall for item in scored], name), kind, marks=True)
        for name, kind in zip(names, _KINDS, strict=False)
    ]
    values = np.concatenate([line.values for line in lines]) if lines else np.zeros(0)
    return Chart("Validation", "score, 0 to 1", axis_of(values, bounds=_UNIT_RANGE), lines)


def _by_class(scored: Sequence[Scored], classes: Sequence[LabelClass]) -> Chart | None:
    """Return IoU (or Dice where there is no IoU) of each class; of many, those that do worst at the end."""
    measure = "IoU" if any(item.iou for item in scored) else "Dice"
    tables = [item.iou if measure == "IoU" else item.dice for item in scored]
    steps = np.array([item.step for item in scored], float)
    lines = [
        Line(item.name, steps, _column(tables, item.name), "own", item.colour, marks=len(classes) <= 6)
        for item in classes
        if any(table.get(item.name) is not None for table in tables)
    ]
    if not lines:
        return None
    unit = "0 to 1"
    if len(lines) > _CLASSES:
        lines = sorted(lines, key=lambda line: 1.0 if line.last is None else line.last)[:_CLASSES]
        unit = f"0 to 1; the {_CLASSES} classes with the lowest"
    axis = axis_of(np.concatenate([line.values for line in lines]), bounds=_UNIT_RANGE)
    return Chart(f"{measure} by class", unit, axis, lines)


def _column(tables: Sequence[Mapping[str, float | None]], name: str) -> Values:
    found = [table.get(name) for table in tables]
    return np.array([np.nan if value is None or not isfinite(value) else value for value in found], float)


def _reader(points: Sequence[Point], last: int) -> str:
    """Return the slider that reads all charts at one step; shown where scripts run."""
    rows = sorted({k * (len(points) - 1) // 199 for k in range(200)}) if points else ()
    steps = " ".join(str(points[k].step) for k in rows)
    seconds = " ".join(f"{points[k].seconds:.1f}" for k in rows)
    return (
        f'<div class="reader" hidden data-x="{steps}" data-seconds="{seconds}"><label for="step">Read the charts at '
        f'step</label> <input id="step" type="range" min="0" max="{last}" value="{last}" step="1"> '
        '<output for="step"></output></div>'
    )


def _table(report: TrainingReport) -> str:
    """Return the scores as a table, for who cannot or would not read a chart."""
    if not report.scored:
        return ""
    names = [name for name in _OVERALL if any(item.overall.get(name) is not None for item in report.scored)]
    classes = [item.name for item in report.card.classes][:_CLASSES]
    few = report.scored
    if len(few) > _ROWS:
        few = [few[k] for k in np.unique(np.linspace(0, len(few) - 1, _ROWS).astype(int))]
    rows = []
    for item in few:
        values = [item.overall.get(name) for name in names] + [item.iou.get(name) for name in classes]
        rows.append([f"{item.step:,}", *map(_score, values)])
    heads = ("Step", *(_OVERALL[name] for name in names), *(f"IoU, {name}" for name in classes))
    return f"<details><summary>Scores as a table</summary>{table('Scores by step', heads, rows)}</details>"


def _score(value: float | None) -> str:
    return numbers.score(value if value is not None and isfinite(value) else None)
