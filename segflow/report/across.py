"""The sections of a run's page that tell of all scenes: intervals of the pooled scores, and means over scenes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from segflow.metrics.results import Bootstrap, CaseClass, Cases, Interval
from segflow.report import numbers, sections
from segflow.report.measures import distance, section, table
from segflow.report.schema import ClassReport, PooledReport


def across_sections(pooled: PooledReport) -> str:
    """Return intervals and means over scenes, as HTML; nothing of what was not measured."""
    return _intervals(pooled.bootstrap, pooled.classes) + _cases(pooled.cases, pooled.classes)


def _intervals(found: Bootstrap | None, classes: Sequence[ClassReport]) -> str:
    if found is None:
        return ""
    if found.why is not None:
        return f'<p class="hint">No intervals: {escape(found.why)}</p>'
    named = {item.id: sections.named(item) for item in classes}
    rows = [
        (escape(name.replace("_", " ").capitalize().replace("iou", "IoU")), *_interval(item))
        for name, item in found.overall.items()
    ]
    rows += [
        (f"{measure} of {named.get(item.id, str(item.id))}", *_interval(interval))
        for measure in ("iou", "dice")
        for item in found.classes
        for interval in (getattr(item, measure),)
    ]
    rows = [(row[0].replace("iou of", "IoU of").replace("dice of", "Dice of"), *row[1:]) for row in rows]
    hint = (
        f"Where the pooled scores lie for {100 * found.level:g} of 100 draws of {found.scenes} scenes with replacement "
        f"({found.resamples:,} draws): how much they hang on which scenes were looked at."
    )
    body = table("Intervals", ("Score", "Value", "Low", "High"), rows, ' class="brief"')
    return section("intervals", "Intervals", hint, body)


def _interval(item: Interval) -> tuple[str, str, str]:
    return numbers.score(item.value), numbers.score(item.low), numbers.score(item.high)


def _cases(found: Cases | None, classes: Sequence[ClassReport]) -> str:
    if found is None or not found.classes:
        return ""
    named = {item.id: sections.named(item) for item in classes}
    unit = "" if found.unit is None else f" ({found.unit})"
    heads = ["Class", "Scenes", "Missed", "Invented", "Mean Dice", "Surface Dice"]
    heads += [f"HD95{unit}", f"worst case{unit}", f"Mean distance{unit}"]
    rows = [(named.get(item.id, escape(item.name)), *_case(item)) for item in found.classes]
    hint = (
        "Every scene counts once, whatever its size. Missed and invented classes are 0 in Dice and surface Dice; they "
        "have no distance, and count as their scene's diagonal in the worst case."
    )
    return section("cases", "Means over scenes", hint, table("Means over scenes", heads, rows))


def _case(item: CaseClass) -> tuple[str, ...]:
    lengths = (item.mean_hd95_max, item.mean_hd95_max_worst, item.mean_assd)
    return (
        *map(numbers.count, (item.scenes, item.missed, item.invented)),
        numbers.score(item.mean_dice),
        numbers.score(item.mean_nsd),
        *(numbers.DASH if value is None else distance(value) for value in lengths),
    )
