"""The page of a training: what was trained on what, how well it does, its curves, and where it is worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from math import isfinite
from typing import TYPE_CHECKING, Any

from segflow.report import numbers, sections
from segflow.report.confusion import confusion_section
from segflow.report.evidence import recipe_section
from segflow.report.images import Figure, figures
from segflow.report.page import document
from segflow.report.parts import facts_list, figures_row, named, notices, section, with_id
from segflow.report.preview import Preview
from segflow.report.schema import ClassReport, ConfusionReport, OverallReport
from segflow.report.training import TrainingReport, Worst
from segflow.report.training_curves import broken_steps, curves_section

if TYPE_CHECKING:
    from segflow.metrics import Scores
    from segflow.models.card import Card

SHOWN = 24
"""Worst patches on the page at most."""


def training_page(report: TrainingReport) -> str:
    """Return the page as HTML text; what the report lacks has no section."""
    card = report.card
    result = None if report.final is None else _finite(report.final)
    classes = _classes(card, result)
    overall = None
    if result is not None and result["overall"] is not None:
        overall = OverallReport.model_validate(result["overall"])
    cells = "pixels" if card.kind == "raster" else "voxels"
    body = [
        notices([*map(escape, _notices(report, overall))]),
        _headline(report, overall, result, cells),
        _class_section(classes, overall, cells),
        curves_section(report),
        sections.bars_section(classes) if overall is not None else "",
        _confusion(result, classes),
        _worst(report.worst, classes, card.kind),
        _facts(report),
        recipe_section(report.recipe_text),
    ]
    title = f"{card.name} · training · segflow"
    return document(title, "Training report", card.name, _lead(report), body, overall, ("training.css", "training.js"))


def _finite(value: Any) -> Any:
    """Return plain data with None in the place of every number that is none."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def _classes(card: Card, result: Mapping[str, Any] | None) -> tuple[ClassReport, ...]:
    """Return the classes with their scores, or from the card alone."""
    if result is not None:
        return tuple(ClassReport.model_validate(item) for item in result["classes"])
    return tuple(ClassReport(id=item.id, name=item.name, colour=item.colour, pixels=0) for item in card.classes)


def _lead(report: TrainingReport) -> str:
    card, told = report.card, {**report.card.training, **report.facts}
    network = f"<b>{escape(card.architecture)}</b>"
    shape = [f"{name} {value}" for name, value in card.arguments.items() if name in ("width", "depth", "encoder_name")]
    network += f" ({escape(', '.join(shape))})" if shape else ""
    if told.get("parameters"):
        network += f" of {escape(_count(told['parameters']))} parameters"
    said = [f"{network}, from {escape(', '.join(card.channels))} to {_plural(len(card.classes), 'class', 'classes')}"]
    scenes = told.get("scenes")
    trained = f"Trained on {escape(_scenes(scenes))}" if scenes else "Trained"
    if report.points:
        trained += f" for {_plural(report.points[-1].step, 'step')}"
    if told.get("batch"):
        trained += f" of {escape(_count(told['batch']))} patches"
    if report.points:
        trained += f" in {numbers.seconds(report.points[-1].seconds)}"
    said.append(trained)
    if report.final is not None and report.final["overall"] is not None:
        said.append(f"Scored on {numbers.short(report.final['overall']['pixels_scored'])} cells that were held back")
    purpose = f'<p class="lead">{escape(card.description)}</p>' if card.description else ""
    return f'<p class="lead">{". ".join(said)}.</p>{purpose}'


