"""Polygons in a PostGIS table: one transaction puts a scene's rows in the place of those that were there.

What is sent is quoted as identifiers, bound as parameters or copied as binary values. Rows are multipolygons, so that
scenes of either connectivity share a table.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from segflow.errors import OutputError, first_line
from segflow.io.vectors.spool import Spool
from segflow.io.vectors.table import GEOMETRY

if TYPE_CHECKING:
    import psycopg

SCHEMES = ("postgresql", "postgres")
_COLUMNS = ("scene", "class_id", "class_name", "area_m2", "confidence", "geom")
_TYPES = ("text", "int4", "text", "float8", "float8", "bytea")
_WAIT_S = 10
# EWKB of a little-endian multipolygon that tells its SRID.
_MULTIPOLYGON = 0x20000006


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a database.

    Attributes:
        url: how the database is reached, as libpq takes it; may hold a password, and is never printed.
        schema: of the table.
        name: of the table.
    """

    url: str = field(repr=False)
    schema: str
    name: str

    @property
    def shown(self) -> str:
        """The target as it may be printed: without password and options."""
        parts = urlsplit(self.url)
        place = parts.netloc.rpartition("@")
        user = place[0].split(":", 1)[0] + place[1]
        return f"{parts.scheme}://{user}{place[2]}{parts.path}#{self.schema}.{self.name}"

    def without_secrets(self, text: str) -> str:
        """Return a text in which the password is not to be read."""
        parts = urlsplit(self.url)
        quoted = parts.netloc.rpartition("@")[0].partition(":")[2]
        for secret in sorted({quoted, unquote(quoted), self.url}, key=len, reverse=True):
            text = text.replace(secret, "***") if secret else text
        return text


def is_table(target: str) -> bool:
    """Tell whether this is the URL of a database."""
    return target.split("://", 1)[0] in SCHEMES and "://" in target


def table_of(target: str) -> Table:
    """Read `postgresql://user@host/database#schema.table`; without a schema it is public.

    Raises:
        ValueError: it names no table; the message does not repeat it.
    """
    url, _, place = target.partition("#")
    schema, _, name = place.rpartition(".")
    try:
        urlsplit(url).port  # noqa: B018  # raises for what is no number
    except ValueError:
        raise ValueError("a URL whose user and password have %40 for @, %2F for / and %3A for :") from None
    if not name or "." in schema:
        raise ValueError("a database's URL that ends in #schema.table")
    return Table(url, unquote(schema) or "public", unquote(name))


def srid_of(crs: str) -> int:
    """Return the EPSG code of a CRS, which PostGIS knows it by.

    Raises:
        OutputError: it has none.
    """
    from pyproj import CRS

    known = CRS.from_wkt(crs)
    code = known.to_epsg(min_confidence=90)
    if code is None and known.is_compound:
        code = known.sub_crs_list[0].to_epsg(min_confidence=90)
    if code is None:
        raise OutputError(
            f"the raster's CRS ({known.name}) has no EPSG code, by which PostGIS could know it",
            "a CRS of the EPSG register",
            "name its code, if you know it (gdal_edit.py -a_srs EPSG:...), reproject it (gdalwarp -t_srs EPSG:...), "
            "or write gpkg, fgb or parquet, which hold any CRS",
        )
    return int(code)


def replace_rows(table: Table, scene: str, spool: Spool, srid: int, many: bool) -> None:
    """Put a scene's polygons in the place of its rows; all of them or, if anything fails, none.

    The schema, the table and its indexes are made if they are missing. Rows of other scenes are not touched.

    Raises:
        OutputError: the database cannot be reached or has no PostGIS, the table is another one, or a row is refused.
    """
    from psycopg import sql

    place = sql.Identifier(table.schema, table.name)
    with _connected(table) as connection, connection.cursor() as cursor:
        _require_postgis(cursor, table, srid)
        _make(cursor, table, srid)
        cursor.execute(sql.SQL("DELETE FROM {} WHERE scene = %s").format(place), (scene,))
        columns = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
        command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(place, columns)
        with cursor.copy(command) as copy:
            copy.set_types(_TYPES)
            for row in _rows(scene, spool, srid, many):
                copy.write_row(row)
        found = _one(cursor, sql.SQL("SELECT count(*) FROM {} WHERE scene = %s").format(place), (scene,))
        if found != spool.count:
            raise OutputError(
                f"{table.shown} has {found:,} rows of {scene} after writing",
                f"{spool.count:,}, as sent",
                "look for triggers and rules of the table that drop rows",
            )


