"""Class names beside a label map: a GDAL PAM file `<map>.aux.xml` with a raster attribute table.

The XML is what GDAL's PAM reads (GDALRasterAttributeTable, element order as in GDALDataset's PAM schema): `Type` is
0 integer, 1 real, 2 string; `Usage` is 0 generic, 2 name, 5 min-max (the value itself), 6, 7, 8 red, green, blue.
"""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Sequence
from pathlib import Path

from segflow.errors import InputError
from segflow.models.card import LabelClass

_COLUMNS = (("Value", 0, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7), ("Blue", 0, 8))


def sidecar_of(path: Path) -> Path:
    """Return the name of the PAM file beside a raster."""
    return path.with_name(path.name + ".aux.xml")


def table_xml(classes: Sequence[LabelClass]) -> str:
    """Return the PAM document for one band whose values are class ids."""
    root = Xml.Element("PAMDataset")
    band = Xml.SubElement(root, "PAMRasterBand", band="1")
    table = Xml.SubElement(band, "GDALRasterAttributeTable", tableType="thematic")
    for index, (name, kind, usage) in enumerate(_COLUMNS):
        column = Xml.SubElement(table, "FieldDefn", index=str(index))
        for tag, text in (("Name", name), ("Type", str(kind)), ("Usage", str(usage))):
            Xml.SubElement(column, tag).text = text
    for index, item in enumerate(sorted(classes, key=lambda item: item.id)):
        row = Xml.SubElement(table, "Row", index=str(index))
        for text in (str(item.id), item.name, *map(str, item.rgb)):
            Xml.SubElement(row, "F").text = text
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode") + "\n"


def read_classes(path: Path) -> tuple[LabelClass, ...]:
    """Read the classes that are named beside a label map; empty where there is no table.

    Raises:
        InputError: the PAM file is not XML, or its table lacks a value or a name.
    """
    side = sidecar_of(path)
    if not side.is_file():
        return ()
    try:
        table = Xml.parse(side).getroot().find("./PAMRasterBand[@band='1']/GDALRasterAttributeTable")
        if table is None:
            return ()
        usage = [int(column.findtext("Usage", "0")) for column in table.iter("FieldDefn")]
        places = [usage.index(wanted) for wanted in (5, 2, 6, 7, 8)]
        found = []
        for row in table.iter("Row"):
            cells = [cell.text or "" for cell in row.iter("F")]
            value, name, *rgb = (cells[place] for place in places)
            colour = "#" + "".join(f"{int(part):02x}" for part in rgb)
            found.append(LabelClass(id=int(value), name=name, colour=colour))
    except (Xml.ParseError, ValueError, IndexError) as error:
        raise InputError(
            f"{side} holds no table of classes: {error}",
            "GDAL's PAM with Value, Class, Red, Green, Blue",
            "remove it, or write the label map again",
        ) from error
    return tuple(found)
