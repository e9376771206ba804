"""Scenes' reports to the run's: pooled scores and states."""

from __future__ import annotations

from collections.abc import Sequence

from segflow.metrics import pool_scores
from segflow.metrics.bootstrap import bootstrap
from segflow.report.cases import cases_of
from segflow.report.schema import PooledReport, RunReport, SceneState

RESAMPLES = 1000
"""Resamples of the scenes for intervals, where nobody says otherwise."""


def run_report(name: str, states: Sequence[SceneState], resamples: int = RESAMPLES) -> RunReport:
    """Return the report of a run. Pooled scores are those of all scenes' cells together.

    There are none when no scene has a report, or when the scenes' classes differ.
    """
    return RunReport(name=name, scenes=tuple(states), pooled=_pool(states, resamples))


def _pool(states: Sequence[SceneState], resamples: int) -> PooledReport | None:
    reports = [state.report for state in states if state.report is not None]
    if not reports or any(report.label_classes != reports[0].label_classes for report in reports):
        return None
    pooled = pool_scores([(report.counts, report.scores) for report in reports], reports[0].label_classes)
    matrices = [report.counts.matrix for report in reports]
    known = [matrix for matrix in matrices if matrix is not None]
    return PooledReport.model_validate(
        {
            "scenes": len(reports),
            "scenes_with_reference": sum(report.confusion_matrix is not None for report in reports),
            "bootstrap": bootstrap(known, reports[0].counts.labels, resamples) if known else None,
            "cases": cases_of(reports),
            **pooled,
        }
    )
