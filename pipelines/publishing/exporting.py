"""The stage that makes other formats of a published label map, which is safe by then: what fails costs itself only."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from stat import S_ISREG

from pipelines.planning.plan import ScenePlan
from pipelines.publishing.outputs import file_facts, layer_files
from segflow.errors import SegflowError
from segflow.io.exports import Exporter, Published
from segflow.io.exports.bids import Bids, datasets_of
from segflow.io.exports.coverage import Coverage
from segflow.io.exports.dicom_seg import DicomSeg
from segflow.io.exports.itksnap import ItkSnap
from segflow.io.exports.polygons import Polygons
from segflow.io.exports.qml import Qml
from segflow.io.exports.slicer import SegNrrd
from segflow.io.exports.stac import Stac
from segflow.recipe import Recipe
from segflow.report import ExportFacts, SceneReport

_LOG = logging.getLogger(__name__)


def exporters_of(recipe: Recipe) -> tuple[Exporter, ...]:
    """Return what the recipe's `outputs` ask for beside the label map, in the order in which it is made."""
    asked = tuple(_asked(recipe))
    outputs = recipe.outputs
    return (*asked, Stac(recipe.name, outputs.taken, asked)) if outputs.stac else asked


def _asked(recipe: Recipe) -> Iterator[Exporter]:
    outputs = recipe.outputs
    polygons = None if outputs.polygons is None else Polygons(**dict(outputs.polygons))
    if outputs.qml:
        yield Qml(polygons=polygons is not None and bool(polygons.formats))
    if polygons is not None:
        yield polygons
    if outputs.coverage:
        yield Coverage()
    if outputs.bids:
        yield _bids(recipe)
    if outputs.seg_nrrd:
        yield SegNrrd()
    if outputs.itksnap:
        yield ItkSnap()
    if outputs.dicom_seg is not None:
        wanted = outputs.dicom_seg
        codes = None if wanted.codes is None else recipe.resolve(wanted.codes)
        yield DicomSeg(wanted.type, codes, wanted.sr)


def _bids(recipe: Recipe) -> Bids:
    inputs = recipe.inputs
    patterns = [inputs.path] if isinstance(inputs.path, str) else [*inputs.path]
    patterns += (inputs.channels or {}).values()
    weights = "" if recipe.model is None else recipe.model.weights
    first = weights if isinstance(weights, str) else weights[0]
    return Bids(
        title=recipe.name,
        segmentation=Path(first.rpartition(":")[2]).stem,
        sources=datasets_of([recipe.resolve(pattern) for pattern in patterns]),
        probabilities=recipe.outputs.probabilities,
    )


def published_of(plan: ScenePlan, folder: Path) -> Published:
    """Return what exporters are told of a scene."""
    return Published(
        scene=plan.scene,
        folder=folder,
        files=layer_files(plan.scene, plan.grid.kind, folder, plan.task.confidence, plan.task.probabilities),
        grid=plan.output_grid,
        card=plan.card,
        inputs=plan.inputs,
        spec=plan.spec,
        nodata=plan.task.nodata,
        fingerprint=plan.fingerprint,
        weights_sha256=plan.weights_sha256,
        weights=plan.model.weights,
        part=plan.region,
        scene_cells=plan.grid.shape,
        margin=margin_of(plan),
        preview=plan.preview,
    )


