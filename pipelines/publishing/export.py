"""The stage that publishes: staged chunks to the label map, and to confidence and probabilities where asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.planning.plan import ScenePlan
from pipelines.postprocess import final_labels
from pipelines.predict import Workshop, probability_layer
from pipelines.publishing.outputs import layer_files, names_beside
from segflow.io.cog import write_bands_cog, write_byte_cog, write_label_cog
from segflow.io.nifti import write_byte_nifti, write_label_nifti, write_probability_nifti
from segflow.io.staging import Staging
from tiling import Box


def export(plan: ScenePlan, workshop: Workshop, folder: Path) -> dict[str, Path]:
    """Write the outputs of a finished scene and return them by layer; each appears whole or not at all.

    Raises:
        OutputError: a file cannot be written, or does not read back as it was written.
    """
    staging = Staging(workshop.staging, plan.region)
    files = layer_files(plan.scene, plan.grid.kind, folder, plan.task.confidence, plan.task.probabilities)
    raster = plan.grid.kind == "raster"
    for layer, path in files.items():
        if layer == "probabilities":
            (_write_band_each if raster else _write_probseg)(plan, path, staging)
            continue
        reader = final_labels(plan, workshop) if layer == "labels" else reader_of(staging, layer, plan.region)
        (_write_raster if raster else _write_volume)(plan, layer, path, reader)
    if raster:
        return {**files, "classes": names_beside(files["labels"])}
    return {**files, "classes": names_beside(files["probabilities"])} if plan.task.probabilities else files


def reader_of(staging: Staging, layer: str, region: Box) -> Callable[[Box], NDArray[Any]]:
    """Return a function that reads a box, counted from the region's start."""

    def read(box: Box) -> NDArray[Any]:
        return staging.read(layer, box.shift(region.start))

    return read


def _tags(plan: ScenePlan) -> dict[str, str]:
    return {"SEGFLOW_MODEL": plan.card.name, "SEGFLOW_FINGERPRINT": plan.fingerprint}


def _write_raster(plan: ScenePlan, layer: str, path: Path, read: Callable[[Box], NDArray[Any]]) -> None:
    tags = _tags(plan)
    if layer == "labels":
        write_label_cog(path, read, plan.output_grid, plan.card.classes, nodata=plan.task.nodata, tags=tags)
    else:
        write_byte_cog(path, read, plan.output_grid, nodata=0, tags=tags, description="largest probability x 255")


def _write_band_each(plan: ScenePlan, path: Path, staging: Staging) -> None:
    """Write the probabilities of a raster: a band a class."""
    labels = reader_of(staging, "labels", plan.region)

    def valid(box: Box) -> NDArray[np.uint8]:
        return np.where(labels(box) == plan.task.nodata, np.uint8(0), np.uint8(255))

    reads = {item.name: reader_of(staging, probability_layer(item.id), plan.region) for item in plan.card.classes}
    write_bands_cog(path, reads, valid, plan.output_grid, tags=_tags(plan))


def _source_of(plan: ScenePlan) -> str:
    """Return the file on whose grid a volume's outputs lie."""
    return plan.inputs[getattr(plan.spec, "resample_to", None) or 0]


def _write_probseg(plan: ScenePlan, path: Path, staging: Staging) -> None:
    """Write the probabilities of a volume: a class after another along the fourth axis."""
    reads = [reader_of(staging, probability_layer(number), plan.region) for number in plan.card.ids]
    names = [item.name for item in plan.card.classes]
    write_probability_nifti(path, reads, _source_of(plan), plan.card.orientation, names, beside=names_beside(path))


def _write_volume(plan: ScenePlan, layer: str, path: Path, read: Callable[[Box], NDArray[Any]]) -> None:
    source = _source_of(plan)
    orientation = plan.card.orientation
    if layer == "labels":
        write_label_nifti(path, read, source, orientation, plan.card.classes, description=f"segflow {plan.card.name}")
    else:
        write_byte_nifti(path, read, source, orientation, description="largest probability x 255")
