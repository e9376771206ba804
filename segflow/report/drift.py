"""How a run's results differ from those of the run before: classes' shares of the area, and the mean IoU."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from segflow.report.schema import RunReport


class Results(BaseModel):
    """What is remembered of a run's results, to compare later ones with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    run: str = Field("", description="The run's name.")
    shares: dict[str, float] = Field(description="Class to its part of all valid cells, 0 to 1.")
    mean_iou: float | None = Field(None, description="Over all scenes; null without a reference.")


class ClassDrift(BaseModel):
    """One class' part of all valid cells, 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    share: float
    share_before: float


class DriftReport(BaseModel):
    """A run's results beside those of the run before, which looked at other scenes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    before: str = Field(description="Name of the run that this one is compared with.")
    allowed: float | None = Field(None, description="`service.drift`; null: nothing counts as too much.")
    classes: tuple[ClassDrift, ...]
    mean_iou: float | None = None
    mean_iou_before: float | None = None
    told: tuple[str, ...] = Field((), description="What moved by more than is allowed, in words.")


def results_of(report: RunReport) -> Results | None:
    """Return what is remembered of a run; None where it has no results."""
    cells = Counter[str]()
    for item in report.scenes:
        for row in () if item.report is None else item.report.classes:
            cells[row.name] += row.pixels
    whole = sum(cells.values())
    if not whole:
        return None
    overall = None if report.pooled is None else report.pooled.overall
    iou = None if overall is None else overall.mean_iou
    return Results(run=report.name, shares={name: count / whole for name, count in cells.items()}, mean_iou=iou)


def drift_of(before: Results | None, now: Results | None, allowed: float | None) -> DriftReport | None:
    """Compare a run with the one before; None where there are not both.

    Args:
        before: what is remembered of the earlier run.
        now: of this one.
        allowed: what moves by more than this is told, 0 to 1; None: nothing is. A mean IoU that rises is never told.
    """
    if before is None or now is None:
        return None
    rows = [
        ClassDrift(name=name, share=now.shares.get(name, 0.0), share_before=before.shares.get(name, 0.0))
        for name in (now.shares | before.shares)
    ]
    told = []
    if allowed is not None:
        told += [
            f"{row.name} covers {row.share:.1%}, {row.share_before:.1%} in the run before"
            for row in rows
            if abs(row.share - row.share_before) > allowed
        ]
        if now.mean_iou is not None and before.mean_iou is not None and before.mean_iou - now.mean_iou > allowed:
            told.append(f"mean IoU {now.mean_iou:.3f}, {before.mean_iou:.3f} in the run before")
    return DriftReport(
        before=before.run,
        allowed=allowed,
        classes=tuple(rows),
        mean_iou=now.mean_iou,
        mean_iou_before=before.mean_iou,
        told=tuple(told),
    )
