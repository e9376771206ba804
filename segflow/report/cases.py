"""Scenes' reports to means over scenes, in which every scene counts once, whatever its size.

A scene whose class was missed or invented is in every denominator that it can be in: 0 in the means of Dice, volume
similarity and NSD, and its own diagonal in the worst-case means of distances. The plain means of distances are over the
scenes where they can be measured, and say how many those are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segflow.metrics.means import mean_of_known
from segflow.metrics.results import CaseClass, Cases, ClassDetails, SurfaceScores
from segflow.report.schema import ClassReport, SceneReport


def cases_of(reports: Sequence[SceneReport]) -> Cases | None:
    """Return means over the scenes that have details; None where none has."""
    held = [report for report in reports if report.details is not None]
    if not held:
        return None
    units = {report.details.surface.unit for report in held if report.details and report.details.surface}
    comparable = len(units) == 1
    return Cases(
        unit=units.pop() if comparable else None,
        scenes=len(held),
        classes=tuple(_class(held, number, comparable) for number in range(len(held[0].classes))),
    )


def _class(reports: Sequence[SceneReport], number: int, comparable: bool) -> CaseClass:
    rows = [report.classes[number] for report in reports]
    found = [report.details.classes[number] for report in reports if report.details is not None]
    worst = [
        report.details.surface.worst_case if report.details and report.details.surface else 0.0 for report in reports
    ]
    there = [_there(row, item) for row, item in zip(rows, found, strict=True)]
    surfaces = [item.surface for item in found if item.surface is not None]
    objects = [item.objects for item in found if item.objects is not None]
    detected, missed, false = (
        sum(getattr(item, key) for item in objects) if objects else None for key in ("detected", "missed", "false")
    )
    whole = 2 * (detected or 0) + (missed or 0) + (false or 0)
    return CaseClass(
        id=rows[0].id,
        name=rows[0].name,
        scenes=sum(held is not None for held in there),
        missed=there.count("missed"),
        invented=there.count("invented"),
        mean_dice=mean_of_known(row.dice for row in rows),
        mean_volume_similarity=mean_of_known(item.volume.similarity for item in found),
        mean_nsd=mean_of_known(item.nsd for item in surfaces),
        mean_hd95_max=mean_of_known(item.hd95_max for item in surfaces if comparable),
        mean_hd95_max_worst=mean_of_known(
            _or_worst(item.surface, far, lambda surface: surface.hd95_max)
            for item, far in zip(found, worst, strict=True)
            if comparable
        ),
        mean_assd=mean_of_known(item.assd for item in surfaces if comparable),
        measured=sum(item.state == "measured" for item in surfaces),
        objects_detected=detected,
        objects_missed=missed,
        objects_false=false,
        objects_f1=2 * (detected or 0) / whole if whole else None,
    )


def _there(row: ClassReport, item: ClassDetails) -> str | None:
    """Tell on which sides a class is; None: on neither."""
    if not row.support and not item.volume.prediction:
        return None
    if row.support and item.volume.prediction:
        return "both"
    return "missed" if row.support else "invented"


def _or_worst(surface: SurfaceScores | None, far: float, of: Callable[[SurfaceScores], float | None]) -> float | None:
    if surface is None or surface.state == "absent":
        return None
    return far if surface.state in ("missed", "invented") else of(surface)
