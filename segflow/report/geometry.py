"""The geometry contract: where input, output and reference say that they lie, compared, with the verdict in words."""

from __future__ import annotations

from html import escape
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_CODES = {0: "not given", 1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI 152", 5: "other template"}


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


def geometry_section(geometry: GeometryReport | None) -> str:
    """Return the contract as a section of HTML; nothing where there is none (reports of older versions)."""
    if geometry is None:
        return ""
    volume = len(geometry.files[0].shape) == 3
    heads = ["File", "Cells", "Orientation", "Spacing (mm)" if volume else "Cell"]
    heads += ["qform", "sform", "Between both"] if volume else ["Coordinate system"]
    head = "".join(f'<th scope="col">{text}</th>' for text in (*heads, f"From the {geometry.files[0].role}"))
    rows = "".join(_row(item, volume) for item in geometry.files)
    sign = "✓" if geometry.agrees else "⚠"
    return (
        '<section aria-labelledby="geometry"><h2 id="geometry">Geometry</h2>'
        f'<p class="hint">{sign} {escape(geometry.verdict)}</p>'
        '<div class="scroll" tabindex="0" role="region" aria-label="Geometry, table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _row(item: FileGeometry, volume: bool) -> str:
    turned = item.orientation or "unknown"
    if item.handedness is not None:
        turned += f", {item.handedness}-handed"
    shape = item.shape if volume else item.shape[::-1]
    cells = [" × ".join(f"{n:,}" for n in shape), turned, _spacing(item.spacing)]
    if volume:
        cells += [_code(item.qform_code), _code(item.sform_code), _distance(item.forms_apart_mm, "mm")]
    else:
        cells.append(item.crs or "none")
    cells.append(_distance(item.apart, "mm" if volume else "cells"))
    name = f'<th scope="row">{escape(item.name)} <small>{item.role}</small></th>'
    return f"<tr>{name}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _spacing(spacing: tuple[float, ...] | None) -> str:
    return "unknown" if spacing is None else " × ".join(f"{value:.4g}" for value in spacing)


def _code(code: int | None) -> str:
    return "" if code is None else f"{code}, {_CODES.get(code, 'unknown')}"


def _distance(apart: float | None, unit: str) -> str:
    return "" if apart is None else f"{apart:.2g} {unit}"
