"""Sheets that lie side by side on one grid, opened as one raster: a GDAL VRT that is never written.

The VRT's text stands in the place of a path (GDAL opens it as it is), so that it goes to workers as plain data.
Format: GDAL's VRT (gdal.org/drivers/raster/vrt.html); bands, types, nodata, alpha and masks are the sheets'. What no
sheet covers is nodata; where the sheets have no nodata value and no alpha, a mask says so.
"""

from __future__ import annotations

import xml.etree.ElementTree as Xml
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.transform import Affine

from segflow.errors import GridMismatchError, InputError
from segflow.io.gdalenv import environment, is_plain, shown
from segflow.io.raster_header import open_file
from segflow.io.stamp import Stamp, stamps_of
from tiling import Box

_HAIR = 0.01
"""Of a cell: sheets that lie this near to one grid are on it."""
_TYPES = {"uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32"}
_TYPES |= {"float32": "Float32", "float64": "Float64", "uint64": "UInt64", "int64": "Int64"}
_WAY = "run them without inputs.mosaic, each by itself, or make one raster of them first (gdalwarp) and run that"


@dataclass(frozen=True, slots=True)
class _Header:
    """What must be alike in all sheets, but for where they lie."""

    path: str
    shape: tuple[int, int]
    affine: Affine
    crs: CRS | None
    types: tuple[str, ...]
    nodata: tuple[float | None, ...]
    alphas: tuple[bool, ...]
    block: tuple[int, int]
    masked: bool


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Sheets on one grid.

    Attributes:
        headers: of the sheets, in the order in which they were named.
        boxes: the cells of each sheet, on the mosaic's grid.
        affine: of the mosaic.
        shape: of the mosaic.
    """

    headers: tuple[_Header, ...]
    boxes: tuple[Box, ...]
    affine: Affine
    shape: tuple[int, int]

    def box_of(self, path: str) -> Box:
        """Return the cells of a sheet."""
        return self.boxes[[header.path for header in self.headers].index(path)]

    def opened_by(self, path: str, near: Box | None = None) -> str:
        """Return what opens the mosaic in place of a path.

        Args:
            path: the sheet that it is opened for, and named after.
            near: only sheets that touch these cells; all when None.
        """
        touching = [
            (header, box)
            for header, box in zip(self.headers, self.boxes, strict=True)
            if near is None or near.intersect(box) is not None
        ]
        gaps = sum(box.size for box in self.boxes) < prod(self.shape)
        return _vrt(path, self.shape, self.affine, touching, gaps)


def mosaic_of(paths: Sequence[str]) -> Mosaic:
    """Find out how sheets lie side by side; reads headers only, and those of unchanged files once.

    Raises:
        InputError: a sheet cannot be opened, has no georeference or is not on this machine; or two overlap.
        GridMismatchError: two do not lie on one grid, or have other bands, types or nodata.
    """
    remote = next((path for path in paths if not is_plain(path)), None)
    if remote is not None:
        raise InputError(f"{shown(remote)} is not on this machine", "sheets in files", "download them, or run a VRT")
    return _mosaic(tuple(paths), stamps_of(map(Path, paths)))


def placed(path: str, mosaic: Mosaic, box: Box) -> str:
    """Return what opens a raster that lies on one sheet, such as its label map, on the mosaic's grid.

    Raises:
        InputError: it cannot be opened.
        GridMismatchError: it has another shape than the sheet.
    """
    header = _header(path)
    if header.shape != box.shape:
        raise GridMismatchError(
            f"{shown(path)} has {header.shape[0]} x {header.shape[1]} cells, its sheet {box.shape[0]} x {box.shape[1]}",
            "both on one grid, cell for cell",
            "resample it onto the sheet's grid first (gdalwarp)",
        )
    top, left = box.start
    affine = header.affine if header.affine.is_identity else _moved(header.affine, -top, -left)
    return _vrt(path, mosaic.shape, affine, [(header, box)], gaps=header.shape != mosaic.shape)


@lru_cache(maxsize=4)
def _mosaic(paths: tuple[str, ...], stamps: tuple[Stamp, ...]) -> Mosaic:
    found = aligned(paths)
    _require_apart(found.headers, found.boxes)
    return found


def aligned(paths: Sequence[str]) -> Mosaic:
    """Find out where rasters lie on one grid; they may overlap.

    Raises:
        InputError: one cannot be opened, or has no georeference.
        GridMismatchError: two do not lie on one grid, or have other bands, types or nodata.
    """
    headers = tuple(map(_header, paths))
    first = headers[0]
    starts = []
    for header in headers:
        _require_alike(first, header)
        starts.append(_start(first, header))
    origin = tuple(min(start[axis] for start in starts) for axis in (0, 1))
    boxes = []
    for header, start in zip(headers, starts, strict=True):
        moved = (start[0] - origin[0], start[1] - origin[1])
        boxes.append(Box(moved, (moved[0] + header.shape[0], moved[1] + header.shape[1])))
    shape = (max(box.stop[0] for box in boxes), max(box.stop[1] for box in boxes))
    return Mosaic(headers, tuple(boxes), _moved(first.affine, *origin), shape)


def _header(path: str) -> _Header:
    with environment(path), open_file(path) as file:
        return _Header(
            path,
            (int(file.height), int(file.width)),
            file.transform,
            file.crs or None,
            tuple(file.dtypes),
            tuple(file.nodatavals),
            tuple(kind == ColorInterp.alpha for kind in file.colorinterp),
            (int(file.block_shapes[0][0]), int(file.block_shapes[0][1])),
            any(flag.name == "per_dataset" for flags in file.mask_flag_enums for flag in flags),
        )


def _require_alike(first: _Header, other: _Header) -> None:
    if other.affine.is_identity or other.crs is None:
        raise InputError(
            f"{other.path} has no {'georeference' if other.affine.is_identity else 'CRS'}",
            "sheets that say where they lie",
            "give it with gdal_edit.py (-a_ullr, -a_srs), or do without inputs.mosaic and outputs.vrt",
        )
    facts: list[tuple[str, Any, Any]] = [
        ("CRS", _named(first.crs), _named(other.crs)),
        ("bands", len(first.types), len(other.types)),
        ("type", ", ".join(first.types), ", ".join(other.types)),
        ("alpha bands", first.alphas, other.alphas),
        ("nodata", _texts(first.nodata), _texts(other.nodata)),
    ]
    if first.crs == other.crs:
        del facts[0]
    for what, mine, theirs in facts:
        if mine != theirs:
            raise GridMismatchError(
                f"{other.path} has {what} {theirs}, {first.path} has {mine}", f"sheets of one {what}", _WAY
            )


def _start(first: _Header, other: _Header) -> tuple[int, int]:
    """Return the row and column of the first sheet's grid at which another begins.

    Raises:
        GridMismatchError: it has other cells, or lies between them.
    """
    relative = _times(~first.affine, other.affine)
    rows, columns = other.shape
    drift = max(abs(relative.a - 1) * columns, abs(relative.b) * rows, abs(relative.d) * columns)
    drift = max(drift, abs(relative.e - 1) * rows)
    if drift > _HAIR:
        raise GridMismatchError(
            f"{other.path} has cells of {_cell(other)}, {first.path} of {_cell(first)}", "sheets of one cell size", _WAY
        )
    row, column = round(relative.f), round(relative.c)
    off = max(abs(relative.f - row), abs(relative.c - column))
    if off > _HAIR:
        raise GridMismatchError(
            f"{other.path} lies {off:.2f} of a cell beside the grid of {first.path}", "sheets on one grid", _WAY
        )
    return row, column


def _require_apart(headers: Sequence[_Header], boxes: Sequence[Box]) -> None:
    """Refuse sheets that overlap: sorted by their first row, each is compared with those that are still open."""
    held: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda k: boxes[k].start):
        held = [other for other in held if boxes[other].stop[0] > boxes[number].start[0]]
        for other in held:
            both = boxes[number].intersect(boxes[other])
            if both is not None:
                raise InputError(
                    f"{headers[other].path} and {headers[number].path} overlap in {both.shape[0]} x {both.shape[1]} "
                    "cells",
                    "sheets that lie side by side, so that each cell is one sheet's",
                    "cut them (gdal_translate -srcwin), or let a VRT say which is on top (gdalbuildvrt) and run that",
                )
        held.append(number)


def _vrt(name: str, shape: tuple[int, int], affine: Affine, sheets: Iterable[tuple[_Header, Box]], gaps: bool) -> str:
    sheets = list(sheets)
    first = sheets[0][0]
    root = Xml.Element("VRTDataset", segflow=name, rasterXSize=str(shape[1]), rasterYSize=str(shape[0]))
    if first.crs is not None:
        Xml.SubElement(root, "SRS").text = first.crs.to_wkt()
    if not affine.is_identity:
        Xml.SubElement(root, "GeoTransform").text = ", ".join(map(repr, map(float, affine.to_gdal())))
    for number, (kind, nodata, alpha) in enumerate(zip(first.types, first.nodata, first.alphas, strict=True), 1):
        band = Xml.SubElement(root, "VRTRasterBand", dataType=_type(first, kind), band=str(number))
        if nodata is not None:
            Xml.SubElement(band, "NoDataValue").text = repr(nodata)
        if alpha:
            Xml.SubElement(band, "ColorInterp").text = "Alpha"
        _add_sources(band, sheets, str(number))
    unmarked = gaps and not any(first.alphas) and None in first.nodata
    if unmarked or any(header.masked and not any(header.alphas) for header, _ in sheets):
        mask = Xml.SubElement(Xml.SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
        _add_sources(mask, sheets, "mask,1")
    return Xml.tostring(root, encoding="unicode")


def _add_sources(band: Xml.Element, sheets: Iterable[tuple[_Header, Box]], source_band: str) -> None:
    for header, box in sheets:
        source = Xml.SubElement(band, "SimpleSource")
        name = Xml.SubElement(source, "SourceFilename", relativeToVRT="0")
        name.text = str(Path(header.path).absolute())
        Xml.SubElement(source, "SourceBand").text = source_band
        (rows, columns), (high, wide) = header.shape, header.block
        size = {"RasterXSize": str(columns), "RasterYSize": str(rows)}
        kind = "uint8" if source_band.startswith("mask") else header.types[int(source_band) - 1]
        block = {"DataType": _type(header, kind), "BlockXSize": str(wide), "BlockYSize": str(high)}
        Xml.SubElement(source, "SourceProperties", size | block)
        extent = {"xSize": str(columns), "ySize": str(rows)}
        Xml.SubElement(source, "SrcRect", {"xOff": "0", "yOff": "0", **extent})
        Xml.SubElement(source, "DstRect", {"xOff": str(box.start[1]), "yOff": str(box.start[0]), **extent})


def _type(header: _Header, kind: str) -> str:
    if kind not in _TYPES:
        raise InputError(f"{header.path} holds {kind}", "whole or floating-point values", "convert it (gdal_translate)")
    return _TYPES[kind]


def _named(crs: CRS | None) -> str:
    return "none" if crs is None else crs.to_string() if len(crs.to_string()) < 60 else crs.to_wkt()[:60] + "..."


def _texts(values: Iterable[float | None]) -> tuple[str, ...]:
    """Return nodata values so that NaN equals NaN."""
    return tuple("none" if value is None else f"{np.float64(value):.17g}" for value in values)


def _times(one: Affine, two: Affine) -> Affine:
    """Return what moves points by `two`, then by `one` (affine 2 and 3 disagree on the operator)."""
    a, b, c, d, e, f = one[:6]
    g, h, i, j, k, m = two[:6]
    return Affine(a * g + b * j, a * h + b * k, a * i + b * m + c, d * g + e * j, d * h + e * k, d * i + e * m + f)


def _moved(affine: Affine, rows: int, columns: int) -> Affine:
    """Return the affine of a raster whose first cell is another one of the same grid."""
    return _times(affine, Affine.translation(columns, rows))


def _cell(header: _Header) -> str:
    a, b, _, d, e, _ = header.affine[:6]
    return f"{a:.10g} x {e:.10g}" + (f" (turned by {b:.4g}, {d:.4g})" if b or d else "")
