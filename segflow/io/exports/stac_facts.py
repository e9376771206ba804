"""What a STAC item says of a raster's place and time, and of files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rasterio.crs import CRS
from rasterio.enums import WktVersion
from rasterio.warp import transform
from shapely import MultiPolygon, Polygon, box, union_all
from shapely.affinity import translate
from shapely.geometry import mapping
from shapely.geometry.polygon import orient

from segflow.errors import OutputError
from segflow.grid import Grid
from segflow.io.gdalenv import GDAL_ERRORS, environment, is_plain
from segflow.io.raster_header import open_file

_EDGE = 16
"""Points along each edge of a footprint, since straight edges bend in degrees."""
_TAGS = ((None, "TIFFTAG_DATETIME"), ("IMAGERY", "ACQUISITIONDATETIME"), (None, "EXIF_DateTimeOriginal"))

Geometry = dict[str, Any]


def footprint(grid: Grid) -> tuple[Geometry, list[float]]:
    """Return a raster's outline and its box (west, south, east, north) in WGS 84, as GeoJSON has them.

    An outline that crosses the antimeridian is cut there (RFC 7946, 3.1.9), and its west is then larger than its east.
    One that goes around a pole reaches up to it, and all around.

    Raises:
        OutputError: the raster has no place in the world.
    """
    if grid.affine is None or grid.crs is None:
        raise OutputError(
            f"a raster without {'georeference' if grid.affine is None else 'CRS'} in a STAC item",
            "a raster that says where it lies",
            "give it with gdal_edit.py (-a_ullr, -a_srs), or remove outputs.stac",
        )
    places = [_place(grid.affine, x, y) for x, y in _outline(*grid.shape)]
    try:
        lons, lats = transform(CRS.from_wkt(grid.crs), "EPSG:4326", [x for x, _ in places], [y for _, y in places])
    except (*GDAL_ERRORS, ValueError) as error:
        raise _nowhere(" ".join(str(error).split())[:200]) from error
    if not np.isfinite([lons, lats]).all():
        raise _nowhere("it lies outside of what its CRS describes")
    points = np.column_stack([np.unwrap(lons, period=360), np.clip(lats, -90, 90)])
    if abs(points[-1, 0] - points[0, 0]) > 180:
        pole = np.copysign(90.0, points[:, 1].mean())
        points = np.vstack([points, [points[-1, 0], pole], [points[0, 0], pole]])
    outline = Polygon(np.round(points, 7))
    west, south, east, north = outline.bounds
    if west >= -180 and east <= 180:
        return mapping(orient(outline)), [west, south, east, north]
    turns = (-360 if east > 180 else 360, 0)
    parts = [translate(outline, turn).intersection(box(-180, -90, 180, 90)) for turn in turns]
    whole = union_all(parts)  # what goes all around meets itself again
    found = sorted(getattr(whole, "geoms", [whole]), key=lambda part: part.bounds[0])
    geometry = MultiPolygon([orient(part) for part in found]) if len(found) > 1 else orient(found[0])
    if east - west >= 360:
        return mapping(geometry), [-180.0, south, 180.0, north]
    return mapping(geometry), [
        max(part.bounds[0] for part in parts),
        south,
        min(part.bounds[2] for part in parts),
        north,
    ]


def _nowhere(why: str) -> OutputError:
    return OutputError(
        f"the raster's outline has no longitude and latitude: {why}",
        "a CRS that can be brought to WGS 84",
        "correct the CRS, or remove outputs.stac",
    )


def _outline(rows: int, columns: int) -> Iterator[tuple[float, float]]:
    """Yield (column, row) of corners around a raster, counter-clockwise as seen north up, closed."""
    steps = [k / _EDGE for k in range(_EDGE)]
    yield from ((0, rows * t) for t in steps)
    yield from ((columns * t, rows) for t in steps)
    yield from ((columns, rows * (1 - t)) for t in steps)
    yield from ((columns * (1 - t), 0) for t in steps)
    yield (0, 0)


def _place(affine: tuple[float, ...], x: float, y: float) -> tuple[float, float]:
    a, b, c, d, e, f = affine
    return a * x + b * y + c, d * x + e * y + f


def when(path: str, stated: str | None) -> dict[str, str | None]:
    """Return the times of an item: `datetime`, or null with `start_datetime` and `end_datetime`.

    What the recipe states goes first, then what the file says of itself, in UTC; else the time is not known, and the
    file's own is the end of an interval that begins there.

    Raises:
        OutputError: nothing is known of the time.
        InputError: the file cannot be opened.
    """
    if stated is not None:
        start, _, end = stated.partition("/")
        if not end:
            return {"datetime": _utc(start)}
        return {"datetime": None, "start_datetime": _utc(start), "end_datetime": _utc(end)}
    with environment(path), open_file(path) as file:
        for space, key in _TAGS:
            found = _parsed(file.tags(ns=space).get(key, ""))
            if found is not None:
                return {"datetime": found}
    if not is_plain(path) or not Path(path).is_file():
        raise OutputError(
            f"nothing says when {path} was taken", "a time, which every STAC item has", "set outputs.taken"
        )
    changed = datetime.fromtimestamp(int(Path(path).stat().st_mtime), UTC)
    text = changed.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"datetime": None, "start_datetime": text, "end_datetime": text}


def _parsed(text: str) -> str | None:
    """Read TIFF's and EXIF's 2024:05:01 10:20:30, or ISO 8601; None where it is neither."""
    text = re.sub(r"^(\d{4}):(\d\d):(\d\d)", r"\1-\2-\3", text.strip())
    try:
        return _utc(text)
    except ValueError:
        return None


def _utc(text: str) -> str:
    """Return ISO 8601 in UTC, as RFC 3339 has it; without a zone it is UTC.

    Raises:
        ValueError: it is no time.
    """
    read = datetime.fromisoformat(text.strip())
    read = read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)
    return read.strftime("%Y-%m-%dT%H:%M:%SZ")


def checksum(path: Path) -> dict[str, Any]:
    """Return the file extension's fields: size, and the sha256 as a multihash (0x12, 0x20, then 32 bytes)."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file:size": path.stat().st_size, "file:checksum": f"1220{digest}"}


def projected(grid: Grid) -> dict[str, Any]:
    """Return the projection extension's fields."""
    if grid.affine is None or grid.crs is None:
        raise ValueError("a grid without a place has no projection")
    crs = CRS.from_wkt(grid.crs)
    code = crs.to_authority()
    corners = [_place(grid.affine, x, y) for x in (0, grid.shape[1]) for y in (0, grid.shape[0])]
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    named: dict[str, Any] = {"proj:code": ":".join(code) if code else None}
    if not code:
        named["proj:wkt2"] = crs.to_wkt(version=WktVersion.WKT2_2019)
    return {
        **named,
        "proj:shape": list(grid.shape),
        "proj:transform": [*grid.affine],
        "proj:bbox": [min(xs), min(ys), max(xs), max(ys)],
    }