def _count(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _scenes(value: object) -> str:
    count = len(value) if isinstance(value, list | tuple) else value
    return _plural(count, "scene") if isinstance(count, int) else str(count)


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _headline(report: TrainingReport, overall: OverallReport | None, result: Scores | None, cells: str) -> str:
    if overall is not None and result is not None:
        excluded = result["excluded"]
        return sections.tiles(overall, excluded, excluded + overall.pixels_scored, cells)
    shown = []
    if report.points:
        last = report.points[-1]
        loss = f"{last.loss:.4g}" if isfinite(last.loss) else "not a number"
        shown = [("Last loss", loss), ("Steps", f"{last.step:,}"), ("Time", numbers.seconds(last.seconds))]
    return figures_row(shown)


def _notices(report: TrainingReport, overall: OverallReport | None) -> list[str]:
    found = list(report.notices)
    if overall is None and not report.scored:
        found.append(
            "Nothing was held back, so how well the model does is not known: a low loss says only that it has learnt "
            "what it was shown. Set train.validation to hold back scenes, a region or folds."
        )
    broken = broken_steps(report.points)
    if broken:
        found.append(
            f"The loss was not a number at {_plural(len(broken), 'step')}, first at step {broken[0]:,}. "
            "A lower train.learning_rate or train.clip mends most such cases."
        )
    return found


def _class_section(classes: Sequence[ClassReport], overall: OverallReport | None, cells: str) -> str:
    if overall is None:
        items = "".join(f"<li>{with_id(item)}</li>" for item in classes)
        return section("classes", "Classes", f'<ul class="legend">{items}</ul>')
    hint = f"Of the {cells} that were held back. Shares and {cells} are of the prediction, support is of the reference."
    return section("classes", "Classes", sections.class_table(classes, cells), hint)


def _confusion(result: Mapping[str, Any] | None, classes: Sequence[ClassReport]) -> str:
    if result is None or result["confusion_matrix"] is None:
        return ""
    return confusion_section(ConfusionReport.model_validate(result["confusion_matrix"]), classes)


def _worst(worst: Sequence[Worst], classes: Sequence[ClassReport], kind: str) -> str:
    if not worst:
        return ""
    views = [
        Preview(
            item.scene,
            item.image,
            item.predicted,
            reference=item.reference,
            note=f"{numbers.percent(item.accuracy, 1.0)} right · {place_text(item, kind)}",
        )
        for item in worst[:SHOWN]
    ]
    shown = "".join(sections.view(_triple(figure)) for figure in figures(views, classes))
    legend = "".join(f"<li>{named(item)}</li>" for item in classes)
    hint = "Patches of what was held back, the worst first. Chequered: not scored, or no class."
    body = f'<ul class="legend" aria-label="Colours">{legend}</ul><div class="triples">{shown}</div>{sections.TOOLS}'
    return section("worst", "Worst patches", body, hint)


def place_text(item: Worst, kind: str) -> str:
    """Return where a patch lies, as people say it: x before y for rasters, first and last cell."""
    names = ("y", "x") if kind == "raster" else ("x", "y", "z")
    spans = [
        f"{name} {low:,}" if high - low == 1 else f"{name} {low:,}–{high - 1:,}"
        for name, low, high in zip(names, item.box.start, item.box.stop, strict=True)
    ]
    return ", ".join(reversed(spans) if kind == "raster" else spans)


def _triple(figure: Figure) -> Figure:
    """Return the panels as input, reference, prediction."""
    by_kind = {panel.kind: panel for panel in figure.panels}
    return replace(figure, panels=tuple(by_kind[kind] for kind in ("input", "reference", "labels")))


def _facts(report: TrainingReport) -> str:
    shown = [(name, _text(value)) for name, value in report.facts.items() if value not in (None, "", (), [], {})]
    if report.points:
        last = report.points[-1]
        shown.append(("Time a step", numbers.seconds(last.seconds / max(last.step, 1))))
    card = report.card
    made = [
        ("Channels", ", ".join(card.channels)),
        ("Patch of the model", " × ".join(str(n) for n in card.patch)),
        ("Normalisation", _normalisation(card)),
        ("Arguments", _text(card.arguments)),
        ("Licence of the weights", card.licence),
    ]
    if not shown:
        return ""
    lists = "".join(
        facts_list([(_words(name), escape(value)) for name, value in part if value]) for part in (shown, made)
    )
    return section("run", "How it ran", f'<div class="columns">{lists}</div>')


def _normalisation(card: Card) -> str:
    rule = card.normalisation
    if rule.source == "scene":
        return "mean and deviation of each scene" + (", over what is not zero" if rule.over == "nonzero" else "")
    return f"(value − {_row(rule.mean)}) / {_row(rule.deviation)}"


def _row(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(set(values)) == 1 else "(" + ", ".join(f"{value:g}" for value in values) + ")"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if value >= 10_000 else str(value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)
