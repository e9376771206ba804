"""Vector files: GeoPackage, FlatGeobuf and GeoJSON by GDAL, GeoParquet by Arrow; counted before they are published."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segflow.errors import OutputError, first_line
from segflow.io.vectors.spool import Spool
from segflow.io.vectors.table import BOX, GEOMETRY, schema

DRIVERS = {"gpkg": "GPKG", "fgb": "FlatGeobuf", "geojson": "GeoJSON"}
FORMATS = (*DRIVERS, "parquet")
MARKS = "!;"
"""In a path, what pyogrio takes for the way into an archive, or for a URL's parameters."""
_RESERVED = re.compile(r"gpkg|sqlite_|rtree_|ogr_empty_table|layer_styles|[^\w ]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Layer:
    """How features are described in a file.

    Attributes:
        name: of the layer.
        crs: as WKT; None for pixel coordinates.
        many: whether geometries are multipolygons.
        cell_m: a cell's smaller side in metres; None where unknown.
        metadata: what the file says of its origin, where the format has a place for it.
    """

    name: str
    crs: str | None
    many: bool
    cell_m: float | None
    metadata: Mapping[str, str]

    @property
    def geometry_type(self) -> str:
        """The type of all geometries."""
        return "MultiPolygon" if self.many else "Polygon"


def write_file(path: Path, form: str, spool: Spool, layer: Layer) -> None:
    """Write features to a file, and read back how many it has.

    Args:
        path: of the file; what is there is overwritten.
        form: one of `FORMATS`.
        spool: the features.
        layer: how they are described.

    Raises:
        OutputError: it cannot be written, or does not read back.
    """
    import pyarrow as pa
    from pyogrio.errors import DataLayerError, DataSourceError, FieldError, GeometryError

    try:
        found = _parquet(path, spool, layer) if form == "parquet" else _by_gdal(path, form, spool, layer)
    except (DataSourceError, DataLayerError, FieldError, GeometryError, pa.ArrowException, RuntimeError) as error:
        raise OutputError(
            f"{path.name.removeprefix('.segflow-part-')} cannot be written: {first_line(error)}",
            "a folder with room and the right to write",
            "free space, check the folder's permissions, or set outputs.folder",
        ) from error
    if found != spool.count:
        raise OutputError(
            f"{path.name} reads back with {found:,} polygons",
            f"{spool.count:,}, as written",
            "check the disk, and run again",
        )


def layer_name(scene: str) -> str:
    """Return the name of a GeoPackage's layer: the scene's, unless SQLite or GDAL keep names that begin like it."""
    return f"scene_{scene}" if _RESERVED.match(scene) else scene


def _by_gdal(path: Path, form: str, spool: Spool, layer: Layer) -> int:
    import pyogrio

    options: dict[str, str] = {}
    dataset: dict[str, str] = {}
    if form == "geojson":
        # RFC 7946 is longitude and latitude in WGS 84; seven decimals are a centimetre.
        fine = layer.cell_m is not None and layer.cell_m < 0.2
        options = {"RFC7946": "YES", "COORDINATE_PRECISION": "9" if fine else "7"}
    if form == "gpkg":
        options = {"SPATIAL_INDEX": "YES"}
        dataset = {"VERSION": "1.3"}
    with spool.batches(box=False) as batches, warnings.catch_warnings():
        if layer.crs is None:  # known: pixel coordinates
            warnings.filterwarnings("ignore", "'crs' was not provided")
        pyogrio.write_arrow(
            batches,
            path,
            layer=layer_name(layer.name) if form == "gpkg" else layer.name,
            driver=DRIVERS[form],
            geometry_name=GEOMETRY,
            geometry_type=layer.geometry_type,
            crs=layer.crs,
            layer_metadata=dict(layer.metadata) if form == "gpkg" else None,
            dataset_options=dataset,
            layer_options=options,
        )
    return int(pyogrio.read_info(path, force_feature_count=True)["features"])


def _parquet(path: Path, spool: Spool, layer: Layer) -> int:
    import pyarrow.parquet as pq

    written = schema().with_metadata({"geo": json.dumps(_geo(spool, layer)), **layer.metadata})
    plain = [name for name in schema().names if name not in (GEOMETRY, BOX)]
    # Of geometries, statistics are no use and take copies.
    sides = [f"{BOX}.{side.name}" for side in schema().field(BOX).type]
    settings = {"compression": "zstd", "use_dictionary": ["class_name"], "write_statistics": [*plain, *sides]}
    with spool.batches(box=True) as batches, pq.ParquetWriter(path, written, **settings) as file:
        for batch in batches:
            file.write_batch(batch.cast(written))
    found = pq.ParquetFile(path)
    if [name for name in found.schema_arrow.names if name not in (GEOMETRY, BOX)] != plain:
        return -1
    return int(found.metadata.num_rows)


def _geo(spool: Spool, layer: Layer) -> dict[str, Any]:
    """Return GeoParquet 1.1's description of the file."""
    from pyproj import CRS

    column: dict[str, Any] = {
        "encoding": "WKB",
        "geometry_types": [layer.geometry_type],
        "crs": None if layer.crs is None else CRS.from_wkt(layer.crs).to_json_dict(),
        "orientation": "counterclockwise",
        "edges": "planar",
        "covering": {"bbox": {side: [BOX, side] for side in ("xmin", "ymin", "xmax", "ymax")}},
    }
    if spool.bounds is not None:
        column["bbox"] = list(spool.bounds)
    return {"version": "1.1.0", "primary_column": GEOMETRY, "columns": {GEOMETRY: column}}
