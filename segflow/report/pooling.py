"""Scenes' reports to the run's: pooled scores and states."""

from __future__ import annotations

from collections.abc import Sequence

from segflow.metrics import pool_scores
from segflow.report.schema import PooledReport, RunReport, SceneState


def run_report(name: str, states: Sequence[SceneState]) -> RunReport:
    """Return the report of a run. Pooled scores are those of all scenes' cells together.

    There are none when no scene has a report, or when the scenes' classes differ.
    """
    return RunReport(name=name, scenes=tuple(states), pooled=_pool(states))


def _pool(states: Sequence[SceneState]) -> PooledReport | None:
    reports = [state.report for state in states if state.report is not None]
    if not reports or any(report.label_classes != reports[0].label_classes for report in reports):
        return None
    pooled = pool_scores([(report.counts, report.scores) for report in reports], reports[0].label_classes)
    return PooledReport.model_validate(
        {
            "scenes": len(reports),
            "scenes_with_reference": sum(report.confusion_matrix is not None for report in reports),
            **pooled,
        }
    )
