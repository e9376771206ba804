"""The part of a recipe that says which polygons are made of a label map."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from segflow.part import Part

_FORMATS = ("gpkg", "parquet", "fgb", "geojson")


def as_polygons(value: Any) -> Any:
    return {"to": value} if isinstance(value, str | list | tuple) else value


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class Polygons(Part):
    """Polygons of the label map, not cut anywhere: one for each region of one class."""

    to: Annotated[tuple[str, ...], BeforeValidator(_as_list)] = Field(
        repr=False,
        min_length=1,
        description="Where they go: gpkg, parquet (GeoParquet), fgb (FlatGeobuf), geojson (in WGS 84), or a table of "
        "PostGIS, postgresql://user@host/database#schema.table.",
    )
    connectivity: Literal[4, 8] = Field(
        4, description="4: regions that meet at corners only are apart. 8: they are one feature of several polygons."
    )
    classes: tuple[int | str, ...] | None = Field(
        None, min_length=1, description="Ids or names of the classes whose polygons are wanted; all when not given."
    )
    sieve: int | None = Field(
        None,
        ge=2,
        description="Regions of fewer cells are given to their largest neighbour before polygons are made, as "
        "gdal_sieve does it. The label map stays as it is.",
    )
    min_area: float | None = Field(
        None, gt=0, description="Polygons of fewer square metres are left out; what they covered stays empty."
    )
    simplify: float | None = Field(
        None,
        gt=0,
        description="Take out corners that change little, in metres: the side of a square as large as the largest "
        "triangle that may be cut off. Neighbours keep their common border.",
    )

    @field_validator("to")
    @classmethod
    def _known(cls, to: tuple[str, ...]) -> tuple[str, ...]:
        for target in to:
            if target.startswith(("postgresql://", "postgres://")):
                if not target.partition("#")[2].rpartition(".")[2]:
                    raise ValueError("a database's URL that ends in #schema.table")
            elif target not in _FORMATS:
                raise ValueError("some of " + ", ".join(_FORMATS) + ", or postgresql://...#schema.table")
        if len(set(to)) < len(to):
            raise ValueError("each format once")
        return to
