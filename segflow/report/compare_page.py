"""The pages of a comparison: what changed between two runs, class by class, where, and why it may have."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from segflow.report import evidence, facts, numbers, sections
from segflow.report.comparison import ClassChange, RunComparison, SceneComparison
from segflow.report.images import figures
from segflow.report.page import document
from segflow.report.pictures import Pictures
from segflow.report.schema import ClassReport, ConfusionReport
from segflow.report.viewer import scripts, viewer

NAMES = ("A", "B")


def scene_comparison_page(scene: SceneComparison, shown: Pictures, folders: tuple[str, str]) -> str:
    """Return the page of one scene as HTML text.

    Args:
        scene: what was found.
        shown: its pictures, A in the place of the labels and B in that of the reference.
        folders: names of A and B.
    """
    classes = _classes(scene.classes)
    stage = viewer(shown, classes, scene.grid, NAMES)
    pictures = sections.pictures(figures(shown.previews, classes, names=NAMES), classes, still=bool(stage))
    # Counts have A in the rows; the table's rows are its second name.
    matrix = ConfusionReport(
        labels=tuple(item.id for item in scene.classes), counts=tuple(row[:-1] for row in scene.counts[:-1])
    )
    body = [
        _tiles(scene),
        stage,
        pictures,
        _class_section(scene),
        '<section aria-labelledby="confusion"><h2 id="confusion">From A to B</h2>'
        '<p class="hint">What became in B of each class of A. The outlined diagonal is what stayed.</p>'
        f"{sections.confusion_table(matrix, classes, ('B', 'A'))}</section>",
        evidence.worst_section(shown, classes, NAMES),
        _facts(scene),
        _recipe(scene.recipe),
    ]
    lead = f'<p class="lead">{facts.extent(scene.grid)}. {_folders(folders)}</p>'
    more = ("viewer.css", *(f"{name}.js" for name in scripts(shown)))
    return document(f"{scene.scene} · compared · segflow", "Comparison", scene.scene, lead, body, None, more)


def comparison_page(run: RunComparison) -> str:
    """Return the index of a comparison as HTML text, with links to the scenes' pages beside it."""
    rows = []
    for item in run.scenes:
        share = numbers.percent(item.changed, item.cells)
        rows.append(
            f'<tbody><tr><th scope="row"><a href="{quote(item.scene)}_compare.html">{escape(item.scene)}</a></th>'
            f'<td data-value="{item.changed}">{numbers.count(item.changed)}</td>'
            f'<td data-value="{item.changed / item.cells if item.cells else 0:.9g}">{share}</td>'
            f"<td>{'yes' if item.same_fingerprint else 'no'}</td><td>{len(item.facts)}</td></tr></tbody>"
        )
    for lost in run.lost:
        rows.append(
            f'<tbody><tr><th scope="row">{escape(lost.scene)}</th>'
            f'<td class="text bad" colspan="4">{escape(lost.why)}</td></tr></tbody>'
        )
    heads = (
        ("Scene", "text"), ("Cells that differ", "number"), ("Share", "number"), ("Same fingerprint", "text"),
        ("Facts that differ", "text"),
    )  # fmt: skip
    head = "".join(f'<th scope="col">{name}</th>' for name, _ in heads)
    body = [
        '<section aria-labelledby="scenes"><h2 id="scenes">Scenes</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Scenes, table">'
        f"<table><thead><tr>{head}</tr></thead>{''.join(rows)}</table></div></section>"
    ]
    differ = sum(item.changed > 0 for item in run.scenes)
    count = len(run.scenes)
    said = f"{differ} of {count} scene{'s' * (count != 1)} differ{'s' * (differ == 1)}"
    lead = f'<p class="lead">{said}. {_folders((run.a, run.b))}</p>'
    return document("Comparison · segflow", "Comparison", "Two runs compared", lead, body, None, ("viewer.css",))


