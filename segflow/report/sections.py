"""The sections of a report's page, as HTML. Every text that comes from outside goes through `escape`."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from segflow.report import numbers
from segflow.report.images import Figure
from segflow.report.schema import ClassReport, ConfusionReport, OverallReport

_BRIEF = ' class="brief"'

TOOLS = (
    '<div class="tools" hidden><label>Opacity of labels over the input '
    '<input type="range" min="0" max="100" value="100"></label><span>Select a picture to enlarge it.</span></div>'
)
"""What pictures are looked at with; shown where scripts run."""


def swatch(colour: str) -> str:
    """Return a small square of a class's colour, which prints too."""
    return (
        '<svg class="swatch" viewBox="0 0 13 13" aria-hidden="true">'
        f'<rect x=".5" y=".5" width="12" height="12" rx="2" fill="{escape(colour)}"/></svg>'
    )


def named(item: ClassReport) -> str:
    """Return a class's colour and name, kept together where lines break."""
    return f'<span class="named">{swatch(item.colour)}<span>{escape(item.name)}</span></span>'


def meter(value: float, kind: str = "plain", colour: str | None = None) -> str:
    """Return a bar from 0 to 1, for the eye only: the number stands beside it."""
    paint = f' style="fill:{escape(colour)}"' if colour else ""
    return (
        '<svg class="meter" viewBox="0 0 100 9" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" y="4" width="100" height="1"/>'
        f'<rect class="{kind}"{paint} width="{100 * min(max(value, 0.0), 1.0):.2f}" height="9"/></svg>'
    )


def tiles(overall: OverallReport | None, excluded: int, cells: int) -> str:
    """Return the headline figures."""
    shown: list[tuple[str, str]] = []
    if overall is not None:
        binary = overall.binary
        if binary is not None:
            shown += [
                (f"F1, {binary.name}", numbers.score(binary.f1)),
                ("Precision", numbers.score(binary.precision)),
                ("Recall", numbers.score(binary.recall)),
            ]
        classes = f" <small>{overall.classes_scored} classes</small>"
        shown += [
            ("Mean IoU", numbers.score(overall.mean_iou) + classes),
            ("Mean Dice", numbers.score(overall.mean_dice)),
            ("Pixel accuracy", numbers.score(overall.pixel_accuracy)),
            ("Mean class accuracy", numbers.score(overall.mean_class_accuracy)),
            ("Freq.-weighted IoU", numbers.score(overall.frequency_weighted_iou)),
            ("Kappa", numbers.score(overall.kappa)),
        ]
    else:
        shown.append(("Cells classified", numbers.count(cells - excluded)))
    what = "Excluded" if overall is not None else "Without valid input"
    shown.append((what, f"{numbers.percent(excluded, cells)} <small>of {numbers.short(cells)}</small>"))
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in shown)
    return f'<dl class="tiles">{rows}</dl>'


