"""The first screen's picture: a map or slices with a line to swipe, opacity and classes, as HTML and data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

from segflow.report.codec import text_of
from segflow.report.images import NAMES
from segflow.report.parts import swatch
from segflow.report.pictures import BaseMap, Pictures
from segflow.report.schema import ClassReport, GridReport
from segflow.report.sections import legend_facts

_SAFE = (
    '<button type="button" class="plain" data-part="safe" aria-pressed="false" title="Other colours on this picture, '
    'which colour-blind readers tell apart">Colour-blind colours</button>'
)
_SAFE_COLOURS = 8
"""Colours that colour-blind readers tell apart: so many has the script."""


def viewer(pictures: Pictures, classes: Sequence[ClassReport], grid: GridReport, names: tuple[str, str] = NAMES) -> str:
    """Return the viewer, hidden until its script runs, with the data and the libraries that it needs; "" if none.

    Args:
        pictures: what is shown.
        classes: their names and colours.
        grid: of the label map.
        names: how the labels, and what they are compared with, are called.
    """
    shown = pictures.pyramid or pictures.voxels
    if shown is None:
        return ""
    raster = pictures.pyramid is not None
    stage = _map() if raster else _planes()
    background = None if raster or classes[0].id != 0 else 0
    base = "" if pictures.basemap is None else _base(pictures.basemap)
    controls = _controls(_modes(pictures, names), classes, raster, background, base)
    library = "map" if raster else "volume"
    return (
        f'<section class="viewer" id="viewer" aria-label="Picture" data-kind="{grid.kind}" hidden>'
        f'<div class="stage">{stage}<p class="readout" data-part="readout" role="status"></p></div>{controls}</section>'
        f'<script type="application/json" id="viewer-data">{_data(pictures, classes, grid, names)}</script>'
        f'<script type="text/plain" id="vendor-{library}">{_vendored(library)}</script>'
    )


def scripts(pictures: Pictures) -> tuple[str, ...]:
    """Return the names of the scripts that a page with these pictures needs."""
    if pictures.pyramid is not None:
        return ("viewer", "viewer-map")
    return ("viewer", "viewer-slices") if pictures.voxels is not None else ()


def _modes(pictures: Pictures, names: tuple[str, str]) -> dict[str, str]:
    """Return what can be shown, with its name."""
    shown = pictures.pyramid
    if shown is not None:
        held = set().union(*(tile.keys() for tile in shown.tiles.values()))
    else:
        voxels = pictures.voxels
        held = {"r"} if voxels is not None and voxels.reference is not None else set()
        held |= {"c"} if voxels is not None and voxels.confidence is not None else set()
    modes = {"input": "Input", "labels": names[0]}
    modes |= {"reference": names[1], "difference": "Difference"} if "r" in held else {}
    return modes | ({"confidence": "Confidence"} if "c" in held else {})


def _map() -> str:
    return (
        '<div class="pane raster"><div class="map" data-part="map" tabindex="0" role="application" '
        'aria-label="Map of the scene. Arrow keys move it, plus and minus zoom; what is in the middle is told below.">'
        '</div><div class="line" aria-hidden="true"></div></div>'
    )


def _planes() -> str:
    figures = "".join(
        f'<figure data-plane="{axis}"><div class="pane" tabindex="0" role="group" aria-label="{name} slice. Up and '
        f'down change the slice."><canvas role="img" aria-label="{name} slice with the chosen layers"></canvas>'
        f'<div class="cross" aria-hidden="true"></div><div class="line" aria-hidden="true"></div></div>'
        f'<figcaption><span id="plane-{axis}">{name}</span><input type="range" min="0" value="0" '
        f'aria-labelledby="plane-{axis}"><output></output></figcaption></figure>'
        for name, axis in (("Axial", "z"), ("Coronal", "y"), ("Sagittal", "x"))
    )
    return (
        f'<div class="planes">{figures}<figure class="solid" data-part="solid-pane" hidden><div class="pane">'
        '<canvas role="img" aria-label="The labels in three dimensions"></canvas></div><figcaption>'
        '<span data-part="solid-note" role="status"></span></figcaption></figure></div>'
    )


def _controls(
    modes: Mapping[str, str], classes: Sequence[ClassReport], raster: bool, background: int | None, base: str
) -> str:
    def choice(part: str, text: str, chosen: str) -> str:
        options = "".join(
            f'<option value="{mode}"{" selected" if mode == chosen else ""}>{escape(name)}</option>'
            for mode, name in modes.items()
        )
        return f'<label class="row"><span>{text}</span><select data-part="{part}">{options}</select></label>'

    def slider(part: str, text: str) -> str:
        return (
            f'<label class="row"><span>{text}</span>'
            f'<input type="range" min="0" max="100" step="1" data-part="{part}"></label>'
        )

    compared = modes["labels"] != NAMES[0] and "reference" in modes
    first, second = ("labels", "reference") if compared else ("input", "labels")
    buttons = (
        '<button type="button" class="plain" data-part="in" aria-label="Zoom in">+</button>'
        '<button type="button" class="plain" data-part="out" aria-label="Zoom out">−</button>'
        '<button type="button" class="plain" data-part="whole">Whole scene</button>'
        if raster
        else '<button type="button" class="plain" data-part="solid" aria-pressed="false">Show in 3-D</button>'
    )
    rows = "".join(
        f'<label class="class"><input type="checkbox" data-class="{place}"{"" if place == background else " checked"}>'
        f"{swatch(item.colour)}<span>{escape(item.name)}</span><small>{fact}</small></label>"
        for place, (item, fact) in enumerate(zip(classes, legend_facts(classes), strict=True))
    )
    ramp = (
        '<div class="row"><span>Confidence</span><div><div class="ramp"></div><small>0 … 1</small></div></div>'
        if "confidence" in modes
        else ""
    )
    return (
        f'<div class="controls">{choice("left", "Left", first)}{choice("right", "Right", second)}'
        f"{slider('line', 'Swipe')}{slider('opacity', 'Opacity')}{ramp}"
        f'<div class="buttons">{buttons}<button type="button" class="plain" data-part="all">All classes</button>'
        f"{_SAFE if len(classes) <= _SAFE_COLOURS else ''}</div>"
        f'{base}<fieldset><legend>Classes</legend><div class="classes">{rows}</div></fieldset></div>'
    )


def _base(basemap: BaseMap) -> str:
    host = escape(basemap.origin.split("//")[1])
    return (
        '<label class="class"><input type="checkbox" data-part="basemap"><span></span><span>Base map</span>'
        f"<small>asks {host} for pictures</small></label>"
    )


def _data(pictures: Pictures, classes: Sequence[ClassReport], grid: GridReport, names: tuple[str, str]) -> str:
    """Return the viewer's data as JSON that cannot end its element."""
    plain: dict[str, Any] = {
        "kind": grid.kind,
        "shape": list(grid.shape),
        "metres": grid.spacing[1] if grid.kind == "raster" and grid.spacing is not None else None,
        "names": list(names),
        "classes": [{"id": item.id, "name": item.name, "colour": item.colour} for item in classes],
    }
    if pictures.basemap is not None:
        plain["basemap"] = {"url": pictures.basemap.url, "to": pictures.basemap.to_mercator}
    if pictures.pyramid is not None:
        plain["map"] = pictures.pyramid.data()
    elif pictures.voxels is not None:
        plain["volume"] = pictures.voxels.data()
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\N{LINE SEPARATOR}", "\\u2028")


@cache
def _vendored(name: str) -> str:
    """Return a library of others as base64 of its gzip; its licence lies beside it."""
    return text_of(files("segflow.report").joinpath("vendor", f"{name}.js.gz").read_bytes())
