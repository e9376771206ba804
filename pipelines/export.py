"""The stage that publishes: staged chunks to the label map, and to the confidence map where one was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from pipelines.outputs import layer_files
from pipelines.plan import ScenePlan
from pipelines.postprocess import final_labels
from pipelines.predict import Workshop
from segflow.io.cog import write_byte_cog, write_label_cog
from segflow.io.nifti import write_byte_nifti, write_label_nifti
from segflow.io.rat import sidecar_of
from segflow.io.staging import Staging
from tiling import Box


def export(plan: ScenePlan, workshop: Workshop, folder: Path) -> dict[str, Path]:
    """Write the outputs of a finished scene and return them by layer; each appears whole or not at all.

    Raises:
        OutputError: a file cannot be written, or does not read back as it was written.
    """
    staging = Staging(workshop.staging, plan.region)
    files = layer_files(plan.scene, plan.grid.kind, folder, plan.task.confidence)
    for layer, path in files.items():
        reader = final_labels(plan, workshop) if layer == "labels" else reader_of(staging, layer, plan.region)
        if plan.grid.kind == "raster":
            _write_raster(plan, layer, path, reader)
        else:
            _write_volume(plan, layer, path, reader)
    classes = sidecar_of(files["labels"])
    return {**files, "classes": classes} if classes.exists() else files


def reader_of(staging: Staging, layer: str, region: Box) -> Callable[[Box], NDArray[Any]]:
    """Return a function that reads a box, counted from the region's start."""

    def read(box: Box) -> NDArray[Any]:
        start = tuple(a + b for a, b in zip(box.start, region.start, strict=True))
        return staging.read(layer, Box(start, tuple(a + n for a, n in zip(start, box.shape, strict=True))))

    return read


def _write_raster(plan: ScenePlan, layer: str, path: Path, read: Callable[[Box], NDArray[Any]]) -> None:
    tags = {"SEGFLOW_MODEL": plan.card.name, "SEGFLOW_FINGERPRINT": plan.fingerprint}
    if layer == "labels":
        write_label_cog(path, read, plan.output_grid, plan.card.classes, nodata=plan.task.nodata, tags=tags)
    else:
        write_byte_cog(path, read, plan.output_grid, nodata=0, tags=tags, description="largest probability x 255")


def _write_volume(plan: ScenePlan, layer: str, path: Path, read: Callable[[Box], NDArray[Any]]) -> None:
    number = getattr(plan.spec, "resample_to", None) or 0
    source = plan.inputs[number]
    orientation = plan.card.orientation
    if layer == "labels":
        write_label_nifti(path, read, source, orientation, plan.card.classes, description=f"segflow {plan.card.name}")
    else:
        write_byte_nifti(path, read, source, orientation, description="largest probability x 255")