def margin_of(plan: ScenePlan) -> tuple[int, ...]:
    """Return how many cells around it a cell should have as context, on each axis of the output.

    Half the overlap, which every cell has that is far enough from the border; where the overlap was measured, how far
    the network sees, but no more than half a patch shows.
    """
    found = []
    reach = None if plan.auto is None or plan.auto.tolerance is None else plan.auto.reach
    for axis, cells in zip(plan.task.layout.lattice.axes, plan.grid.shape, strict=True):
        step = axis.starts[1] if len(axis.starts) > 1 else axis.patch
        margin = -(-(axis.patch - step) // 2) if reach is None else min(reach, axis.patch // 2)
        found.append(-(-margin * cells // axis.size))
    return tuple(found)


def refusals(exporters: Sequence[Exporter], published: Published) -> Iterator[str]:
    """Yield what will not be written, as notices: known before anything runs."""
    for exporter in exporters:
        try:
            exporter.require(published)
        except SegflowError as error:
            yield (
                f"outputs.{exporter.name} will not be written: {error.found} "
                f"(expected: {error.expected}; remedy: {error.remedy})"
            )
        except Exception as error:  # as in `_written`: it must cost neither the label map nor the plan
            _LOG.debug("outputs.%s cannot tell whether it can be written", exporter.name, exc_info=True)
            yield f"outputs.{exporter.name} may not be written: {type(error).__name__}: {error}"


def remarks(exporters: Sequence[Exporter], published: Published) -> Iterator[str]:
    """Yield what a plan tells of exports that will be written."""
    for exporter in exporters:
        if isinstance(exporter, Polygons):
            yield from exporter.remarks(published)


def missing(exporters: Sequence[Exporter], published: Published, before: SceneReport) -> tuple[Exporter, ...]:
    """Return the exporters whose files a finished scene lacks, or has in another way than is asked for now."""
    return tuple(exporter for exporter in exporters if _kept(exporter, published, before) is None)


def write_exports(
    exporters: Sequence[Exporter], published: Published, before: SceneReport | None = None
) -> tuple[ExportFacts, ...]:
    """Write what is asked for and not there yet.

    Args:
        exporters: what is asked for.
        published: the scene.
        before: the report of the same label map, where there is one: what it tells of and is whole is left as it is.

    Returns:
        Of each exporter, its files or why there are none.
    """
    return tuple(
        (None if before is None else _kept(exporter, published, before)) or _written(exporter, published)
        for exporter in exporters
    )


def failures(exports: Sequence[ExportFacts]) -> str | None:
    """Return what failed, in words; None where all is well."""
    broken = [f"outputs.{item.name}: {item.error}" for item in exports if item.error is not None]
    return "\n".join(broken) or None


def names_of(exports: Sequence[ExportFacts]) -> Iterator[str]:
    """Yield the names of the files that were written, relative to the output folder."""
    return (item.name for facts in exports for item in facts.files)


def _written(exporter: Exporter, published: Published) -> ExportFacts:
    facts = ExportFacts(name=exporter.name, settings=_settings(exporter, published))
    paths = exporter.files(published.scene, published.folder)
    before = [_stamp(path) for path in paths]
    try:
        exporter.require(published)
        exporter.write(published)
        return facts.model_copy(update={"files": tuple(file_facts(path, published.folder) for path in paths)})
    except SegflowError as error:
        _LOG.error("%s: outputs.%s was not written: %s", published.scene, exporter.name, error)
        failed = str(error)
    except Exception as error:  # the label map is published: whatever an exporter meets must not hide that
        _LOG.exception("%s: outputs.%s was not written", published.scene, exporter.name)
        failed = f"{type(error).__name__}: {error}"
    # What it has written all the same is told, so that it is kept now, and goes when it is out of date.
    written = [path for path, stamp in zip(paths, before, strict=True) if _stamp(path) not in (None, stamp)]
    files = tuple(file_facts(path, published.folder) for path in written)
    return facts.model_copy(update={"files": files, "error": failed})


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return what changes when a file is replaced; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns) if S_ISREG(found.st_mode) else None


def _kept(exporter: Exporter, published: Published, before: SceneReport) -> ExportFacts | None:
    """Return what a report says of an exporter, if that is what would be written now, and is there."""
    facts = next((item for item in before.exports if item.name == exporter.name), None)
    if facts is None or facts.error is not None or facts.settings != _settings(exporter, published):
        return None
    try:
        whole = all(file_facts(published.folder / item.name, published.folder) == item for item in facts.files)
    except OSError:
        return None
    return facts if whole else None


def _settings(exporter: Exporter, published: Published) -> str:
    """Return a hash of what decides an exporter's files beside the label map: codes of classes, too."""
    codes = [item.codes for item in published.card.classes]
    return hashlib.sha256(json.dumps([dict(exporter.settings), codes], sort_keys=True).encode()).hexdigest()
