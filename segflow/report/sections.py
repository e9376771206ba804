"""What scenes', runs' and trainings' pages share: headline figures, pictures, classes in numbers and as bars."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from segflow.report import numbers
from segflow.report.extents import extents_of
from segflow.report.images import Figure
from segflow.report.parts import Cell, figures_row, meter, named, section, table, with_id
from segflow.report.schema import ClassReport, OverallReport

TOOLS = (
    '<div class="tools" hidden><label>Opacity of labels over the input '
    '<input type="range" min="0" max="100" value="100"></label><span>Select a picture to enlarge it.</span></div>'
)
"""What pictures are looked at with; shown where scripts run."""

OVERALL = {
    "mean_iou": "Mean IoU",
    "mean_dice": "Mean Dice",
    "pixel_accuracy": "Pixel accuracy",
    "mean_class_accuracy": "Mean class accuracy",
    "frequency_weighted_iou": "Freq.-weighted IoU",
    "kappa": "Kappa",
}
"""The overall scores as pages call them, in their order."""

_BARS = 12
"""Classes up to which each has three bars."""


def tiles(overall: OverallReport | None, excluded: int, cells: int, cells_name: str) -> str:
    """Return the headline figures.

    Args:
        overall: scores over all classes.
        excluded: cells that are in no score, or without a reference those that have no label.
        cells: all there are.
        cells_name: what they are called, such as "pixels".
    """
    shown: list[tuple[str, str]] = []
    if overall is not None:
        binary = overall.binary
        if binary is not None:
            shown += [
                (f"F1, {binary.name}", numbers.score(binary.f1)),
                ("Precision", numbers.score(binary.precision)),
                ("Recall", numbers.score(binary.recall)),
            ]
        shown += [(name, numbers.score(getattr(overall, key))) for key, name in OVERALL.items()]
        over = f" <small>{overall.classes_scored} class{'es' * (overall.classes_scored != 1)}</small>"
        shown = [(name, value + over * (name == OVERALL["mean_iou"])) for name, value in shown]
    else:
        shown.append((f"{cells_name.capitalize()} classified", numbers.count(cells - excluded)))
    what = f"{cells_name.capitalize()} not scored" if overall is not None else "Without valid input"
    shown.append((what, f"{numbers.percent(excluded, cells)} <small>of {numbers.short(cells)}</small>"))
    return figures_row(shown)


def pictures(figures: Sequence[Figure], classes: Sequence[ClassReport], still: bool = False) -> str:
    """Return the previews, panel beside panel, with the legend of colours.

    Args:
        figures: the previews.
        classes: whose colours they have.
        still: they stand in for a viewer, on paper and where no scripts run.
    """
    if not figures:
        return ""
    facts = legend_facts(classes)
    legend = "".join(f"<li>{named(item)} <small>{fact}</small></li>" for item, fact in zip(classes, facts, strict=True))
    several = any(len(figure.panels) > 1 for figure in figures)
    return (
        f'<section class="pictures{" still" if still else ""}" aria-label="Pictures">'
        + "".join(view(figure) for figure in figures)
        + f'<ul class="legend" aria-label="Colours">{legend}</ul>'
        + (TOOLS if several and not still else "")
        + "</section>"
    )


def legend_facts(classes: Sequence[ClassReport]) -> list[str]:
    """Return what stands beside each colour: extent (or share where it is unknown), and IoU where there is one."""
    total, extents = sum(item.pixels for item in classes), extents_of(classes)
    said = []
    for item, extent in zip(classes, extents.values, strict=True):
        known = f"{extents.write(extent)}\N{NO-BREAK SPACE}{extents.unit}"
        size = numbers.percent(item.pixels, total) if extent is None else known
        said.append(size + (f" · IoU {numbers.score(item.iou)}" if item.iou is not None else ""))
    return said


def view(figure: Figure) -> str:
    """Return one preview: its title, and its panels side by side."""
    pixelated = " pixelated" if figure.width <= 400 else ""
    panels = "".join(
        f'<figure class="panel{pixelated}" data-kind="{panel.kind}">'
        f'<span class="stack" style="aspect-ratio:{figure.width:.0f}/{figure.height:.2f}">'
        f'<img src="{panel.uri}" alt="{escape(panel.alt)}"></span>'
        f"<figcaption>{escape(panel.title)} <small>{escape(panel.note)}</small></figcaption></figure>"
        for panel in figure.panels
    )
    return (
        f'<div class="view"><div class="view-head"><h2 class="small">{escape(figure.title)}</h2>'
        f'<span>{escape(figure.note)}</span></div><div class="panels" style="--panels:{len(figure.panels)}">'
        f"{panels}</div></div>"
    )


def class_table(classes: Sequence[ClassReport], cells_name: str) -> str:
    """Return the classes with their extents and, with a reference, their scores; `cells_name` such as "pixels"."""
    total, extents = sum(item.pixels for item in classes), extents_of(classes)
    scored = any(item.support is not None for item in classes)
    heads: list[str | Cell] = ["Class", "Share", Cell("", "bar"), cells_name.capitalize()]
    heads += [f"{extents.what} ({extents.unit})"] * extents.known
    heads += ["IoU", "Dice (F1)", "Precision", "Recall", "Specificity", "Support"] * scored
    rows = []
    for item, extent in zip(classes, extents.values, strict=True):
        share = item.pixels / total if total else 0.0
        row: list[str | Cell] = [
            with_id(item),
            Cell(numbers.percent(item.pixels, total), value=share),
            Cell(meter(share, colour=item.colour), "bar"),
            numbers.count(item.pixels),
        ]
        row += [extents.write(extent)] * extents.known
        if scored:
            row += [_score(getattr(item, key)) for key in ("iou", "dice", "precision", "recall", "specificity")]
            row.append(numbers.count(item.support or 0))
        rows.append(row)
    return table("Classes", heads, rows, "" if scored else "brief", sorts=True)


def _score(value: float | None) -> Cell:
    return Cell(numbers.score(value), "zero" if value == 0 else "", value)


def bars_section(classes: Sequence[ClassReport]) -> str:
    """Return IoU, precision and recall of each class as bars; of many classes the IoU alone, the worst first."""
    if len(classes) <= _BARS:
        groups = [_bars(item) for item in classes]
        return section("bars", "Scores by class", f'<div class="bars">{"<hr>".join(groups)}</div>', "From 0 to 1.")
    known = sorted((item.iou, place, item) for place, item in enumerate(classes) if item.iou is not None)
    rows = "".join(
        f"<div>{named(item)}</div><div>{meter(iou, 'iou')}</div>"
        f'<div class="value{" zero" * (iou == 0)}">{numbers.score(iou)}</div>'
        for iou, _, item in known
    )
    hint = "IoU from 0 to 1, the worst class first."
    absent = len(classes) - len(known)
    if absent:
        hint += f" Left out: {absent} class{'es' * (absent != 1)} in neither the reference nor the prediction."
    return section("bars", "Scores by class", f'<div class="stages narrow">{rows}</div>', hint)


def _bars(item: ClassReport) -> str:
    if item.iou is None:
        return (
            f'<div class="name" style="grid-row:auto">{named(item)}</div>'
            "<p>in neither the reference nor the prediction</p>"
        )
    kinds = (("IoU", "iou", item.iou), ("Precision", "precision", item.precision), ("Recall", "recall", item.recall))
    return f'<div class="name">{named(item)}</div>' + "".join(
        f'<div>{meter(value or 0.0, kind)}</div><div class="value">{label} {numbers.score(value)}</div>'
        for label, kind, value in kinds
    )
