"""Reports as plain lines for a terminal or a log: no colour, no box, at most about 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from segflow.report import numbers
from segflow.report.facts import extent
from segflow.report.schema import OverallReport, RunReport, SceneReport
from segflow.report.tables import class_rows, detail_rows


def summary(report: SceneReport) -> str:
    """Return a scene's report in a screenful: what, the classes as an aligned table, overall scores, notices."""
    lines = [f"{report.scene}: {extent(report.grid)}"]
    if report.run is not None:
        run = report.run
        total = f" in {numbers.seconds(run.seconds['total'])}" if "total" in run.seconds else ""
        minimum = "" if run.forwards == run.forwards_minimum else f" (minimum {run.forwards_minimum:,})"
        lines.append(
            f"{run.forwards:,} forward pass{'es' * (run.forwards != 1)}{minimum}{total}, "
            f"{run.backend} on {run.device}, peak memory {numbers.size(run.peak_rss_bytes)}"
        )
    lines += ["", *_aligned(class_rows(report.classes)), ""]
    if report.overall is not None:
        lines += _overall(report.overall)
    lines += _details(report)
    if report.excluded:
        why = "without valid input or without a reference" if report.overall is not None else "without valid input"
        lines.append(f"excluded: {report.excluded:,} cells {why}")
    lines += [f"notice: {text}" for text in report.notices]
    return "\n".join(lines).rstrip().replace("\N{NO-BREAK SPACE}", " ")


def _details(report: SceneReport) -> list[str]:
    """Return what was measured beside the plain scores: a table of classes, and a line for each other part."""
    details, rows = report.details, detail_rows(report)
    lines = ["", *_aligned(rows)] if rows else []
    if details is None:
        return lines
    if details.surface is not None:
        one = details.surface
        lines.append(
            f"HD95 {_far(one.mean_hd95_max)}, with missed classes {_far(one.mean_hd95_max_worst)} {one.unit}; "
            f"NSD {numbers.score(one.mean_nsd)}"
        )
        lines += [f"  {part}" for part in one.denominators.split("; ")]
    if details.boundary is not None:
        width = details.boundary.width_cells
        lines.append(f"boundary IoU {numbers.score(details.boundary.mean_iou)} ({width} cells wide)")
    if details.calibration is not None:
        one_of = details.calibration
        lines.append(f"calibration error {numbers.score(one_of.ece)}, {numbers.score(one_of.mce)} in the worst bin")
    if details.seam is not None and details.seam.score is not None:
        seam = details.seam
        seen = {True: "visible", False: "not visible", None: "too few lines to tell"}[seam.visible]
        lines.append(f"seams {seen}: {seam.score:.2f} times the label changes of other lines")
    for region in details.regions or ():
        lines.append(f"region {region.name}: mean IoU {numbers.score(region.mean_iou)}, {region.cells:,} cells")
    return [*lines, ""]


def _far(value: float | None) -> str:
    return numbers.DASH if value is None else f"{value:.3g}"


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
