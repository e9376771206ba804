"""The part of a recipe that says what is written, and where."""

from __future__ import annotations

from pydantic import Field

from segflow.part import Part


class Outputs(Part):
    """What is written, and where."""

    folder: str | None = Field(None, description="Folder of the results; ./out/<name> when not given.")
    name: str = Field("{stem}", description="Template of a scene's name: {stem}, {parent}, {case}.")
    confidence: bool = Field(False, description="Also write the largest probability x 255 as uint8.")
    probabilities: bool = Field(
        False,
        description="Also write each class's probability x 255 as uint8: rasters a band a class, volumes a BIDS "
        "probseg of four axes.",
    )
    nodata: int = Field(255, ge=0, le=255, description="Rasters: value of cells without valid input.")
    qml: bool = Field(False, description="Rasters: also a QGIS style beside the label map, which QGIS loads by itself.")
