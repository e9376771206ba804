"""The pages of a comparison: what changed between two runs, class by class, where, and why it may have."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from segflow.report import evidence, facts, numbers
from segflow.report.comparison import ClassChange, RunComparison, SceneComparison
from segflow.report.confusion import WHOLE, confusion_table, pairs_table
from segflow.report.images import figures
from segflow.report.page import document
from segflow.report.parts import Cell, code_block, figures_row, notices, section, table, with_id
from segflow.report.pictures import Pictures
from segflow.report.schema import ClassReport, ConfusionReport
from segflow.report.sections import pictures
from segflow.report.viewer import scripts, viewer

NAMES = ("A", "B")
_DIFF = "− only in A, + only in B."


def scene_comparison_page(scene: SceneComparison, shown: Pictures, folders: tuple[str, str]) -> str:
    """Return the page of one scene as HTML text.

    Args:
        scene: what was found.
        shown: its pictures, A in the place of the labels and B in that of the reference.
        folders: names of A and B.
    """
    classes = _classes(scene.classes)
    stage = viewer(shown, classes, scene.grid, NAMES)
    # Counts have A in the rows; the table's rows are its second name.
    matrix = ConfusionReport(
        labels=tuple(item.id for item in scene.classes), counts=tuple(row[:-1] for row in scene.counts[:-1])
    )
    body = [
        _tiles(scene),
        stage,
        pictures(figures(shown.previews, classes, names=NAMES), classes, still=bool(stage)),
        _class_section(scene),
        _became(matrix, classes),
        evidence.worst_section(shown, classes, NAMES),
        _facts(scene),
        section("recipe", "Recipes", code_block("Difference of the recipes", "\n".join(scene.recipe)), _DIFF),
    ]
    same = "" if scene.changed else " Every cell has the same class in both."
    lead = f'<p class="lead">{facts.extent(scene.grid)}. {_folders(folders)}{same}</p>'
    more = ("viewer.css", *(f"{name}.js" for name in scripts(shown)))
    return document(f"{scene.scene} · compared · segflow", "Comparison", scene.scene, lead, body, None, more)


def comparison_page(run: RunComparison) -> str:
    """Return the index of a comparison as HTML text, with links to the scenes' pages beside it."""
    rows = [
        (
            f'<a href="{quote(item.scene)}_compare.html">{escape(item.scene)}</a>',
            numbers.count(item.changed),
            Cell(numbers.percent(item.changed, item.cells), value=item.changed / item.cells if item.cells else 0.0),
            Cell("yes" if item.same_fingerprint else "no", "text"),
            numbers.count(len(item.facts)),
        )
        for item in run.scenes
    ]
    heads = ("Scene", "Cells that differ", "Share", Cell("Same input and settings", "text"), "Facts that differ")
    lost = [f"<b>{escape(one.scene)}</b> is not compared: {escape(one.why)}" for one in run.lost]
    body = [notices(lost), section("scenes", "Scenes", table("Scenes", heads, rows, sorts=True) if rows else "")]
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
        ("Input and settings", "the same" if scene.same_fingerprint else "differ"),
        ("Facts that differ", numbers.count(len(scene.facts))),
    ]  # fmt: skip
    return figures_row(shown)


def _class_section(scene: SceneComparison) -> str:
    volume = scene.grid.kind == "volume"
    column = numbers.volume_column if volume else numbers.area_column
    unit, write = column([one.extent_a for one in scene.classes] + [one.extent_b for one in scene.classes])
    measured = any(one.extent_a is not None for one in scene.classes)
    scored = any(one.score_a is not None or one.score_b is not None for one in scene.classes)
    what = "Volume" if volume else "Area"
    heads: list[str | Cell] = ["Class", "Cells in A", "Cells in B", "Change"]
    heads += [f"{what} A ({unit})", f"{what} B ({unit})"] if measured else []
    heads += ["Agreement (IoU of A and B)"] + (["IoU of A", "IoU of B"] if scored else [])
    rows = []
    for one, item in zip(scene.classes, _classes(scene.classes), strict=True):
        change = one.cells_b - one.cells_a
        row: list[str | Cell] = [with_id(item), numbers.count(one.cells_a), numbers.count(one.cells_b)]
        row.append(Cell(f"{change:+,}" if change else "0", value=change))
        row += [write(one.extent_a), write(one.extent_b)] if measured else []
        row += map(numbers.score, (one.iou, *((one.score_a, one.score_b) if scored else ())))
        rows.append(row)
    return section("classes", "Classes", table("Classes", heads, rows, sorts=True))


def _became(matrix: ConfusionReport, classes: Sequence[ClassReport]) -> str:
    """Return what became of each class; of very many classes the largest changes alone."""
    if len(classes) > WHOLE:
        pairs = pairs_table(matrix, classes, "Largest changes", ("In B", "In A"))
        return section("confusion", "From A to B", pairs, f"The largest changes among {len(classes)} classes.")
    hint = "What became in B of each class of A. The outlined diagonal is what stayed."
    return section("confusion", "From A to B", confusion_table(matrix, classes, ("B", "A")), hint)


def _facts(scene: SceneComparison) -> str:
    rows = [(escape(one.name), Cell(escape(one.a), "file"), Cell(escape(one.b), "file")) for one in scene.facts]
    heads = ("Fact", Cell("A", "text"), Cell("B", "text"))
    return section("facts", "What else differs", table("Facts", heads, rows, "pairs") if rows else "")
