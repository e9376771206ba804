"""The confusion matrix of a page: whole, and, where there are many classes, what was most often taken for what."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from segflow.report import numbers
from segflow.report.parts import Cell, framed, named, section, table
from segflow.report.schema import ClassReport, ConfusionReport

_LONG = 12
"""Classes from which on a matrix is too large to be read at a glance."""
WHOLE = 60
"""Classes up to which the whole matrix is shown."""
_PAIRS = 20

Names = tuple[str, str]


def confusion_section(matrix: ConfusionReport, classes: Sequence[ClassReport], more: str = "") -> str:
    """Return the matrix; of many classes the largest confusions before it.

    Args:
        matrix: rows are the reference.
        classes: in the order of rows and columns.
        more: HTML that the hint begins with.
    """
    pairs = ""
    if len(classes) > _LONG:
        hint = f"{more}Of {len(classes)} classes: what was most often taken for what."
        pairs = section("confusions", "Largest confusions", pairs_table(matrix, classes), hint)
    if len(classes) > WHOLE:
        return pairs
    hint = (
        f"{more}Each row is a class of the reference, each column a predicted class. Shading is the share; the "
        "outlined diagonal is what was right."
    )
    return pairs + section("confusion", "Confusion matrix", confusion_table(matrix, classes), hint)


def pairs_table(
    matrix: ConfusionReport,
    classes: Sequence[ClassReport],
    name: str = "Largest confusions",
    names: Names = ("Taken for", "Reference"),
) -> str:
    """Return the largest counts beside the diagonal.

    Args:
        matrix: rows are the reference.
        classes: in the order of rows and columns.
        name: what a screen reader calls the table.
        names: of the columns and of the rows.
    """
    pairs = sorted(
        ((count, i, j) for i, row in enumerate(matrix.counts) for j, count in enumerate(row) if i != j and count),
        key=lambda pair: (-pair[0], pair[1:]),
    )
    rows = [
        (
            named(classes[i]),
            Cell(named(classes[j]), "text"),
            numbers.percent(count, sum(matrix.counts[i])),
            numbers.count(count),
        )
        for count, i, j in pairs[:_PAIRS]
    ]
    heads = (names[1], Cell(names[0], "text"), f"Share of {names[1]}", "Cells")
    return table(name, heads, rows, "brief", sorts=True) if rows else "<p>There is none.</p>"


def confusion_table(
    matrix: ConfusionReport, classes: Sequence[ClassReport], names: Names = ("Prediction", "Reference")
) -> str:
    """Return the confusion matrix, switchable between shares of the rows, shares of the columns, and counts.

    Args:
        matrix: rows are the reference.
        classes: in the order of rows and columns.
        names: of the columns and of the rows.
    """
    columns = [sum(column) for column in zip(*matrix.counts, strict=True)]
    rows = []
    for i, (item, counts) in enumerate(zip(classes, matrix.counts, strict=True)):
        total = sum(counts)
        cells = "".join(_cell(i == j, value, total, columns[j]) for j, value in enumerate(counts))
        name = f'<th scope="row">{named(item)}</th>'
        rows.append(f'<tr>{name}{cells}<td class="total">{numbers.count(total)}</td></tr>')
    sums = "".join(f'<td class="total">{numbers.count(value)}</td>' for value in (*columns, sum(columns)))
    heads = "".join(f'<th scope="col">{named(item)}</th>' for item in classes)
    inner = (
        f'<thead><tr><th class="axis" scope="col">{names[1]} ↓<br>{names[0]} →</th>{heads}'
        f'<th class="axis" scope="col">{names[1]} total</th></tr></thead><tbody>{"".join(rows)}</tbody>'
        f'<tfoot><tr><th class="axis" scope="row">{names[0]} total</th>{sums}</tr></tfoot>'
    )
    kinds = "confusion" + " large" * (len(classes) > _LONG)
    shown = f'<div class="matrix">{_switch(names)}{framed("Confusion matrix", inner, kinds)}</div>'
    paper = '<p class="hint paper">Too wide for paper: it is on the screen, and in report.json.</p>'
    return shown + paper * (len(classes) > _LONG)


def _switch(names: Names) -> str:
    recall, precision = (" (recall)", " (precision)") if names[1] == "Reference" else ("", "")
    options = (
        ("rows", f"Share of {names[1]}{recall}"),
        ("columns", f"Share of {names[0]}{precision}"),
        ("counts", "Counts"),
    )
    inputs = "".join(
        f'<label><input type="radio" name="matrix" value="{value}"{" checked" * (value == "rows")}>'
        f"{escape(text)}</label>"
        for value, text in options
    )
    return f'<fieldset class="switch"><legend>Show</legend>{inputs}</fieldset>'


def _cell(right: bool, value: int, row: int, column: int) -> str:
    """Return a cell with all that can be shown of it; the style sheet shows one."""

    def shade(whole: int) -> str:
        return f"{0.62 * value / whole if whole else 0:.3f}"

    kind = ("right" if right else "wrong") + ("" if value else " none")
    return (
        f'<td class="{kind}" style="--r:{shade(row)};--c:{shade(column)}">'
        f'<b class="rows">{numbers.percent(value, row)}</b><b class="columns">{numbers.percent(value, column)}</b>'
        f'<span class="counts">{numbers.count(value)}</span></td>'
    )
