"""The part of a recipe that says what a report measures beside the scores that follow from confusion counts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segflow.part import Part

Auto = Literal["auto"]


class Report(Part):
    """What is measured in a second, windowed pass over label map and reference, once the label map is published."""

    surface: bool | Auto = Field(
        "auto", description="Distances between surfaces. auto: scenes of up to 2^28 voxels or 2^24 pixels."
    )
    tolerance_mm: float | None = Field(
        None, ge=0, description="Volumes: tolerance of the normalised surface Dice; a cell's longest side if not given."
    )
    tolerance_m: float | None = Field(None, ge=0, description="Rasters: the same in metres.")
    boundary: bool = Field(True, description="Rasters: boundary IoU.")
    boundary_cells: int | None = Field(
        None,
        ge=1,
        description="Width of a boundary; 2 % of the scene's diagonal if not given, at most 15 cells.",
    )
    objects: bool | Auto = Field(
        "auto",
        description="Connected regions: detected, missed, false. auto: scenes of up to 2^28 voxels or 2^24 pixels.",
    )
    objects_iou: float = Field(0.0, ge=0, lt=1, description="Objects are matched where their IoU is larger than this.")
    objects_min_cells: int = Field(1, ge=1, description="Smaller objects are no objects, on either side.")
    connectivity: Literal["faces", "corners"] = Field(
        "corners", description="corners: cells that share a corner are one object; faces: only those that share a side."
    )
    classes: tuple[int, ...] | None = Field(
        None,
        description="Classes that have surfaces, boundaries and objects; if not given all of a raster, and all of a "
        "volume but 0, its background.",
    )
    calibration: bool = Field(True, description="Expected calibration error; needs outputs.confidence.")
    seam: bool = Field(True, description="Labels and accuracy by the distance from the nearest border of a patch.")
    regions: str | None = Field(None, description="Rasters: a vector file; its polygons are scored one by one.")
    region_name: str = Field("name", description="Field of that file that names a polygon.")
    tiles: Annotated[int, Field(ge=1)] | Auto | None = Field(
        "auto",
        description="Rasters: cells of the tiles of a map of scores; auto: about 32 along the longer side.",
    )
    bootstrap: int = Field(
        1000, ge=0, le=100_000, description="Resamples of the scenes for intervals of the pooled scores; 0: none."
    )
