"""QGIS styles, which QGIS loads by itself: `<labels>.qml` with the label map, `<scene>.qml` with the polygons' files.

The XML is QGIS's layer style: of a single band that is shown by a palette (`QgsPalettedRasterRenderer`), and of
polygons that are filled by the value of a column (`QgsCategorizedSymbolRenderer`). A style beside the file serves
GeoPackage, FlatGeobuf and GeoJSON alike; one inside of a GeoPackage (`layer_styles`) would be a second layer to all
other readers.
"""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segflow.io.atomic import write_text
from segflow.io.exports.protocol import Published
from segflow.models.card import LabelClass

_HEAD = "<!DOCTYPE qgis>\n"
_OUTLINE = {"outline_style": "solid", "outline_width": "0.1", "outline_width_unit": "MM"}
"""As thin as it can be, in the fill's colour: without it, neighbours are parted by white hairlines."""


class Qml:
    """The styles. See `segflow.io.exports.Exporter`.

    Args:
        polygons: whether there are files of polygons.
    """

    name = "qml"

    def __init__(self, polygons: bool = False) -> None:
        self._polygons = polygons

    @property
    def settings(self) -> Mapping[str, Any]:
        """Whether polygons have a style."""
        return {"polygons": True} if self._polygons else {}

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the styles' names: those of what they are of, with another ending."""
        return tuple(folder / f"{scene}{what}.qml" for what in ("_labels", *([""] if self._polygons else [])))

    def require(self, published: Published) -> None:
        """Refuse nothing: every raster can be styled."""

    def write(self, published: Published) -> None:
        """Write the styles.

        Raises:
            OutputError: a file cannot be written.
        """
        made = (style, polygon_style)
        for path, text in zip(self.files(published.scene, published.folder), made, strict=False):
            write_text(path, text(published.card.classes))


def is_our_style(path: Path) -> bool:
    """Tell whether a style is as it was written here: QGIS, which writes its own over it, begins with a longer line."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline() == _HEAD
    except (OSError, UnicodeError):
        return False


def style(classes: Sequence[LabelClass]) -> str:
    """Return the style of a label map: a colour and a name for each class."""
    root = _root()
    renderer = Xml.SubElement(
        Xml.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = Xml.SubElement(renderer, "colorPalette")
    for item in _sorted(classes):
        entry = {"value": str(item.id), "color": item.colour, "label": item.name, "alpha": "255"}
        Xml.SubElement(palette, "paletteEntry", entry)
    return _text(root)


def polygon_style(classes: Sequence[LabelClass]) -> str:
    """Return the style of polygons that have a `class_id`: a colour and a name for each class."""
    root = _root()
    renderer = Xml.SubElement(root, "renderer-v2", type="categorizedSymbol", attr="class_id", forceraster="0")
    categories, symbols = Xml.SubElement(renderer, "categories"), Xml.SubElement(renderer, "symbols")
    for item in _sorted(classes):
        name = str(item.id)
        entry = {"value": name, "type": "integer", "label": item.name, "render": "true", "symbol": name}
        Xml.SubElement(categories, "category", entry)
        symbol = Xml.SubElement(symbols, "symbol", type="fill", name=name, alpha="1", clip_to_extent="1")
        layer = Xml.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "locked": "0", "pass": "0"})
        colour = ",".join(map(str, (*item.rgb, 255)))
        options = Xml.SubElement(layer, "Option", type="Map")
        for key, value in {"color": colour, "style": "solid", "outline_color": colour, **_OUTLINE}.items():
            Xml.SubElement(options, "Option", name=key, value=value, type="QString")
    return _text(root)


def _sorted(classes: Sequence[LabelClass]) -> list[LabelClass]:
    return sorted(classes, key=lambda item: item.id)


def _root() -> Xml.Element:
    return Xml.Element("qgis", version="3.22", styleCategories="Symbology")


def _text(root: Xml.Element) -> str:
    Xml.indent(root)
    return _HEAD + Xml.tostring(root, encoding="unicode") + "\n"
