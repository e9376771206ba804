"""Whether results moved since the run before: classes' shares of the area, and scores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from segflow.report import SceneState, run_report


def facts_of(scenes: Sequence[SceneState]) -> dict[str, Any]:
    """Return what the ledger remembers of a run's results; nothing where there are none.

    Returns:
        `shares`: class name to its part of all valid cells; `mean_iou`: over all scenes, where there is a reference.
    """
    cells = Counter[str]()
    for item in scenes:
        for row in () if item.report is None else item.report.classes:
            cells[row.name] += row.pixels
    whole = sum(cells.values())
    if not whole:
        return {}
    pooled = run_report("run", list(scenes)).pooled
    overall = None if pooled is None else pooled.overall
    iou = None if overall is None else overall.mean_iou
    return {"shares": {name: count / whole for name, count in cells.items()}, "mean_iou": iou}


def drift_of(before: Any, now: Any, most: float | None) -> list[str]:
    """Say in words what moved by more than `most`; shares and scores are from 0 to 1."""
    if most is None or not before or not now:
        return []
    told = []
    for name, share in now["shares"].items():
        was = before["shares"].get(name, 0.0)
        if abs(share - was) > most:
            told.append(f"{name} covers {share:.1%}, {was:.1%} in the run before")
    iou, was_iou = now["mean_iou"], before["mean_iou"]
    if iou is not None and was_iou is not None and was_iou - iou > most:
        told.append(f"mean IoU {iou:.3f}, {was_iou:.3f} in the run before")
    return told
