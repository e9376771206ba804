"""One self-contained HTML page a scene, and one for the run. No network, no fonts, no library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from math import prod

from segflow.report import evidence, facts, sections
from segflow.report.across import across_sections, drift_section
from segflow.report.confusion import confusion_section
from segflow.report.images import figures
from segflow.report.measures import details_sections
from segflow.report.parts import notices, section
from segflow.report.pictures import Pictures
from segflow.report.scenes import scene_table, troubles
from segflow.report.schema import GridReport, OverallReport, RunReport, SceneReport, SceneState
from segflow.report.viewer import scripts, viewer

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""What a page may do: nothing that reaches beyond itself."""

_SCORES = (
    "IoU = TP / (TP + FP + FN); Dice = F1 = 2 TP / (2 TP + FP + FN). A class in only one of reference and prediction "
    "scores 0; a class in neither has no score and is in no mean."
)
_APART = "No scores of all scenes together: their classes differ, as scenes of different models' have."


def scene_page(report: SceneReport, pictures: Pictures = Pictures()) -> str:  # noqa: B008
    """Return a scene's page as HTML text."""
    scored, cells = report.overall is not None, _cells((report.grid,))
    shown = viewer(pictures, report.classes, report.grid)
    body = [
        notices([*map(escape, (*_lacking(report), *report.notices))]),
        sections.tiles(report.overall, report.excluded, prod(report.grid.shape), cells),
        shown,
        sections.pictures(figures(pictures.previews, report.classes), report.classes, still=bool(shown)),
        section("classes", "Classes", sections.class_table(report.classes, cells), _what_counts(scored, cells)),
        sections.bars_section(report.classes) if scored else "",
        "" if report.confusion_matrix is None else confusion_section(report.confusion_matrix, report.classes),
        evidence.worst_section(pictures, report.classes),
        evidence.confidence_section(pictures.confidence, report.classes),
        details_sections(report.details, report.classes),
        facts.run_section(report),
        facts.place_section(report),
        facts.geometry_section(report.geometry),
        evidence.exports_section(report.exports),
        evidence.recipe_section("" if report.run is None else report.run.recipe),
    ]
    kicker = "Segmentation report" if report.run is not None or not scored else "Evaluation report"
    more = ("viewer.css", *(f"{name}.js" for name in scripts(pictures)))
    origin = "" if pictures.basemap is None else pictures.basemap.origin
    return document(
        f"{report.scene} · segflow", kicker, report.scene, facts.lead(report), body, report.overall, more, origin
    )


def _lacking(report: SceneReport) -> list[str]:
    """Return what a reader would look for beside the label map in vain."""
    told = []
    names = ", ".join(item.name for item in report.exports if item.error is not None)
    if names:
        told.append(f"Not written: {names}. The label map is whole. Why, and what helps, is told under Exports.")
    if report.overall is not None and not report.overall.pixels_scored:
        told.append("Nothing could be scored: there is no place with a label and a reference that counts.")
    return told


def _what_counts(scored: bool, name: str) -> str:
    said = f"Shares, {name} and extents are of the whole prediction where the input was valid."
    return said + (" Scores and support are of the scored part only." if scored else "")


def _cells(grids: Sequence[GridReport]) -> str:
    """Return what the cells of grids are called."""
    kinds = {grid.kind for grid in grids}
    return "voxels" if kinds == {"volume"} else "pixels" if kinds == {"raster"} else "cells"


def run_page(report: RunReport) -> str:
    """Return the index of a run as HTML text, with links to the scenes' pages beside it."""
    pooled, grids = report.pooled, [state.report.grid for state in report.scenes if state.report is not None]
    told = () if report.drift is None else report.drift.told
    apart = [_APART] if pooled is None and grids else []
    body = [notices([*troubles(report.scenes), *apart, *map(escape, told)])]
    if pooled is not None:
        whole = sum(prod(grid.shape) for grid in grids)
        body.append(sections.tiles(pooled.overall, pooled.excluded, whole, _cells(grids)))
    body += [scene_table(report.scenes), drift_section(report.drift)]
    if pooled is not None:
        hint = _pool_hint(pooled.scenes, pooled.scenes_with_reference)
        table = sections.class_table(pooled.classes, _cells(grids))
        body += [section("classes", "Classes, all scenes together", table, hint), across_sections(pooled)]
        if pooled.confusion_matrix is not None:
            body.append(confusion_section(pooled.confusion_matrix, pooled.classes, "All scenes together. "))
    lead = f'<p class="lead">{escape(_states(report.scenes))}</p>'
    overall = pooled.overall if pooled is not None else None
    return document(
        f"{report.name} · segflow", "Run report", report.name, lead, body, overall, ("viewer.css", "index.js")
    )


def _pool_hint(scenes: int, scored: int) -> str:
    return f"Sums over {scenes} scene{'s' if scenes != 1 else ''}, {scored} with a reference."


def _states(scenes: Sequence[SceneState]) -> str:
    counts: dict[str, int] = {}
    for state in scenes:
        counts[state.state] = counts.get(state.state, 0) + 1
    named = ", ".join(f"{count} {state}" for state, count in counts.items())
    return f"{len(scenes)} scene{'s' if len(scenes) != 1 else ''}: {named}" if scenes else "No scenes"


def document(
    title: str,
    kicker: str,
    heading: str,
    lead: str,
    body: Sequence[str],
    overall: OverallReport | None,
    more: Sequence[str] = (),
    pictures_from: str = "",
) -> str:
    """Return a whole page.

    Args:
        title: of the window, not escaped.
        kicker: what kind of page it is, not escaped.
        heading: the page's, not escaped.
        lead: HTML below it.
        body: HTML of the sections.
        overall: scores whose definitions the page ends with.
        more: names of further style sheets and scripts of this package.
        pictures_from: whom else than itself the page may ask for pictures, such as https://tile.example.
    """
    names = ("page.css", "page.js", "sort.js", *more)
    css = "".join(_asset(name) for name in names if name.endswith(".css"))
    js = "".join(_asset(name) for name in names if name.endswith(".js"))
    policy = POLICY.replace("img-src data:", f"img-src data: {escape(pictures_from)}") if pictures_from else POLICY
    inner = "".join(body).replace("<\N{NO-BREAK SPACE}", "&lt;\N{NO-BREAK SPACE}")  # less than 0.1 %
    said = ""
    if overall is not None:
        said = f"<p>{escape(_SCORES)}</p><p>Denominators: {escape(overall.denominators)}.</p>"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{css}</style></head><body>"
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(heading)}</h1>{lead}</header>'
        f"<main>{inner}</main><footer>{said}<p>Made by segflow.</p></footer>"
        f"<script>{js}</script></body></html>\n"
    )


@cache
def _asset(name: str) -> str:
    return files("segflow.report").joinpath(name).read_text(encoding="utf-8")
