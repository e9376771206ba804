"""How a run's results differ from those of runs before it: classes' shares of the area, and the mean IoU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from segflow.report.schema import RunReport


class Results(BaseModel):
    """What is remembered of a run's results, to compare later ones with."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    run: str = Field("", description="The run's name, or what several runs are called together.")
    shares: dict[str, float] = Field(description="Class to its part of all valid cells, 0 to 1.")
    mean_iou: float | None = Field(None, description="Over all scenes; null without a reference.")


class ClassDrift(BaseModel):
    """One class' part of all valid cells, 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    share: float
    share_before: float


class DriftReport(BaseModel):
    """A run's results beside those of runs before it, which looked at other scenes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    before: str = Field(description="What this run is compared with: the median of how many runs, and which.")
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


def median_of(runs: Sequence[Results], names: str) -> Results | None:
    """Return the median of several runs' results, class by class, so that one odd run moves nothing; None of none.

    Args:
        runs: results; a class that a run lacks has no share there.
        names: what they are called together.
    """
    if not runs:
        return None
    classes = dict.fromkeys(name for run in runs for name in run.shares)
    shares = {name: median(run.shares.get(name, 0.0) for run in runs) for name in classes}
    scores = [run.mean_iou for run in runs if run.mean_iou is not None]
    return Results(run=names, shares=shares, mean_iou=median(scores) if scores else None)


def drift_of(before: Results | None, now: Results | None, allowed: float | None) -> DriftReport | None:
    """Compare a run with those before; None where there are not both.

    Args:
        before: what is remembered of earlier runs; see `median_of`.
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
            f"{row.name} covers {row.share:.1%}, {row.share_before:.1%} before"
            for row in rows
            if abs(row.share - row.share_before) > allowed
        ]
        if now.mean_iou is not None and before.mean_iou is not None and before.mean_iou - now.mean_iou > allowed:
            told.append(f"mean IoU {now.mean_iou:.3f}, {before.mean_iou:.3f} before")
    return DriftReport(
        before=before.run,
        allowed=allowed,
        classes=tuple(rows),
        mean_iou=now.mean_iou,
        mean_iou_before=before.mean_iou,
        told=tuple(told),
    )
