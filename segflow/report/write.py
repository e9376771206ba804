"""Reports to files. Each is written beside its place and renamed, so a reader never sees half of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from segflow.io.atomic import write_text
from segflow.report.drift import Results, drift_of, results_of
from segflow.report.page import run_page, scene_page
from segflow.report.pictures import Pictures
from segflow.report.pooling import RESAMPLES, run_report
from segflow.report.schema import RunReport, SceneReport, SceneState, to_json
from segflow.report.tables import metrics_csv, run_markdown


def write_scene_report(
    folder: Path,
    name: str,
    report: SceneReport,
    pictures: Pictures = Pictures(),  # noqa: B008
) -> tuple[Path, Path]:
    """Write `<name>_report.html` and then `<name>_report.json`, and return (json, html).

    The JSON comes last: who finds it finds the page too.

    Raises:
        OutputError: a file cannot be written.
        ValueError: the name is a path.
    """
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no file name")
    page, data = folder / f"{name}_report.html", folder / f"{name}_report.json"
    write_text(page, scene_page(report, pictures))
    write_text(data, to_json(report))
    return data, page


def write_run_report(
    folder: Path,
    name: str,
    states: Sequence[SceneState],
    resamples: int = RESAMPLES,
    before: Results | None = None,
    drift: float | None = None,
) -> RunReport:
    """Write `report.html`, `report.md`, `metrics.csv` and then `report.json`, and return what they tell.

    Args:
        folder: where they go.
        name: of the run.
        states: what became of its scenes.
        resamples: for intervals of the scores.
        before: results of an earlier run, to compare with.
        drift: what moves by more than this since is told.

    Raises:
        OutputError: a file cannot be written.
    """
    report = run_report(name, states, resamples)
    report = report.model_copy(update={"drift": drift_of(before, results_of(report), drift)})
    write_text(folder / "report.html", run_page(report))
    write_text(folder / "report.md", run_markdown(report))
    write_text(folder / "metrics.csv", metrics_csv(report))
    write_text(folder / "report.json", to_json(report))
    return report
