"""Scores to JSON, CSV, Markdown, HTML and plain text. Nothing here reads a scene or runs a network."""

from segflow.report.drift import DriftReport, Results, drift_of, median_of, results_of
from segflow.report.geometry import FileGeometry, GeometryReport
from segflow.report.page import run_page, scene_page
from segflow.report.pictures import BaseMap, Pictures, Place
from segflow.report.pooling import run_report
from segflow.report.preview import LONGEST_PX, Bounds, Preview, bounds_of, stretch, thinning
from segflow.report.schema import (
    AutoFacts,
    ClassReport,
    ExportFacts,
    FileFacts,
    GridReport,
    ModelFacts,
    RunFacts,
    RunReport,
    SceneReport,
    SceneState,
    TilingFacts,
    from_json,
    report_schema,
    run_from_json,
    scene_report,
    to_json,
)
from segflow.report.text import run_summary, summary
from segflow.report.write import write_run_report, write_scene_report

__all__ = [
    "LONGEST_PX",
    "AutoFacts",
    "BaseMap",
    "Bounds",
    "ClassReport",
    "DriftReport",
    "ExportFacts",
    "FileFacts",
    "FileGeometry",
    "GeometryReport",
    "GridReport",
    "ModelFacts",
    "Pictures",
    "Place",
    "Preview",
    "Results",
    "RunFacts",
    "RunReport",
    "SceneReport",
    "SceneState",
    "TilingFacts",
    "bounds_of",
    "drift_of",
    "from_json",
    "median_of",
    "report_schema",
    "results_of",
    "run_from_json",
    "run_page",
    "run_report",
    "run_summary",
    "scene_page",
    "scene_report",
    "stretch",
    "summary",
    "thinning",
    "to_json",
    "write_run_report",
    "write_scene_report",
]
