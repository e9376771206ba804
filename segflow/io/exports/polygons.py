"""Polygons of a raster's label map: `<scene>.gpkg|.parquet|.fgb|.geojson`, or a scene's rows in PostGIS."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segflow.errors import OutputError, SegflowError
from segflow.grid import Grid
from segflow.io.atomic import part_of, replacing
from segflow.io.exports.protocol import Published
from segflow.io.vectors.files import FORMATS, MARKS, Layer, write_file
from segflow.io.vectors.make import Ask, LabelMap, areas_of, make_features
from segflow.io.vectors.postgis import Table, is_table, replace_rows, srid_of, table_of
from segflow.io.vectors.spool import Spool

_LOG = logging.getLogger(__name__)
# Hold coordinates that belong to no CRS; the others would have a reader guess.
_WITHOUT_CRS = ("fgb", "parquet")
_LARGE_CELLS = 1 << 26
"""From so many cells on, one region with a hole for each of its neighbours may be what memory is used for."""


@dataclass(frozen=True, slots=True)
class Polygons:
    """The polygons. See `segflow.io.exports.Exporter`.

    Attributes:
        to: formats, and URLs of databases.
        connectivity: 4 or 8.
        classes: ids or names; None for all.
        sieve: cells that a region needs; smaller ones go to their largest neighbour.
        min_area: polygons of less, in m2, are left out.
        simplify: tolerance in metres.
    """

    to: tuple[str, ...] = field(repr=False)  # may hold a password
    connectivity: int = 4
    classes: tuple[int | str, ...] | None = None
    sieve: int | None = None
    min_area: float | None = None
    simplify: float | None = None

    name = "polygons"

    @property
    def settings(self) -> Mapping[str, Any]:
        """Everything, without passwords."""
        return {
            "to": [table_of(target).shown if is_table(target) else target for target in self.to],
            "connectivity": self.connectivity,
            "classes": self.classes,
            "sieve": self.sieve,
            "min_area": self.min_area,
            "simplify": self.simplify,
        }

    @property
    def formats(self) -> tuple[str, ...]:
        """What goes to files."""
        return tuple(form for form in FORMATS if form in self.to)

    @property
    def databases(self) -> tuple[Table, ...]:
        """What goes to tables."""
        return tuple(table_of(target) for target in self.to if is_table(target))

    def files(self, scene: str, folder: Path) -> tuple[Path, ...]:
        """Return a file for each format."""
        return tuple(folder / f"{scene}.{form}" for form in self.formats)

    def require(self, published: Published) -> None:
        """Refuse what cannot be: no CRS where the format needs one, classes that the model lacks, missing packages.

        Raises:
            OutputError: one of these.
        """
        _require_packages(bool(self.databases))
        self._require_path(published)
        grid = published.grid
        self._ids(published)
        located = grid.crs is not None and grid.affine is not None
        needing = [form for form in self.to if form not in _WITHOUT_CRS]
        if not located and needing:
            raise OutputError(
                f"the raster has no {'CRS' if grid.crs is None else 'position'}, so that nobody could tell where its "
                f"polygons lie or what they measure "
                f"({', '.join('PostGIS' if is_table(item) else item for item in needing)})",
                "a raster with a CRS and a position",
                "give it one (gdal_edit.py -a_srs EPSG:... -a_ullr ...), or ask for fgb or parquet alone, which can "
                "hold pixel coordinates",
            )
        measured = areas_of(grid)
        if measured is None and self.min_area is not None:
            raise OutputError(
                "polygons.min_area is set, and nobody knows what this raster's cells measure",
                "a raster with a CRS and a position",
                "use polygons.sieve, which counts cells, or give the raster a CRS",
            )
        if grid.spacing is None and self.simplify is not None:
            raise OutputError(
                "polygons.simplify is in metres, and nobody knows what this raster's cells measure",
                "a raster with a CRS and a position",
                "leave simplify out, or give the raster a CRS",
            )
        if "geojson" in self.to and measured is None:
            raise OutputError(
                "the raster's CRS is a local one, which GeoJSON cannot be made of: it is in longitude and latitude",
                "a CRS that has a place on Earth",
                "ask for gpkg, fgb or parquet",
            )
        if "geojson" in self.to and _beyond_a_turn(grid):
            raise OutputError(
                "the raster reaches over 360 degrees of longitude, and what lies beyond would be empty in GeoJSON",
                "longitudes from -360 to 360 degrees",
                "move it by 360 degrees (gdal_translate -a_ullr), or ask for gpkg, fgb or parquet",
            )
        if self.databases and grid.crs is not None:
            srid_of(grid.crs)

    def _require_path(self, published: Published) -> None:
        """Refuse a path that the library that writes by GDAL takes for another."""
        for path in self.files(published.scene, published.folder.absolute()):
            if set(str(path)) & set(MARKS) and path.suffix != ".parquet":
                raise OutputError(
                    f"{path} has ! or ;, which begins the way into an archive, or parameters, for who writes the file",
                    "a path without them",
                    "rename the input or set outputs.name, set outputs.folder, or ask for parquet alone",
                )

    def remarks(self, published: Published) -> Iterator[str]:
        """Yield what is to be known beforehand: what a region that spans the scene may take."""
        if published.grid.size >= _LARGE_CELLS and self.classes is None and not self.sieve:
            yield (
                "outputs.polygons: a single region, such as a background with a hole for every object, is one feature "
                "in every format, and in memory as a whole: about four times its size, up to 4 GB for the largest that "
                "is written (1 GB, 60 million corners); polygons.classes leaves its class out, polygons.sieve makes it "
                "simpler"
            )

    def write(self, published: Published) -> None:
        """Write all formats from one sweep; what fails does not keep the others from being written.

        A look at a part of a scene goes to no table, where it would take the place of the whole.

        Raises:
            SegflowError: one of them failed.
        """
        path = part_of(published.folder / f"{published.scene}_polygons.arrow")
        try:
            spool = make_features(path, self._map(published), self._ask(published))
            failed = list(self._failures(published, spool))
        finally:
            path.unlink(missing_ok=True)
        if failed:
            others = "".join(f"\n{error}" for error in failed[1:])
            raise OutputError(failed[0].found, failed[0].expected, failed[0].remedy + others)

    def _failures(self, published: Published, spool: Spool) -> Iterator[SegflowError]:
        """Write the formats; yield what failed."""
        grid = published.grid
        layer = Layer(
            name=published.scene,
            crs=grid.crs if grid.affine is not None else None,
            many=self.connectivity == 8,
            cell_m=None if grid.spacing is None else min(grid.spacing),
            metadata={"SEGFLOW_MODEL": published.card.name, "SEGFLOW_FINGERPRINT": published.fingerprint},
        )
        for form in self.formats:
            try:
                with replacing(published.folder / f"{published.scene}.{form}") as part:
                    write_file(part, form, spool, layer)
            except SegflowError as error:
                yield error
        if self.databases and published.preview:
            _LOG.warning("%s: only a part was made, so that the rows in the database stay as they are", published.scene)
        for table in () if published.preview else self.databases:
            try:
                replace_rows(table, published.scene, spool, srid_of(grid.crs or ""), self.connectivity == 8)
            except SegflowError as error:
                yield error

    def _map(self, published: Published) -> LabelMap:
        return LabelMap(
            labels=published.labels,
            confidence=published.files.get("confidence"),
            grid=published.grid,
            nodata=published.nodata,
            classes=published.card.classes,
        )

    def _ask(self, published: Published) -> Ask:
        return Ask(
            connectivity=self.connectivity,
            classes=self._ids(published),
            sieve=self.sieve or 0,
            min_area_m2=self.min_area or 0.0,
            simplify_m=self.simplify or 0.0,
        )

    def _ids(self, published: Published) -> tuple[int, ...] | None:
        """Return the ids of the classes that are asked for."""
        if self.classes is None:
            return None
        known: dict[int | str, int] = {}
        for item in published.card.classes:
            known |= {item.id: item.id, item.name: item.id}
        unknown = [item for item in self.classes if item not in known]
        if unknown:
            raise OutputError(
                f"polygons.classes names {unknown[0]!r}, which {published.card.name} does not have",
                "some of " + ", ".join(f"{item.id} {item.name}" for item in published.card.classes),
                "correct polygons.classes, or leave it out for all",
            )
        return tuple(known[item] for item in self.classes)


def _beyond_a_turn(grid: Grid) -> bool:
    """Tell whether a raster in degrees reaches farther than 360 to either side: GDAL cuts that off of GeoJSON."""
    from pyproj import CRS

    if grid.crs is None or grid.affine is None or not CRS.from_wkt(grid.crs).is_geographic:
        return False
    rows, columns = grid.shape
    a, b, c, *_ = grid.affine
    return max(abs(a * x + b * y + c) for x in (0, columns) for y in (0, rows)) > 360


def _require_packages(database: bool) -> None:
    for package in ("pyarrow", "pyproj", *(["psycopg"] if database else [])):
        if find_spec(package) is None:
            raise OutputError(
                f"polygons need the package {package}, which is not installed",
                "segflow with its extra vectors",
                'pip install "segflow[vectors]"',
            )
