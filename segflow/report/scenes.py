"""The index of a run: its scenes in a table that sorts and filters."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import prod
from urllib.parse import quote

from segflow.report import facts, numbers
from segflow.report.parts import Cell, cell, error_text, framed, head, section
from segflow.report.schema import SceneState
from segflow.report.sections import OVERALL

_SCORES = ("mean_iou", "mean_dice", "pixel_accuracy", "kappa")
_INCOMPLETE = ' <span class="incomplete">· incomplete</span>'
_NAMED = 12
_MORE = ' class="more"'


def scene_table(scenes: Sequence[SceneState]) -> str:
    """Return all scenes with links to their pages, each in a row group with what must be known of it."""
    scored = any(state.report is not None and state.report.overall is not None for state in scenes)
    names: list[str | Cell] = ["Scene", Cell("State", "text"), "Extent"]
    names += [OVERALL[key] for key in _SCORES] * scored + ["Time"]
    groups = "".join(_group(place, state, scored, len(names)) for place, state in enumerate(scenes))
    heads = "".join(map(head, names))
    states = "".join(f'<option value="{name}">{name}</option>' for name in sorted({state.state for state in scenes}))
    tools = (
        '<div class="index-tools" data-part="index-tools" hidden>'
        '<label>Find <input type="search" data-part="find" autocomplete="off" spellcheck="false"></label>'
        f'<label>State <select data-part="state"><option value="">all</option>{states}</select></label>'
        '<span data-part="shown" role="status"></span></div>'
    )
    inner = f"<thead><tr>{heads}</tr></thead>{groups}"
    return section("scenes", "Scenes", tools + framed("Scenes", inner, "states sorts", ' id="index"'))


def troubles(scenes: Sequence[SceneState]) -> list[str]:
    """Return what a reader must know before the table: the scenes that are not there, and what others lack, as HTML."""
    found = []
    for state, what in (("failed", "failed"), ("refused", "were refused")):
        names = [scene.scene for scene in scenes if scene.state == state]
        if names:
            found.append(f"{_counted(names, what)}: {_links(scenes, names)}.")
    lacking = [scene.scene for scene in scenes if _incomplete(scene)]
    if lacking:
        found.append(
            f"{_counted(lacking, 'lack an export or another part')}, the label map is whole: {_links(scenes, lacking)}."
        )
    return found


def _counted(names: Sequence[str], what: str) -> str:
    if len(names) > 1:
        return f"{len(names):,} scenes {what}"
    return f"1 scene {what.replace('were', 'was').replace('lack', 'lacks')}"


def _links(scenes: Sequence[SceneState], names: Sequence[str]) -> str:
    """Return links to the rows of scenes; of many the first."""
    places = {scene.scene: place for place, scene in enumerate(scenes)}
    shown = ", ".join(f'<a href="#scene-{places[name]}">{escape(name)}</a>' for name in names[:_NAMED])
    return shown + (f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else "")


def _group(place: int, state: SceneState, scored: bool, columns: int) -> str:
    report = state.report
    name = escape(state.scene)
    if report is not None:
        name = f'<a href="{quote(state.scene)}_report.html">{name}</a>'
    overall = report.overall if report is not None else None
    seconds = report.run.seconds.get("total") if report is not None and report.run is not None else None
    cells = None if report is None else float(prod(report.grid.shape))
    shown = [
        Cell(f'<span class="state {state.state}">{state.state}</span>{_INCOMPLETE * _incomplete(state)}', "text"),
        Cell(numbers.DASH if report is None else facts.extent(report.grid), value=cells),
    ]
    for key in _SCORES if scored else ():
        value = None if overall is None else getattr(overall, key)
        shown.append(Cell(numbers.score(value), value=value))
    shown.append(Cell(numbers.DASH if seconds is None else numbers.seconds(seconds), value=seconds))
    said = [Cell(f"<div>{error_text(state.error)}</div>", "note bad", span=columns)] if state.error else []
    notices = report.notices if report is not None else ()
    said += [Cell(f"<div>{escape(text)}</div>", "note", span=columns) for text in notices]
    rows = [f'<th scope="row">{name}</th>{"".join(map(cell, shown))}', *map(cell, said)]
    lines = "".join(f"<tr{_MORE * (number < len(rows))}>{row}</tr>" for number, row in enumerate(rows, 1))
    return f'<tbody id="scene-{place}" data-state="{state.state}">{lines}</tbody>'


def _incomplete(state: SceneState) -> bool:
    return state.error is not None and state.state not in ("failed", "refused")
