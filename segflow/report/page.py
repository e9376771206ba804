"""One self-contained HTML page a scene, and one for the run. No network, no fonts, no library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from math import prod
from urllib.parse import quote

from segflow.report import facts, numbers, sections
from segflow.report.images import figures
from segflow.report.preview import Preview
from segflow.report.schema import OverallReport, RunReport, SceneReport, SceneState

_MORE = ' class="more"'
_SCORES = (
    "IoU = TP / (TP + FP + FN); Dice = F1 = 2 TP / (2 TP + FP + FN). A class in only one of reference and prediction "
    "scores 0; a class in neither has no score and is in no mean."
)


def scene_page(report: SceneReport, previews: Sequence[Preview] = ()) -> str:
    """Return a scene's page as HTML text."""
    name = "pixels" if report.grid.kind == "raster" else "voxels"
    scored = report.overall is not None
    body = [
        sections.tiles(report.overall, report.excluded, prod(report.grid.shape)),
        sections.notices(report.notices),
        sections.pictures(figures(previews, report.classes), report.classes),
        '<section aria-labelledby="classes"><h2 id="classes">Classes</h2>',
        f'<p class="hint">{_what_counts(scored, name)}</p>',
        sections.class_table(report.classes, name),
        "</section>",
        _scored(report),
        facts.run_section(report),
        facts.place_section(report),
    ]
    kicker = "Segmentation report" if report.run is not None or not scored else "Evaluation report"
    return document(f"{report.scene} · segflow", kicker, report.scene, facts.lead(report), body, report.overall)


def _what_counts(scored: bool, name: str) -> str:
    said = f"Shares, {name} and extents are of the whole prediction where the input was valid."
    return said + (" Scores and support are of the scored part only." if scored else "")


def _scored(report: SceneReport) -> str:
    if report.confusion_matrix is None:
        return ""
    return (
        '<section aria-labelledby="bars"><h2 id="bars">Scores by class</h2>'
        f'<p class="hint">From 0 to 1.</p>{sections.class_bars(report.classes)}</section>'
        '<section aria-labelledby="confusion"><h2 id="confusion">Confusion matrix</h2>'
        '<p class="hint">Each row is a class of the reference: what share of it, and how many cells, went to each '
        "predicted class. Shading is the share; the outlined diagonal is what was right.</p>"
        f"{sections.confusion_table(report.confusion_matrix, report.classes)}</section>"
    )


def run_page(report: RunReport) -> str:
    """Return the index of a run as HTML text, with links to the scenes' pages beside it."""
    pooled = report.pooled
    body = []
    if pooled is not None:
        cells = sum(prod(state.report.grid.shape) for state in report.scenes if state.report is not None)
        body.append(sections.tiles(pooled.overall, pooled.excluded, cells))
    body.append(_scene_table(report.scenes))
    if pooled is not None:
        kinds = {state.report.grid.kind for state in report.scenes if state.report is not None}
        cells_name = "voxels" if kinds == {"volume"} else "pixels"
        title = "Classes, all scenes together"
        body.append(f'<section aria-labelledby="classes"><h2 id="classes">{title}</h2>')
        body.append(f'<p class="hint">{_pool_hint(pooled.scenes, pooled.scenes_with_reference)}</p>')
        body.append(sections.class_table(pooled.classes, cells_name) + "</section>")
        if pooled.confusion_matrix is not None:
            body.append('<section aria-labelledby="confusion"><h2 id="confusion">Confusion matrix</h2>')
            body.append('<p class="hint">All scenes together; rows are the reference.</p>')
            body.append(sections.confusion_table(pooled.confusion_matrix, pooled.classes) + "</section>")
    lead = f'<p class="lead">{escape(_states(report.scenes))}</p>'
    overall = pooled.overall if pooled is not None else None
    return document(f"{report.name} · segflow", "Run report", report.name, lead, body, overall)


def _pool_hint(scenes: int, scored: int) -> str:
    return f"Sums over {scenes} scene{'s' if scenes != 1 else ''}, {scored} with a reference."


def _states(scenes: Sequence[SceneState]) -> str:
    counts: dict[str, int] = {}
    for state in scenes:
        counts[state.state] = counts.get(state.state, 0) + 1
    named = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(scenes)} scene{'s' if len(scenes) != 1 else ''}: {named}" if scenes else "No scenes"


def _scene_table(scenes: Sequence[SceneState]) -> str:
    rows = []
    for state in scenes:
        name = escape(state.scene)
        if state.report is not None:
            name = f'<a href="{quote(state.scene)}_report.html">{name}</a>'
        overall = state.report.overall if state.report is not None else None
        values = [
            overall.mean_iou if overall else None,
            overall.mean_dice if overall else None,
            overall.pixel_accuracy if overall else None,
            overall.kappa if overall else None,
        ]
        run = state.report.run if state.report is not None else None
        seconds = numbers.seconds(run.seconds["total"]) if run and "total" in run.seconds else numbers.DASH
        extent = facts.extent(state.report.grid) if state.report is not None else numbers.DASH
        said = [("text", text) for text in (state.report.notices if state.report is not None else ())]
        said = ([("text bad", state.error)] if state.error else []) + said
        rows.append(
            f'<tr{_MORE if said else ""}><th scope="row">{name}</th>'
            f'<td><span class="state {state.state}">{state.state}</span></td>'
            f"<td>{extent}</td>{''.join(f'<td>{numbers.score(value)}</td>' for value in values)}<td>{seconds}</td></tr>"
        )
        for place, (kind, text) in enumerate(said, 1):
            more = _MORE if place < len(said) else ""
            rows.append(f'<tr{more}><td class="{kind}" colspan="8">{escape(text)}</td></tr>')
    heads = ("Scene", "State", "Extent", "Mean IoU", "Mean Dice", "Pixel accuracy", "Kappa", "Time")
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section aria-labelledby="scenes"><h2 id="scenes">Scenes</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Scenes, table">'
        f'<table class="states"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div></section>'
    )


def document(
    title: str,
    kicker: str,
    heading: str,
    lead: str,
    body: Sequence[str],
    overall: OverallReport | None,
    more: str | None = None,
) -> str:
    """Return a whole page.

    Args:
        title: of the window, not escaped.
        kicker: what kind of page it is, not escaped.
        heading: the page's, not escaped.
        lead: HTML below it.
        body: HTML of the sections.
        overall: scores whose definitions the page ends with.
        more: name of a further style sheet and script of this package, without their endings.
    """
    names = ("page",) if more is None else ("page", more)
    css = "".join(_asset(f"{name}.css") for name in names)
    js = "".join(_asset(f"{name}.js") for name in names)
    said = ""
    if overall is not None:
        said = f"<p>{escape(_SCORES)}</p><p>Denominators: {escape(overall.denominators)}.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{css}</style></head><body>"
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(heading)}</h1>{lead}</header>'
        f"<main>{''.join(body)}</main><footer>{said}<p>Made by segflow.</p></footer>"
        f"<script>{js}</script></body></html>\n"
    )


@cache
def _asset(name: str) -> str:
    return files("segflow.report").joinpath(name).read_text(encoding="utf-8")
