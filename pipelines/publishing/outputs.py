"""Which files a run writes, and that none of them is one that it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from pipelines.planning.scenes import NamedScene
from segflow.errors import InputError, OutputError
from segflow.grid import Kind
from segflow.io.counterparts import mask_for, reference_for
from segflow.io.exports import Exporter
from segflow.io.exports.bids import SHARED
from segflow.io.exports.qml import is_our_style
from segflow.io.exports.stac import COLLECTION
from segflow.io.rat import sidecar_of
from segflow.io.volume_formats import files_of_volume
from segflow.models.model import Model
from segflow.recipe import Recipe
from segflow.report import FileFacts, SceneReport, from_json

RUN_FILES = ("report.json", "report.html", "report.md", "metrics.csv")


def layer_files(
    scene: str, kind: Kind, folder: Path, confidence: bool = False, probabilities: bool = False
) -> dict[str, Path]:
    """Return the label map of a scene, its confidence and probabilities where they are asked for, by layer."""
    files = {"labels": folder / f"{scene}{'_labels.tif' if kind == 'raster' else '_dseg.nii.gz'}"}
    if confidence:
        files["confidence"] = folder / f"{scene}_confidence{'.tif' if kind == 'raster' else '.nii.gz'}"
    if probabilities:
        files["probabilities"] = folder / f"{scene}_{'probabilities.tif' if kind == 'raster' else 'probseg.nii.gz'}"
    return files


def names_beside(path: Path) -> Path:
    """Return the file that names the classes of a map beside it: GDAL's table, or the JSON of a BIDS probseg."""
    if path.name.endswith("_probseg.nii.gz"):
        return path.with_name(path.name.removesuffix(".nii.gz") + ".json")
    return sidecar_of(path)


def together_files(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of what is made of all scenes of a run, besides its report."""
    names = {COLLECTION: recipe.outputs.stac, f"{recipe.name}.vrt": recipe.outputs.vrt}
    names[f"{recipe.name}.qml"] = recipe.outputs.vrt and recipe.outputs.qml
    return tuple(name for name, asked in names.items() if asked)


def report_files(scene: str, folder: Path) -> tuple[Path, Path]:
    """Return a scene's report, as JSON and as a page."""
    return folder / f"{scene}_report.json", folder / f"{scene}_report.html"


def published(scene: str, folder: Path) -> SceneReport | None:
    """Return the report that a scene has in a folder; None where there is none that this version can read."""
    try:
        return from_json(report_files(scene, folder)[0].read_text())
    except (OSError, ValueError):
        return None


def file_facts(path: Path, folder: Path) -> FileFacts:
    """Return name, checksum and size of a file that was written."""
    with path.open("rb") as file:
        return FileFacts(
            name=str(path.relative_to(folder)),
            sha256=hashlib.file_digest(file, "sha256").hexdigest(),
            bytes=path.stat().st_size,
        )


def remove_outdated(before: SceneReport | None, names: Iterable[str], folder: Path) -> None:
    """Remove files that an earlier run of the scene published and this one does not: they tell of other labels.

    Done before the new report is written: afterwards nothing would tell of them to a run that goes on. What other
    scenes have in common with it stays; see `pipelines.publishing.together`.

    Args:
        before: the earlier run's report; None where there was none.
        names: of the files that are published now, relative to the folder.
        folder: where they are.

    Raises:
        OutputError: one of them cannot be removed.
    """
    if before is None:
        return
    kept, inside = {*names, *SHARED}, folder.resolve()
    for item in (*before.outputs, *(file for export in before.exports for file in export.files)):
        path = folder / item.name
        if item.name in kept or not path.resolve().is_relative_to(inside) or path.is_dir():
            continue
        remove_file(path)
        with suppress(OSError):  # a folder that holds something stays
            for parent in Path(item.name).parents[:-1]:
                (folder / parent).rmdir()


def remove_file(path: Path) -> None:
    """Remove a file that is out of date, if it is there.

    Raises:
        OutputError: it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path} is of an earlier run and cannot be removed: {error.strerror or error}",
            "a folder with the right to write",
            "check the folder's permissions, or remove the file",
        ) from error


def require_nothing_overwritten(
    recipe: Recipe, scenes: Sequence[NamedScene], model: Model, exporters: Sequence[Exporter]
) -> None:
    """Refuse a run that would write over a file that it reads.

    Raises:
        OutputError: it would; the file is named.
    """
    read = {path.resolve(): path for path in _read(recipe, scenes, model) if path.exists()}
    for item in scenes:
        for path in _written(item.name, recipe, exporters):
            if path.resolve() in read:
                raise OutputError(
                    f"the run would write over {read[path.resolve()]}, which it reads",
                    "outputs that are other files than inputs, references and weights",
                    "choose another outputs.folder or outputs.name",
                )


def _written(scene: str, recipe: Recipe, exporters: Sequence[Exporter]) -> Iterator[Path]:
    folder = recipe.folder
    yield from (folder / name for name in (*RUN_FILES, *together_files(recipe)))
    yield from report_files(scene, folder)
    outputs = recipe.outputs
    for path in layer_files(scene, recipe.kind, folder, outputs.confidence, outputs.probabilities).values():
        yield path
        yield names_beside(path)
    for exporter in exporters:
        yield from exporter.files(scene, recipe.folder)


def _files_of(recipe: Recipe, item: NamedScene) -> Iterator[Path]:
    """Yield a scene's files, as far as they are known without opening rasters."""
    if recipe.kind == "raster":
        for raster in map(Path, item.scene.paths):
            yield raster
            styled = raster.with_suffix(".qml")
            if styled.is_file() and not is_our_style(styled):  # the owner's, which QGIS loads with the raster
                yield styled
        return
    try:
        for path in item.scene.paths:
            yield from files_of_volume(path)
    except InputError:
        return  # it is told when the scene is planned


def _read(recipe: Recipe, scenes: Sequence[NamedScene], model: Model) -> Iterator[Path]:
    yield from model.files
    if recipe.inputs.aoi is not None:
        yield recipe.resolve(recipe.inputs.aoi)
    if recipe.report.regions is not None:
        yield recipe.resolve(recipe.report.regions)
    for item in scenes:
        yield from _files_of(recipe, item)
        if recipe.references is None:
            continue
        try:
            yield Path(reference_for(item.scene, recipe.references, recipe.resolve))
            mask = mask_for(item.scene, recipe.references, recipe.resolve)
            yield from () if mask is None else (Path(mask),)
        except InputError:
            continue  # it is told when the scene is planned
