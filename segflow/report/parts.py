"""What pages are put together of: sections, tables, colours, bars, lists of facts. The one way to make each.

Whatever is called HTML goes in as it is; every other text is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from segflow.report import numbers
from segflow.report.schema import ClassReport


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table that needs more than its text.

    Attributes:
        html: what it shows.
        kind: class of the style sheet.
        value: what it is sorted by; None: by its text.
        span: columns that it takes.
    """

    html: str
    kind: str = ""
    value: float | None = None
    span: int = 1


Row = Sequence[str | Cell]


def section(name: str, title: str, body: str, hint: str = "") -> str:
    """Return a section with its heading and, where there is one, what to know of it; nothing without a body.

    Args:
        name: id of its heading.
        title: HTML.
        body: HTML.
        hint: HTML.
    """
    if not body:
        return ""
    told = f'<p class="hint">{hint}</p>' if hint else ""
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{told}{body}</section>'


def table(
    name: str,
    heads: Iterable[str | Cell],
    rows: Iterable[Row],
    kind: str = "",
    foot: Iterable[Row] = (),
    sorts: bool = False,
) -> str:
    """Return a table that scrolls by itself where it is too wide.

    Args:
        name: what a screen reader calls it, not escaped.
        heads: of the columns, not escaped; a head without a text is no head.
        rows: HTML of the cells; the first of each row is its heading.
        kind: classes of the style sheet.
        foot: rows that stand below the others, however these are sorted.
        sorts: whether the reader may sort it, where it has several rows.
    """
    body = [f"<tr>{_cells(row)}</tr>" for row in rows]
    kinds = " ".join(filter(None, (kind, "sorts" * (sorts and len(body) > 1))))
    below = "".join(f"<tr>{_cells(row)}</tr>" for row in foot)
    return framed(
        name,
        f"<thead><tr>{''.join(map(head, heads))}</tr></thead><tbody>{''.join(body)}</tbody>"
        + (f"<tfoot>{below}</tfoot>" if below else ""),
        kinds,
    )


def framed(name: str, inner: str, kinds: str = "", more: str = "") -> str:
    """Return a table of HTML rows in the frame that it scrolls in, which the keyboard reaches.

    Args:
        name: what a screen reader calls it, not escaped.
        inner: HTML of head, bodies and foot.
        kinds: classes of the style sheet.
        more: further attributes.
    """
    styled = f' class="{kinds}"' if kinds else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}, table">'
        f"<table{styled}{more}>{inner}</table></div>"
    )


def head(item: str | Cell) -> str:
    """Return the head of a column: a text that is not escaped, or none."""
    text, kind = (item.html, item.kind) if isinstance(item, Cell) else (item, "")
    styled = f' class="{kind}"' if kind else ""
    return f'<th scope="col"{styled}>{escape(text)}</th>' if text else f"<td{styled}></td>"


def _cells(row: Row) -> str:
    first, *rest = row
    name = first.html if isinstance(first, Cell) else first
    return f'<th scope="row">{name}</th>' + "".join(map(cell, rest))


def cell(item: str | Cell) -> str:
    """Return a cell that is no heading."""
    if isinstance(item, str):
        return f"<td>{item}</td>"
    kind = f' class="{item.kind}"' if item.kind else ""
    value = "" if item.value is None else f' data-value="{item.value:.9g}"'
    span = "" if item.span == 1 else f' colspan="{item.span}"'
    return f"<td{kind}{value}{span}>{item.html}</td>"


def swatch(colour: str) -> str:
    """Return a small square of a class's colour, which prints too."""
    return (
        '<svg class="swatch" viewBox="0 0 13 13" aria-hidden="true">'
        f'<rect x=".5" y=".5" width="12" height="12" rx="2" fill="{escape(colour)}"/></svg>'
    )


def named(item: ClassReport, more: str = "") -> str:
    """Return a class's colour and name, with more HTML behind it, kept together where lines break."""
    return f'<span class="named">{swatch(item.colour)}<span>{escape(item.name)}{more}</span></span>'


def with_id(item: ClassReport) -> str:
    """Return a class's colour, name and id."""
    return named(item, f' <span class="id">{item.id}</span>')


def meter(value: float, kind: str = "plain", colour: str | None = None) -> str:
    """Return a bar from 0 to 1, for the eye only: the number stands beside it."""
    paint = f' style="fill:{escape(colour)}"' if colour else ""
    return (
        '<svg class="meter" viewBox="0 0 100 9" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="track" y="4" width="100" height="1"/>'
        f'<rect class="{kind}"{paint} width="{100 * min(max(value, 0.0), 1.0):.2f}" height="9"/></svg>'
    )


def figures_row(shown: Sequence[tuple[str, str]]) -> str:
    """Return headline figures: names, not escaped, and HTML; nothing where there are none."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{value}</dd></div>" for name, value in shown)
    return f'<dl class="tiles">{rows}</dl>' if rows else ""


def facts_list(shown: Sequence[tuple[str, str]], kind: str = "facts") -> str:
    """Return a list of names, not escaped, and HTML."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in shown)
    return f'<dl class="{kind}">{rows}</dl>'


def notices(items: Sequence[str]) -> str:
    """Return what a reader must know first, as HTML items, or nothing."""
    if not items:
        return ""
    listed = "".join(f"<li>{item}</li>" for item in items)
    heading = '<h2 class="small" id="notices">Notices</h2>'
    return f'<aside class="notices" aria-labelledby="notices">{heading}<ul>{listed}</ul></aside>'


def error_text(text: str) -> str:
    """Return an error as HTML: what was found, and below it, more quietly, what was expected and what helps."""
    first, *rest = [line.strip() for line in text.strip().splitlines()] or [""]
    more = "".join(f"<br><small>{escape(line[:1].upper() + line[1:])}</small>" for line in rest)
    return f"{escape(first)}{more}"


def code_block(name: str, text: str) -> str:
    """Return text as it stands in a file, in a frame that the keyboard reaches; nothing where there is none."""
    if not text.strip():
        return ""
    return f'<pre tabindex="0" role="region" aria-label="{escape(name)}"><code>{escape(text.rstrip())}</code></pre>'


def file_size(size: int | None) -> Cell:
    """Return the size of a file."""
    return Cell(numbers.DASH if size is None else numbers.size(size), value=size)


def checksum(sha256: str) -> Cell:
    """Return the start of a checksum; all of it where the pointer rests."""
    return Cell(f'<code title="{escape(sha256)}">{escape(sha256[:12])}…</code>', "text")
