"""The geometry contract: where input, output and reference say that they lie, compared, with the verdict in words."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class FileGeometry(BaseModel):
    """Where one file says that it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    role: Literal["input", "output", "reference"]
    name: str = Field(description="The file's name, without its folder.")
    shape: tuple[int, ...] = Field(description="Cells on each axis, in the file's own order.")
    orientation: str | None = Field(
        None, description="Volumes: where the file's axes run, such as LPS. Rasters: such as north up. Null: unknown."
    )
    handedness: Literal["right", "left"] | None = Field(None, description="Volumes: of the file's three axes.")
    spacing: tuple[float, ...] | None = Field(
        None, description="A cell's extent on each axis: mm (volumes), units of the CRS (rasters)."
    )
    qform_code: int | None = Field(None, description="NIfTI only.")
    sform_code: int | None = Field(None, description="NIfTI only.")
    forms_apart_mm: float | None = Field(
        None, description="How far qform and sform put the worst corner apart; null where there are not both."
    )
    crs: str | None = Field(None, description="Rasters: code or name of the coordinate reference system.")
    apart: float | None = Field(
        None,
        description="Largest distance of a corner to the first file's, in mm (volumes) or cells (rasters).",
    )


class GeometryReport(BaseModel):
    """All files of a scene."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    agrees: bool = Field(description="Whether all lie on the first of them, cell for cell.")
    verdict: str = Field(description="The same in words.")
    files: tuple[FileGeometry, ...]