def summary(run: RunComparison) -> str:
    """Return the comparison as plain lines for a terminal."""
    lines = [f"A: {run.a}", f"B: {run.b}"]
    for item in run.scenes:
        share = numbers.percent(item.changed, item.cells).replace("\N{NO-BREAK SPACE}", " ")
        same = "same fingerprint" if item.same_fingerprint else "fingerprints differ"
        lines += ["", f"{item.scene}: {item.changed:,} of {item.cells:,} cells differ ({share}); {same}"]
        width = max(len(one.name) for one in item.classes)
        lines += [
            f"  {one.name:<{width}}  A {one.cells_a:>12,}  B {one.cells_b:>12,}  {one.cells_b - one.cells_a:>+12,}"
            f"  agreement {numbers.score(one.iou)}"
            for one in item.classes
        ]
        lines += [f"  {fact.name}: {_brief(fact.a)} -> {_brief(fact.b)}" for fact in item.facts]
    lines += [f"\n{lost.scene}: not compared, {lost.why}" for lost in run.lost]
    return "\n".join(lines)


def _brief(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."


def _classes(changes: Sequence[ClassChange]) -> tuple[ClassReport, ...]:
    return tuple(ClassReport(id=one.id, name=one.name, colour=one.colour, pixels=one.cells_a) for one in changes)


def _folders(folders: tuple[str, str]) -> str:
    return f"A is <b>{escape(folders[0])}</b>, B is <b>{escape(folders[1])}</b>."


def _tiles(scene: SceneComparison) -> str:
    shown = [
        ("Cells that differ", f"{numbers.percent(scene.changed, scene.cells)} <small>of "
         f"{numbers.short(scene.cells)}</small>"),
        ("Fingerprint", "the same" if scene.same_fingerprint else "differs"),
        ("Facts that differ", str(len(scene.facts))),
    ]  # fmt: skip
    rows = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown)
    return f'<dl class="tiles">{rows}</dl>'


def _class_section(scene: SceneComparison) -> str:
    volume = scene.grid.kind == "volume"
    column = numbers.volume_column if volume else numbers.area_column
    unit, write = column([one.extent_a for one in scene.classes] + [one.extent_b for one in scene.classes])
    measured = any(one.extent_a is not None for one in scene.classes)
    scored = any(one.score_a is not None or one.score_b is not None for one in scene.classes)
    what = "Volume" if volume else "Area"
    heads = ["Class", "Cells in A", "Cells in B", "Change"]
    heads += [f"{what} A ({unit})", f"{what} B ({unit})"] if measured else []
    heads += ["Agreement (IoU of A and B)"] + (["IoU of A", "IoU of B"] if scored else [])
    rows = []
    for one in scene.classes:
        named = sections.named(ClassReport(id=one.id, name=one.name, colour=one.colour, pixels=0))
        change = one.cells_b - one.cells_a
        cells = [numbers.count(one.cells_a), numbers.count(one.cells_b), f"{change:+,}"]
        cells += [write(one.extent_a), write(one.extent_b)] if measured else []
        cells += [numbers.score(one.iou)]
        cells += [numbers.score(one.score_a), numbers.score(one.score_b)] if scored else []
        body = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{named}<span class="id">{one.id}</span></th>{body}</tr>')
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    return (
        '<section aria-labelledby="classes"><h2 id="classes">Classes</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Classes, table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _facts(scene: SceneComparison) -> str:
    if not scene.facts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(one.name)}</th><td class="file">{escape(one.a)}</td>'
        f'<td class="file">{escape(one.b)}</td></tr>'
        for one in scene.facts
    )
    return (
        '<section aria-labelledby="facts"><h2 id="facts">What else differs</h2>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Facts, table"><table class="pairs">'
        f'<thead><tr><th scope="col">Fact</th><th scope="col">A</th><th scope="col">B</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _recipe(diff: Sequence[str]) -> str:
    if not diff:
        return ""
    return (
        '<section class="recipe" aria-labelledby="recipe"><h2 id="recipe">Recipes</h2>'
        '<p class="hint">− only in A, + only in B.</p>'
        f'<pre tabindex="0" role="region" aria-label="Difference of the recipes"><code>{escape(chr(10).join(diff))}'
        "</code></pre></section>"
    )
