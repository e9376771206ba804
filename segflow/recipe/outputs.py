"""The part of a recipe that says what is written, and where."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator

from segflow.part import Part, unwritten
from segflow.recipe.polygons import Polygons, as_polygons


class DicomSeg(Part):
    """A DICOM segmentation of the series that was segmented."""

    type: Literal["BINARY", "LABELMAP"] = Field(
        "BINARY",
        description="BINARY: a bit a voxel and class, read everywhere. LABELMAP: a number a voxel, read by few yet.",
    )
    codes: str | None = Field(
        None, description="A JSON as dcmqi takes, with the codes of classes; they go before those of the model's card."
    )
    sr: bool = Field(False, description="Also a structured report (TID 1500) with the volume of each class.")


def _switched(value: Any) -> Any:
    return {} if value is True else None if value is False else value


class Outputs(Part):
    """What is written, and where."""

    folder: str | None = Field(None, description="Folder of the results; ./out/NAME when not given.")
    name: str = Field(
        "{stem}",
        description="Template of a scene's name: {stem}, {parent}, {case}. "
        "DICOM series are called by 16 digits unless it is set.",
        json_schema_extra=unwritten,
    )
    confidence: bool = Field(False, description="Also write the largest probability x 255 as uint8.")
    probabilities: bool = Field(
        False,
        description="Also write each class's probability x 255 as uint8: rasters a band a class, volumes a BIDS "
        "probseg of four axes.",
    )
    nodata: int = Field(255, ge=0, le=255, description="Rasters: value of cells without valid input.")
    polygons: Annotated[Polygons | None, BeforeValidator(as_polygons)] = Field(
        None,
        description="Rasters: also polygons with class, area in m2 and mean confidence. A format or a list of them, or "
        "a mapping with these as `to` and options.",
    )
    qml: bool = Field(
        False, description="Rasters: also QGIS styles beside label map and polygons, which QGIS loads by itself."
    )
    coverage: bool = Field(
        False, description="Rasters: also SCENE_coverage.tif: nodata, predicted, and predicted with low context."
    )
    stac: bool = Field(
        False, description="Rasters: also SCENE_stac.json, a STAC item, and collection.json for the run."
    )
    taken: str | None = Field(
        None,
        description="Rasters: when the scenes were taken, for STAC: ISO 8601, or an interval start/end; what the files "
        "say when not given.",
    )
    vrt: bool = Field(
        False, description="Rasters: also NAME.vrt, the label maps of the run's scenes as one raster, if on one grid."
    )
    bids: bool = Field(False, description="Volumes: make the output folder a BIDS derivatives dataset as well.")
    seg_nrrd: bool = Field(False, description="Volumes: also SCENE.seg.nrrd and SCENE.ctbl for 3D Slicer.")
    itksnap: bool = Field(False, description="Volumes: also SCENE_itksnap.txt, names and colours for ITK-SNAP.")
    dicom_seg: Annotated[DicomSeg | None, BeforeValidator(_switched)] = Field(
        None, description="Volumes: of a DICOM series, also SCENE_seg.dcm: true, or a mapping."
    )

    @field_validator("taken", mode="before")
    @classmethod
    def _iso(cls, value: Any) -> Any:
        if isinstance(value, date):  # as YAML reads a time without quotes
            return value.isoformat()
        for text in value.split("/", 1) if isinstance(value, str) else ():
            datetime.fromisoformat(text)
        return value