def notices(texts: Sequence[str]) -> str:
    """Return what a reader must know first, or nothing."""
    if not texts:
        return ""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    heading = '<h2 class="small" id="notices">Notices</h2>'
    return f'<aside class="notices" aria-labelledby="notices">{heading}<ul>{items}</ul></aside>'


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
    total = sum(item.pixels for item in classes)
    volume = "volume_ml" in classes[0].model_fields_set
    extents = [item.volume_ml if volume else item.area_m2 for item in classes]
    unit, write = (numbers.volume_column if volume else numbers.area_column)(extents)
    said = []
    for item, extent in zip(classes, extents, strict=True):
        size = numbers.percent(item.pixels, total) if extent is None else f"{write(extent)}\N{NO-BREAK SPACE}{unit}"
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
    """Return the classes with their extents and, with a reference, their scores."""
    total = sum(item.pixels for item in classes)
    volume = "volume_ml" in classes[0].model_fields_set
    extents = [item.volume_ml if volume else item.area_m2 for item in classes]
    unit, write = (numbers.volume_column if volume else numbers.area_column)(extents)
    measured = any(extent is not None for extent in extents)
    scored = any(item.support is not None for item in classes)
    heads = ["Share", "", cells_name.capitalize()] + (
        [f"{'Volume' if volume else 'Area'} ({unit})"] if measured else []
    )
    heads += ["IoU", "Dice (F1)", "Precision", "Recall", "Specificity", "Support"] if scored else []
    rows = []
    for item, extent in zip(classes, extents, strict=True):
        share = item.pixels / total if total else 0.0
        row = [
            f'<th scope="row">{named(item)}<span class="id">{item.id}</span></th>',
            f"<td>{numbers.percent(item.pixels, total)}</td>",
            f'<td class="bar">{meter(share, colour=item.colour)}</td>',
            f"<td>{numbers.count(item.pixels)}</td>",
        ]
        row += [f"<td>{write(extent)}</td>"] if measured else []
        if scored:
            values = (item.iou, item.dice, item.precision, item.recall, item.specificity)
            row += [f"<td{' class=zero' if value == 0 else ''}>{numbers.score(value)}</td>" for value in values]
            row.append(f"<td>{numbers.count(item.support or 0)}</td>")
        rows.append(f"<tr>{''.join(row)}</tr>")
    head = "".join(
        f'<th scope="col">{name}</th>' if name else '<td class="bar"></td>' for name in ("Class", *map(escape, heads))
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Classes, table">'
        f"<table{'' if scored else _BRIEF}><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def class_bars(classes: Sequence[ClassReport]) -> str:
    """Return IoU, precision and recall of each class as bars."""
    parts = []
    for item in classes:
        name = f'<div class="name">{named(item)}</div>'
        if item.iou is None:
            parts.append(
                f'<div class="name" style="grid-row:auto">{named(item)}</div>'
                "<p>in neither the reference nor the prediction</p>"
            )
            continue
        parts.append(name)
        for label, kind, value in (
            ("IoU", "iou", item.iou),
            ("Precision", "precision", item.precision),
            ("Recall", "recall", item.recall),
        ):
            parts.append(
                f'<div>{meter(value or 0.0, kind)}</div><div class="value">{label} {numbers.score(value)}</div>'
            )
    return '<div class="bars">' + "<hr>".join(_groups(parts)) + "</div>"


def _groups(parts: Sequence[str]) -> list[str]:
    """Join what belongs to one class; each class begins with its name."""
    groups: list[str] = []
    for part in parts:
        if part.startswith('<div class="name"'):
            groups.append(part)
        else:
            groups[-1] += part
    return groups


def _kind(right: bool, value: int) -> str:
    return ("right" if right else "wrong") + ("" if value else " none")


def confusion_table(
    matrix: ConfusionReport, classes: Sequence[ClassReport], names: tuple[str, str] = ("Prediction", "Reference")
) -> str:
    """Return the confusion matrix, switchable between shares of the rows, shares of the columns, and counts.

    Args:
        matrix: rows are the reference.
        classes: in the order of rows and columns.
        names: of the columns and of the rows.
    """
    recall, precision = (" (recall)", " (precision)") if names[1] == "Reference" else ("", "")
    heads = "".join(f'<th scope="col">{named(item)}</th>' for item in classes)
    columns = [sum(column) for column in zip(*matrix.counts, strict=True)]
    whole = sum(columns)
    rows = []
    for i, (item, counts) in enumerate(zip(classes, matrix.counts, strict=True)):
        total = sum(counts)
        cells = "".join(_cell(i == j, value, total, columns[j]) for j, value in enumerate(counts))
        name = f'<th scope="row">{named(item)}</th>'
        rows.append(f'<tr>{name}{cells}<td class="total">{numbers.count(total)}</td></tr>')
    sums = "".join(f'<td class="total">{numbers.count(value)}</td>' for value in columns)
    sums += f'<td class="total">{numbers.count(whole)}</td>'
    foot = f'<tr><th class="axis" scope="row">{names[0]} total</th>{sums}</tr>'
    switch = "".join(
        f'<label><input type="radio" name="matrix" value="{value}"{" checked" * (value == "rows")}>{text}</label>'
        for value, text in (
            ("rows", f"Share of {names[1]}{recall}"),
            ("columns", f"Share of {names[0]}{precision}"),
            ("counts", "Counts"),
        )
    )
    return (
        f'<div class="matrix"><fieldset class="switch"><legend>Show</legend>{switch}</fieldset>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Confusion matrix, table">'
        f'<table class="confusion"><thead><tr><th class="axis" scope="col">{names[1]} ↓ &nbsp; {names[0]} →</th>'
        f'{heads}<th class="axis" scope="col">{names[1]} total</th></tr></thead><tbody>{"".join(rows)}</tbody>'
        f"<tfoot>{foot}</tfoot></table></div></div>"
    )


def _cell(right: bool, value: int, row: int, column: int) -> str:
    """Return a cell with all that can be shown of it; the style sheet shows one."""

    def shade(whole: int) -> str:
        return f"{0.62 * value / whole if whole else 0:.3f}"

    return (
        f'<td class="{_kind(right, value)}" style="--r:{shade(row)};--c:{shade(column)}">'
        f'<b class="rows">{numbers.percent(value, row)}</b><b class="columns">{numbers.percent(value, column)}</b>'
        f'<span class="counts">{numbers.count(value)}</span></td>'
    )
