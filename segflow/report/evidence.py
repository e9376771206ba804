"""The sections that let a reader judge a scene's labels: worst places, confidence, what was exported, the recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from math import isnan

import numpy as np
from numpy.typing import NDArray

from segflow.report import numbers
from segflow.report.images import NAMES, Figure, figures
from segflow.report.parts import (
    Cell,
    checksum,
    code_block,
    error_text,
    facts_list,
    file_size,
    meter,
    named,
    section,
    table,
)
from segflow.report.pictures import Confidence, Pictures, Place
from segflow.report.schema import ClassReport, ExportFacts

_PLACES_BYTES = 1_500_000
_BINS = 32


def worst_section(pictures: Pictures, classes: Sequence[ClassReport], names: tuple[str, str] = NAMES) -> str:
    """Return the worst places as thumbnails, each with a link that moves the picture above to it."""
    if not pictures.worst:
        return ""
    drawn = figures([place.view for place in pictures.worst], classes, _PLACES_BYTES, names)
    items = "".join(_place(place, figure, pictures, names) for place, figure in zip(pictures.worst, drawn, strict=True))
    if pictures.by_confidence:
        hint = "Where the network was least sure: without a reference, the first places to look at."
    else:
        hint = "Where the largest share of cells differs, the worst first. Chequered: no class, or not compared."
    title = "Worst places" if names == NAMES else "Where most has changed"
    return section("worst", title, f'<ol class="places">{items}</ol>', hint)


def _place(place: Place, figure: Figure, pictures: Pictures, names: tuple[str, str]) -> str:
    kinds = ("input", "labels", "reference")
    shown = replace(figure, panels=tuple(panel for panel in figure.panels if panel.kind in kinds))
    panels = "".join(
        f'<figure class="pixelated"><span class="stack" style="aspect-ratio:{shown.width:.0f}/{shown.height:.2f}">'
        f'<img src="{panel.uri}" alt="{escape(panel.alt)}"></span>'
        f"<figcaption>{escape(panel.title)}</figcaption></figure>"
        for panel in shown.panels
    )
    value = numbers.percent(place.value, 1.0)
    wrong = "wrong" if names == NAMES else "changed"
    said = f"mean confidence {place.value:.2f}" if pictures.by_confidence else f"{value} {wrong}"
    at = escape(json.dumps(list(place.at)))
    return (
        f'<li><div class="panels" style="--panels:{len(shown.panels)}">{panels}</div>'
        f"<p><b>{said}</b> <span>{escape(figure.title)}</span> "
        f'<a class="goto" href="#viewer" data-at="{at}">Show above</a></p></li>'
    )


def confidence_section(confidence: Confidence | None, classes: Sequence[ClassReport]) -> str:
    """Return a histogram of the confidence and its mean by class."""
    total = 0 if confidence is None else int(confidence.counts.sum())
    if confidence is None or not total:
        return ""
    thinned = "" if confidence.step == 1 else f" Of every {confidence.step}th cell on each axis."
    rows = "".join(
        f"<div>{named(item)}</div>"
        f"<div>{meter(0.0 if isnan(mean) else mean, colour=item.colour)}</div>"
        f'<div class="value">{numbers.DASH if isnan(mean) else f"{mean:.3f}"}</div>'
        for item, mean in zip(classes, confidence.by_class.tolist(), strict=True)
    )
    mean = float((confidence.counts * np.arange(256)).sum() / total / 255)
    scale = ", on a logarithmic scale" if _steep(confidence) else ""
    sure = numbers.percent(int(confidence.counts[230:].sum()), total)
    hint = (
        "The largest blended probability of each cell: what the network believes, which is not how often it is right."
        f"{thinned}"
    )
    body = (
        f'<div class="columns"><figure>{_histogram(confidence)}<figcaption class="hint">Cells by confidence{scale}. '
        f"Mean {mean:.3f}; {sure} of the cells are over 0.9.</figcaption></figure>"
        f'<div><h3 class="small">Mean by predicted class</h3><div class="stages">{rows}</div></div></div>'
    )
    return section("confidence", "Confidence", body, hint)


def _binned(confidence: Confidence) -> NDArray[np.int64]:
    return np.asarray(confidence.counts.reshape(_BINS, -1).sum(axis=1), np.int64)


def _steep(confidence: Confidence) -> bool:
    """Tell whether one bin holds most cells, so that the others are only seen on a logarithmic scale."""
    counts = _binned(confidence)
    return bool(counts.max() > counts.sum() / 2)


def _histogram(confidence: Confidence) -> str:
    counts = _binned(confidence)
    top, total = int(counts.max()), int(counts.sum())
    wide = 100 / _BINS
    heights = 60 * (np.log1p(counts) / np.log1p(top) if _steep(confidence) else counts / top)
    bars = "".join(
        f'<rect class="iou" x="{i * wide:.3f}" y="{60 - height:.2f}" width="{wide * 0.86:.3f}" height="{height:.2f}"/>'
        for i, height in enumerate(heights.tolist())
        if height
    )
    said = f"Histogram of confidence from 0 to 1; the fullest bin holds {numbers.percent(top, total)} of the cells"
    return (
        f'<svg class="histogram" viewBox="0 0 100 60" preserveAspectRatio="none" role="img" aria-label="{said}">{bars}'
        '</svg><div class="scale"><span>0</span><span>0.25</span><span>0.5</span><span>0.75</span><span>1</span></div>'
    )


def exports_section(exports: Sequence[ExportFacts]) -> str:
    """Return what other formats were written of the label map, and before that what was not, and why."""
    failed = [(item.name, f"Not written: {error_text(item.error)}") for item in exports if item.error is not None]
    rows = [
        (escape(item.name), Cell(escape(file.name), "file"), file_size(file.bytes), checksum(file.sha256))
        for item in exports
        for file in item.files
    ]
    heads = ("Export", Cell("File", "text"), "Size", Cell("sha256", "text"))
    told = facts_list(failed, "facts failed") if failed else ""
    return section("exports", "Exports", told + (table("Exports", heads, rows) if rows else ""))


def recipe_section(text: str) -> str:
    """Return the recipe as it ran, YAML; nothing where it is not known."""
    hint = "What was set; everything else was left at its default."
    return section("recipe", "Recipe as it ran", code_block("Recipe, YAML", text), hint)
