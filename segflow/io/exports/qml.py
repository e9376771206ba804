"""A QGIS style beside a label map: `<labels>.qml`, which QGIS loads by itself with the raster.

The XML is QGIS's layer style of a single band that is shown by a palette (`QgsPalettedRasterRenderer`).
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


class Qml:
    """The style. See `segflow.io.exports.Exporter`."""

    name = "qml"
    settings: Mapping[str, Any] = {}

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return the style's name: that of the label map, with another ending."""
        return (folder / f"{scene}_labels.qml",)

    def require(self, published: Published) -> None:
        """Refuse nothing: every raster can be styled."""

    def write(self, published: Published) -> None:
        """Write the style.

        Raises:
            OutputError: the file cannot be written.
        """
        write_text(self.files(published.scene, published.folder)[0], style(published.card.classes))


def is_our_style(path: Path) -> bool:
    """Tell whether a style is as it was written here: QGIS, which writes its own over it, begins with a longer line."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline() == _HEAD
    except (OSError, UnicodeError):
        return False


def style(classes: Sequence[LabelClass]) -> str:
    """Return the document: a colour and a name for each class."""
    root = Xml.Element("qgis", version="3.22", styleCategories="Symbology")
    renderer = Xml.SubElement(
        Xml.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    palette = Xml.SubElement(renderer, "colorPalette")
    for item in sorted(classes, key=lambda item: item.id):
        entry = {"value": str(item.id), "color": item.colour, "label": item.name, "alpha": "255"}
        Xml.SubElement(palette, "paletteEntry", entry)
    Xml.indent(root)
    return _HEAD + Xml.tostring(root, encoding="unicode") + "\n"
