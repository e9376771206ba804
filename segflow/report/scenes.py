"""The index of a run: its scenes in a table that sorts and filters."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from segflow.report import facts, numbers
from segflow.report.schema import SceneState

_SCORES = ("Mean IoU", "Mean Dice", "Pixel accuracy", "Kappa")


def scene_table(scenes: Sequence[SceneState]) -> str:
    """Return all scenes with links to their pages, each in a row group with what must be known of it."""
    scored = any(state.report is not None and state.report.overall is not None for state in scenes)
    names = ("Scene", "State", "Extent", *_SCORES * scored, "Time")
    groups = "".join(_group(state, scored, len(names)) for state in scenes)
    kinds = ("text", "text", *["number"] * (len(names) - 2))
    heads = "".join(f'<th scope="col" data-sort="{kind}">{name}</th>' for name, kind in zip(names, kinds, strict=True))
    states = "".join(f'<option value="{name}">{name}</option>' for name in sorted({state.state for state in scenes}))
    tools = (
        '<div class="index-tools" data-part="index-tools" hidden>'
        '<label>Find <input type="search" data-part="find" autocomplete="off" spellcheck="false"></label>'
        f'<label>State <select data-part="state"><option value="">all</option>{states}</select></label>'
        '<span data-part="shown" role="status"></span></div>'
    )
    return (
        f'<section aria-labelledby="scenes"><h2 id="scenes">Scenes</h2>{tools}'
        '<div class="scroll" tabindex="0" role="region" aria-label="Scenes, table">'
        f'<table class="states" id="index"><thead><tr>{heads}</tr></thead>{groups}</table></div></section>'
    )


def _group(state: SceneState, scored: bool, columns: int) -> str:
    report = state.report
    name = escape(state.scene)
    if report is not None:
        name = f'<a href="{quote(state.scene)}_report.html">{name}</a>'
    overall = report.overall if report is not None else None
    scores = (overall.mean_iou, overall.mean_dice, overall.pixel_accuracy, overall.kappa) if overall else (None,) * 4
    run = report.run if report is not None else None
    seconds = run.seconds.get("total") if run is not None else None
    cells = None
    if report is not None:
        cells = 1
        for count in report.grid.shape:
            cells *= count
    said = [("text", text) for text in (report.notices if report is not None else ())]
    said = ([("text bad", state.error)] if state.error else []) + said
    extent = facts.extent(report.grid) if report is not None else numbers.DASH
    values = "".join(f"{_number(value)}{numbers.score(value)}</td>" for value in scores) * scored
    time = numbers.DASH if seconds is None else numbers.seconds(seconds)
    more = ' class="more"' if said else ""
    rows = (
        f'<tr{more}><th scope="row">{name}</th><td><span class="state {state.state}">{state.state}</span></td>'
        f"{_number(cells)}{extent}</td>{values}{_number(seconds)}{time}</td></tr>"
    )
    for place, (kind, text) in enumerate(said, 1):
        more = ' class="more"' if place < len(said) else ""
        rows += f'<tr{more}><td class="{kind}" colspan="{columns}">{escape(text)}</td></tr>'
    return f'<tbody data-state="{state.state}">{rows}</tbody>'


def _number(value: float | None) -> str:
    """Return the start of a cell that is sorted by a number; what has none comes last."""
    return "<td>" if value is None else f'<td data-value="{value:.9g}">'
