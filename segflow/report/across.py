"""A run's sections on all scenes: intervals of the pooled scores, means over scenes, beside runs before."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from segflow.metrics.results import Bootstrap, Cases, Interval
from segflow.report import numbers
from segflow.report.drift import ClassDrift, DriftReport
from segflow.report.parts import named as name_of
from segflow.report.parts import section, table
from segflow.report.schema import ClassReport, PooledReport
from segflow.report.sections import OVERALL

_FEW = 10
"""Scenes below which a reader is told that intervals of so few are too narrow."""


def across_sections(pooled: PooledReport) -> str:
    """Return intervals and means over scenes, as HTML; nothing of what was not measured."""
    return _intervals(pooled.bootstrap, pooled.classes) + _cases(pooled)


def _intervals(found: Bootstrap | None, classes: Sequence[ClassReport]) -> str:
    if found is None:
        return ""
    if found.why is not None:
        return f'<p class="hint">No intervals: {escape(found.why)}</p>'
    named = {item.id: name_of(item) for item in classes}
    rows = [(OVERALL.get(name, escape(name)), *_interval(item)) for name, item in found.overall.items()]
    for measure, key in (("IoU", "iou"), ("Dice", "dice")):
        rows += [
            (f"{measure} of {named.get(item.id, str(item.id))}", *_interval(getattr(item, key)))
            for item in found.classes
        ]
    hint = (
        f"Where the pooled scores lie for {100 * found.level:g} of 100 draws of {found.scenes} scenes with replacement "
        f"({found.resamples:,} draws): how much they hang on which scenes were looked at."
    )
    if found.scenes < _FEW:
        hint += f" Of only {found.scenes} scenes they are too narrow."
    if found.incomplete:
        hint += f" In {found.incomplete:,} draws a class was in no scene; the means there are over the others."
    return section("intervals", "Intervals", table("Intervals", ("Score", "Value", "Low", "High"), rows, "brief"), hint)


def _interval(item: Interval) -> tuple[str, str, str]:
    return numbers.score(item.value), numbers.score(item.low), numbers.score(item.high)


def _cases(pooled: PooledReport) -> str:
    found = pooled.cases
    if found is None or not found.classes:
        return ""
    named = {item.id: name_of(item) for item in pooled.classes}
    unit = "" if found.unit is None else f" ({found.unit})"
    heads = ["Class", "Scenes", "Missed", "Invented", "Mean Dice", "Surface Dice"]
    heads += [f"HD95{unit}", f"HD95, worst case{unit}", f"Mean distance{unit}"]
    hd95 = numbers.distance_column(
        value for item in found.classes for value in (item.mean_hd95_max, item.mean_hd95_max_worst)
    )
    assd = numbers.distance_column(item.mean_assd for item in found.classes)
    rows = [
        (
            named.get(item.id, escape(item.name)),
            *map(numbers.count, (item.scenes, item.missed, item.invented)),
            *map(numbers.score, (item.mean_dice, item.mean_nsd)),
            *map(hd95, (item.mean_hd95_max, item.mean_hd95_max_worst)),
            assd(item.mean_assd),
        )
        for item in found.classes
    ]
    hint = (
        f"{_measured(found, pooled.scenes_with_reference)}Every scene counts once, whatever its size. Missed and "
        "invented classes are 0 in Dice and surface Dice; they have no distance, and count as their scene's "
        "diagonal in the worst case."
    )
    return section("cases", "Means over scenes", table("Means over scenes", heads, rows, sorts=True), hint)


def _measured(found: Cases, scenes: int) -> str:
    """Say where not all scenes with a reference could be measured."""
    if found.scenes is None or found.scenes == scenes:
        return ""
    return f"<b>Only {found.scenes:,} of the {scenes:,} scenes with a reference could be measured.</b> "


def drift_section(drift: DriftReport | None) -> str:
    """Return the comparison with runs before; nothing where there is none."""
    if drift is None:
        return ""
    rows = [
        (escape(item.name), f"{item.share:.1%}", f"{item.share_before:.1%}", _points(item)) for item in drift.classes
    ]
    if drift.mean_iou is not None and drift.mean_iou_before is not None:
        change = f"{drift.mean_iou - drift.mean_iou_before:+.3f}"
        rows.append(("Mean IoU", numbers.score(drift.mean_iou), numbers.score(drift.mean_iou_before), change))
    title = "Compared with runs before"
    return section(
        "drift", title, table(title, ("Class", "Share", "Before", "Change"), rows, "brief"), escape(_hint(drift))
    )


def _points(item: ClassDrift) -> str:
    return f"{100 * (item.share - item.share_before):+.1f} points"


def _hint(drift: DriftReport) -> str:
    beside = f"Classes' shares of all valid cells, beside {drift.before}. "
    said = beside + "Other scenes were seen then, so some change is no fault. "
    if drift.allowed is None:
        return said + "What counts as too much is not set (service.drift)."
    much = "is told above" if drift.told else "would be told above"
    return said + f"What moves by more than {100 * drift.allowed:g} points {much}."
