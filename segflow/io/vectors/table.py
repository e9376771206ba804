"""Features as Arrow tables: attributes, bounding box, and geometry as WKB; in batches of bounded size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segflow.errors import OutputError
from segflow.io.vectors.area import CellAreas
from segflow.io.vectors.parts import Features
from segflow.io.vectors.wkb import well_known

if TYPE_CHECKING:
    import pyarrow as pa

GEOMETRY = "geometry"
BOX = "bbox"
_SIDES = ("xmin", "ymin", "xmax", "ymax")
# GeoPackage (SQLite) and PostgreSQL hold no value of more than about a gigabyte.
LARGEST_BYTES = 1_000_000_000
_BATCH_POINTS = 1 << 19
_BATCH_ROWS = 1 << 15


@dataclass(frozen=True, slots=True)
class Attributes:
    """What features carry, and where they lie.

    Attributes:
        names: of classes, by id.
        affine: GDAL's six, from column and row to the CRS.
        areas: what cells measure; None where that is unknown.
        confidence: whether weights are confidences, 0 to 255 a cell.
        smallest_m2: features of less are left out.
        many: whether geometries are multipolygons.
    """

    names: Mapping[int, str]
    affine: tuple[float, ...]
    areas: CellAreas | None
    confidence: bool
    smallest_m2: float
    many: bool


def schema() -> pa.Schema:
    """Return the columns: class_id, class_name, area_m2, confidence, bbox, geometry (WKB)."""
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("class_id", pa.int32(), nullable=False),
            pa.field("class_name", pa.string(), nullable=False),
            pa.field("area_m2", pa.float64()),
            pa.field("confidence", pa.float64()),
            pa.field(BOX, pa.struct([pa.field(side, pa.float64(), nullable=False) for side in _SIDES])),
            pa.field(GEOMETRY, pa.binary(), nullable=False, metadata={"ARROW:extension:name": "geoarrow.wkb"}),
        ]
    )


def tables(found: Iterable[Features], attributes: Attributes) -> Iterator[pa.RecordBatch]:
    """Yield features as record batches of `schema`, about 10 MB each, or one feature.

    Raises:
        OutputError: a feature is larger than what formats can hold.
    """
    import pyarrow as pa

    waiting: list[Any] = []
    rows = points = 0
    for features in found:
        for part in _pieces(features):
            batch = _batch(part, attributes)
            waiting.append(batch)
            rows, points = rows + len(batch), points + len(part.parts.rings.points)
            if rows >= _BATCH_ROWS or points >= _BATCH_POINTS:
                yield waiting[0] if len(waiting) == 1 else pa.concat_batches(waiting)
                waiting, rows, points = [], 0, 0
    if rows:
        yield pa.concat_batches(waiting)


def _pieces(features: Features) -> Iterator[Features]:
    """Yield features in runs of a bounded number of points."""
    if not len(features):
        return
    rings = features.parts.rings
    of_ring = features.feature[rings.owner]
    sizes = np.bincount(of_ring, rings.lengths, len(features))
    largest = np.bincount(of_ring, 16 * rings.lengths + 20, len(features)).max()
    if largest > LARGEST_BYTES:
        raise OutputError(
            f"one polygon has {int(sizes.max()):,} corners and takes {int(largest):,} bytes in one feature",
            f"at most {LARGEST_BYTES:,} bytes, which every format holds (16 a corner, 20 a ring)",
            "leave its class out (polygons.classes), or make it simpler (polygons.sieve, polygons.simplify)",
        )
    run = np.cumsum(sizes) // _BATCH_POINTS
    if run[-1] == 0:
        yield features
        return
    cuts = [0, *(np.flatnonzero(np.diff(run)) + 1).tolist(), len(features)]
    for first, end in pairwise(cuts):
        yield features.cut(first, end)


def _batch(features: Features, attributes: Attributes) -> pa.RecordBatch:
    """Return one record batch of some features, without those that are too small."""
    import pyarrow as pa

    areas = None
    if attributes.areas is not None:
        rings = features.parts.rings
        areas = np.bincount(features.feature[rings.owner], attributes.areas.of_rings(rings), len(features))
        if attributes.smallest_m2 > 0:
            large = np.flatnonzero(areas >= attributes.smallest_m2)
            if len(large) < len(features):
                features, areas = features.taken(large), areas[large]
    ids = features.values
    mean = features.weights / np.maximum(features.cells, 1) / 255
    shapes, ends = well_known(features, attributes.affine, attributes.many)
    columns = [
        pa.array(ids, pa.int32()),
        pa.array([attributes.names[number] for number in ids.tolist()], pa.string()),
        pa.nulls(len(ids), pa.float64()) if areas is None else pa.array(np.round(areas, 6)),
        pa.array(np.round(mean, 4)) if attributes.confidence else pa.nulls(len(ids), pa.float64()),
        pa.StructArray.from_arrays(list(_boxes(features, attributes.affine)), fields=list(schema().field(BOX).type)),
        pa.Array.from_buffers(pa.binary(), len(ids), [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(shapes)]),
    ]
    return pa.record_batch(columns, schema=schema())


def _boxes(features: Features, affine: tuple[float, ...]) -> Iterator[NDArray[np.float64]]:
    """Yield xmin, ymin, xmax and ymax of all features: those of their outer rings, the first of each part."""
    rings = features.parts.rings
    outer = rings.taken(np.searchsorted(rings.owner, np.arange(len(features.parts))))
    first = outer.starts[:-1][np.searchsorted(features.feature, np.arange(len(features)))]
    a, b, c, d, e, f = affine
    x, y = outer.points.T.astype(np.float64)
    placed = (a * x + b * y + c, d * x + e * y + f)
    for extreme in (np.minimum, np.maximum):
        for side in placed:
            yield extreme.reduceat(side, first) if len(first) else np.zeros(0)
