"""Label maps of several scenes as one raster: a GDAL VRT with their colours and class names, which copies no pixel."""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Sequence
from pathlib import Path

from segflow.io.atomic import write_text
from segflow.io.mosaic import aligned
from segflow.io.rat import table_xml
from segflow.models.card import LabelClass

_LABELS = "_labels.tif"
_MARK = "SEGFLOW_SCENES"


def scenes_of(path: Path) -> list[str]:
    """Return the scenes whose label maps a VRT tells of; none where it is not ours."""
    try:
        sources = [item.text or "" for item in Xml.parse(path).iter("SourceFilename")]
    except (OSError, Xml.ParseError):
        return []
    return [name.removesuffix(_LABELS) for name in sources if name.endswith(_LABELS)]


def is_our_vrt(path: Path) -> bool:
    """Tell whether a VRT was written here, and not by the folder's owner with GDAL."""
    try:
        return Xml.parse(path).find(f"./Metadata/MDI[@key='{_MARK}']") is not None
    except (OSError, Xml.ParseError):
        return False


def write_label_vrt(path: Path, labels: Sequence[Path], classes: Sequence[LabelClass], nodata: int) -> None:
    """Write the VRT beside its label maps; where they overlap, a later one lies on top, but for its nodata.

    Args:
        path: the VRT.
        labels: in its folder, on one grid.
        classes: of all of them.
        nodata: of all of them.

    Raises:
        InputError: a label map has no georeference.
        GridMismatchError: two do not lie on one grid.
        OutputError: the file cannot be written.
    """
    found = aligned([str(item) for item in labels])
    rows, columns = found.shape
    root = Xml.Element("VRTDataset", rasterXSize=str(columns), rasterYSize=str(rows))
    crs = found.headers[0].crs
    if crs is not None:
        Xml.SubElement(root, "SRS").text = crs.to_wkt()
    Xml.SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, found.affine.to_gdal())))
    Xml.SubElement(Xml.SubElement(root, "Metadata"), "MDI", key=_MARK).text = str(len(labels))
    band = Xml.SubElement(root, "VRTRasterBand", dataType="Byte", band="1")
    Xml.SubElement(band, "Description").text = "class"
    Xml.SubElement(band, "NoDataValue").text = str(nodata)
    Xml.SubElement(band, "ColorInterp").text = "Palette"
    table = Xml.SubElement(band, "ColorTable")
    colours = {item.id: (*item.rgb, 255) for item in classes}
    for value in range(max(*colours, nodata) + 1):
        parts = zip(("c1", "c2", "c3", "c4"), map(str, colours.get(value, (0, 0, 0, 0))), strict=True)
        Xml.SubElement(table, "Entry", dict(parts))
    attributes = Xml.fromstring(table_xml(classes)).find("./PAMRasterBand/GDALRasterAttributeTable")
    if attributes is not None:
        band.append(attributes)
    for header, box in zip(found.headers, found.boxes, strict=True):
        source = Xml.SubElement(band, "ComplexSource")
        Xml.SubElement(source, "SourceFilename", relativeToVRT="1").text = Path(header.path).name
        Xml.SubElement(source, "SourceBand").text = "1"
        extent = {"xSize": str(box.shape[1]), "ySize": str(box.shape[0])}
        Xml.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **extent})
        Xml.SubElement(source, "DstRect", {"xOff": str(box.start[1]), "yOff": str(box.start[0]), **extent})
        Xml.SubElement(source, "NODATA").text = str(nodata)
    Xml.indent(root)
    write_text(path, Xml.tostring(root, encoding="unicode") + "\n")
