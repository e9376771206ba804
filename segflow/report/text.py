"""Reports as plain lines for a terminal or a log: no colour, no box, at most about 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from segflow.report import numbers
from segflow.report.facts import extent
from segflow.report.schema import OverallReport, RunReport, SceneReport
from segflow.report.tables import class_rows


def summary(report: SceneReport) -> str:
    """Return a scene's report in a screenful: what, the classes as an aligned table, overall scores, notices."""
    lines = [f"{report.scene}: {extent(report.grid)}"]
    if report.run is not None:
        run = report.run
        total = f" in {numbers.seconds(run.seconds['total'])}" if "total" in run.seconds else ""
        minimum = "" if run.forwards == run.forwards_minimum else f" (minimum {run.forwards_minimum:,})"
        lines.append(
            f"{run.forwards:,} forward passes{minimum}{total}, {run.backend} on {run.device}, "
            f"peak memory {numbers.size(run.peak_rss_bytes)}"
        )
    lines += ["", *_aligned(class_rows(report.classes)), ""]
    if report.overall is not None:
        lines += _overall(report.overall)
    if report.excluded:
        why = "without valid input or without a reference" if report.overall is not None else "without valid input"
        lines.append(f"excluded: {report.excluded:,} cells {why}")
    lines += [f"notice: {text}" for text in report.notices]
    return "\n".join(lines).rstrip().replace("\N{NO-BREAK SPACE}", " ")


def run_summary(report: RunReport) -> str:
    """Return one line a scene, and the pooled scores when there is more than one."""
    width = max((len(state.scene) for state in report.scenes), default=0)
    lines = []
    for state in report.scenes:
        overall = state.report.overall if state.report is not None else None
        said = f"  mean IoU {numbers.score(overall.mean_iou)}" if overall is not None else ""
        lines.append(f"{state.scene:<{width}}  {state.state}{said}")
        lines += [f"    {line}" for line in (state.error or "").splitlines()]
    if report.pooled is not None and report.pooled.scenes > 1 and report.pooled.overall is not None:
        lines += ["", f"all {report.pooled.scenes} scenes together", *_overall(report.pooled.overall)]
    return "\n".join(lines)


def _overall(overall: OverallReport) -> list[str]:
    shown = [
        ("mean IoU", overall.mean_iou),
        ("mean Dice", overall.mean_dice),
        ("pixel accuracy", overall.pixel_accuracy),
        ("mean class accuracy", overall.mean_class_accuracy),
        ("frequency-weighted IoU", overall.frequency_weighted_iou),
        ("kappa", overall.kappa),
    ]
    said = [f"{name} {numbers.score(value)}" for name, value in shown]
    lines = [", ".join(said[:3]), ", ".join(said[3:])]
    if overall.binary is not None:
        one = overall.binary
        lines.append(
            f"{one.name}: recall {numbers.score(one.recall)}, precision {numbers.score(one.precision)}, "
            f"F1 {numbers.score(one.f1)}"
        )
    return [*lines, *(f"  {part}" for part in overall.denominators.split("; "))]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            value.ljust(width) if i == 0 else value.rjust(width)
            for i, (value, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
