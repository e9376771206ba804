"""The recipe: the one schema of what runs on what. Frozen; unknown keys are refused; every field is described."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PrivateAttr, model_validator

from segflow.errors import RecipeError
from segflow.grid import Kind
from segflow.models.choice import ModelChoice
from segflow.part import Part
from segflow.recipe.outputs import Outputs
from segflow.recipe.postprocess import Postprocess
from segflow.recipe.publish import Publish
from segflow.recipe.report import Report
from segflow.recipe.run import Compute, Inputs, References, Tiling
from segflow.recipe.service import Service
from segflow.recipe.train import Train

# What only one kind has; the other would ignore it.
_ONLY: dict[Kind, tuple[str, ...]] = {
    "raster": (
        *("inputs.bands", "inputs.nodata", "inputs.collar", "inputs.aoi", "inputs.mosaic"),
        *("references.region", "references.mask", "model.gsd", "outputs.nodata", "postprocess.sieve"),
        *("outputs.qml", "outputs.polygons", "outputs.coverage", "outputs.stac", "outputs.taken", "outputs.vrt"),
        *("report.tolerance_m", "report.boundary_cells", "report.regions"),
    ),
    "volume": (
        "report.tolerance_mm",
        *("inputs.channels", "inputs.resample_to", "model.spacing"),
        *("outputs.bids", "outputs.seg_nrrd", "outputs.itksnap", "outputs.dicom_seg"),
    ),
}


def _as_destinations(value: Any) -> Any:
    return {"to": value} if isinstance(value, str | list | tuple) else value


def _as_mapping(value: Any) -> Any:
    return {"path": value} if isinstance(value, str | list | tuple) else value


class Recipe(Part):
    """Everything that a run needs to know."""

    kind: Kind = Field(description="raster: GeoTIFF and its kin. volume: NIfTI and its kin.")
    name: str = Field("segflow", pattern=r"^[\w.-]+$", description="Name of the run; names the default folder.")
    inputs: Annotated[Inputs, BeforeValidator(_as_mapping)] = Field(description="What is segmented.")
    references: Annotated[References | None, BeforeValidator(_as_mapping)] = Field(
        None, description="What the result is compared with."
    )
    model: ModelChoice | None = Field(None, description="The network; needed by run and plan.")
    train: Train | None = Field(None, description="How a model is made; needed by train.")
    tiling: Tiling = Field(default_factory=lambda: Tiling(), description="How the scene is cut and put together again.")
    postprocess: Postprocess | None = Field(
        None, description="How labels are changed, before the label map, its exports and scores are made of them."
    )
    compute: Compute = Field(default_factory=lambda: Compute(), description="Where and with what it runs.")
    outputs: Outputs = Field(default_factory=lambda: Outputs(), description="What is written, and where.")
    report: Report = Field(
        default_factory=lambda: Report(), description="What is measured against the reference, beside the plain scores."
    )
    publish: Annotated[Publish | None, BeforeValidator(_as_destinations)] = Field(
        None, description="Where results are sent once they are whole: a destination, a list, or a mapping."
    )
    service: Service = Field(
        default_factory=lambda: Service(),
        description="How it is operated night after night: what is new, and who is told.",
    )
    base: str = Field(".", exclude=True, description="Folder that relative paths start from; set by the reader.")
    _unfilled: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _axes(self) -> Recipe:
        axes = 2 if self.kind == "raster" else 3
        if isinstance(self.tiling.patch, tuple) and len(self.tiling.patch) != axes:
            raise ValueError(f"tiling.patch of a {self.kind} has {axes} numbers, got {self.tiling.patch}")
        return self

    @model_validator(mode="after")
    def _of_this_kind(self) -> Recipe:
        """Refuse what would be ignored: a setting that only the other kind has."""
        other: Kind = "volume" if self.kind == "raster" else "raster"
        for key in _ONLY[other]:
            where, name = key.split(".")
            part = getattr(self, where)
            if part is not None and getattr(part, name) != type(part).model_fields[name].default:
                raise RecipeError(
                    f"{key} is set in a recipe of kind {self.kind}, where it has no meaning",
                    f"{key} in recipes of kind {other} only",
                    f"remove {key}, or correct kind",
                )
        return self

    @property
    def unfilled(self) -> dict[str, str]:
        """Texts that the environment filled, and how each was written, with ${VAR}; set by the reader."""
        return self._unfilled

    @property
    def folder(self) -> Path:
        """The output folder, absolute."""
        return self.resolve(self.outputs.folder or f"./out/{self.name}")

    def resolve(self, path: str) -> Path:
        """Return a path of the recipe as an absolute one, without looking at it."""
        return Path(os.path.normpath(Path(self.base).absolute() / Path(path).expanduser()))