@contextmanager
def _connected(table: Table) -> Iterator[psycopg.Connection[Any]]:
    """Hold a transaction; commit it if all went well."""
    import psycopg

    try:
        options = {} if "connect_timeout" in table.url else {"connect_timeout": _WAIT_S}
        with psycopg.connect(table.url, **options) as connection:
            yield connection
    except psycopg.Error as error:
        raise OutputError(
            f"{table.shown} cannot be written: {table.without_secrets(first_line(error))}",
            "a PostGIS database that can be reached, and a user who may make the table and write to it",
            "try the same with psql; passwords may come from ${VAR} in the URL, PGPASSWORD or ~/.pgpass",
        ) from None


def _require_postgis(cursor: psycopg.Cursor[Any], table: Table, srid: int) -> None:
    if _one(cursor, "SELECT to_regtype('geometry') IS NOT NULL", ()) is not True:
        raise OutputError(
            f"the database of {table.shown} has no PostGIS",
            "the extension postgis in the database",
            "CREATE EXTENSION postgis; as a user who may",
        )
    if _one(cursor, "SELECT count(*) FROM spatial_ref_sys WHERE srid = %s", (srid,)) == 0:
        raise OutputError(
            f"the database of {table.shown} does not know EPSG:{srid}",
            "the raster's CRS in its table spatial_ref_sys",
            "add it there, or reproject the raster (gdalwarp -t_srs)",
        )


def _make(cursor: psycopg.Cursor[Any], table: Table, srid: int) -> None:
    """Make what is missing, and see that what is there has the raster's SRID."""
    from psycopg import sql

    place = sql.Identifier(table.schema, table.name)
    there = "SELECT count(*) FROM pg_tables WHERE schemaname = %s AND tablename = %s"
    if not _one(cursor, there, (table.schema, table.name)):
        # Two scenes that come first at the same time make it one after the other.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('segflow'), hashtext(%s))", (table.name,))
        if not _one(cursor, "SELECT count(*) FROM pg_namespace WHERE nspname = %s", (table.schema,)):
            cursor.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(table.schema)))
        cursor.execute(
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS {} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "
                "scene text NOT NULL, class_id integer NOT NULL, class_name text NOT NULL, "
                "area_m2 double precision, confidence double precision, geom geometry(MultiPolygon, {}) NOT NULL)"
            ).format(place, sql.Literal(srid))
        )
        cursor.execute(sql.SQL("CREATE INDEX ON {} USING gist (geom)").format(place))
        cursor.execute(sql.SQL("CREATE INDEX ON {} (scene)").format(place))
    query = (
        "SELECT srid FROM geometry_columns WHERE f_table_schema = %s AND f_table_name = %s AND f_geometry_column = %s"
    )
    cursor.execute(query, (table.schema, table.name, "geom"))
    row = cursor.fetchone()
    found = "no column geom" if row is None else f"SRID {row[0]}"
    if row is None or row[0] != srid:
        raise OutputError(
            f"the table of {table.shown} has {found}",
            f"geometries of SRID {srid}, as the scene has",
            "name another table, or reproject the raster (gdalwarp -t_srs)",
        )


def _rows(scene: str, spool: Spool, srid: int, many: bool) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as they are copied."""
    several, single = struct.pack("<BII", 1, _MULTIPOLYGON, srid), struct.pack("<BIII", 1, _MULTIPOLYGON, srid, 1)
    with spool.batches(box=False) as batches:
        for batch in batches:
            plain = [batch.column(name).to_pylist() for name in _COLUMNS[1:-1]]
            shapes = batch.column(GEOMETRY).to_pylist()
            for *values, shape in zip(*plain, shapes, strict=True):
                yield (scene, *values, several + shape[5:] if many else single + shape)


def _one(cursor: psycopg.Cursor[Any], query: Any, values: tuple[Any, ...]) -> Any:
    row = cursor.execute(query, values).fetchone()
    return None if row is None else row[0]
