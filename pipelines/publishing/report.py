"""The stage that tells what came out: scores from the journal, pictures, and the files' checksums."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from time import perf_counter

from pipelines.journal import Totals
from pipelines.planning.plan import ScenePlan
from pipelines.predict import Workshop
from pipelines.publishing.details import details_of, unmeasured
from pipelines.publishing.geometry import geometry_of
from pipelines.publishing.outputs import file_facts, layer_files
from pipelines.publishing.preview import pictures
from pipelines.publishing.seen import seen_of, to_facts
from segflow.backends import available
from segflow.errors import SegflowError
from segflow.io.gdalenv import shown
from segflow.memory import peak_rss_bytes
from segflow.metrics import Counts, scores
from segflow.metrics.results import Details
from segflow.report import (
    AutoFacts,
    ExportFacts,
    ModelFacts,
    RunFacts,
    SceneReport,
    TilingFacts,
    scene_report,
    write_scene_report,
)

_LOG = logging.getLogger(__name__)


def report(
    plan: ScenePlan,
    workshop: Workshop,
    folder: Path,
    totals: Totals,
    files: Mapping[str, Path],
    exports: tuple[ExportFacts, ...],
    seconds: float,
) -> SceneReport:
    """Write a scene's report and return it.

    Args:
        plan: the scene's plan.
        workshop: where the staged chunks are.
        folder: where the report goes.
        totals: the journal's sums.
        files: what was published, by layer.
        exports: what was made of that.
        seconds: wall clock of the scene so far.
    """
    grid = plan.output_grid
    result = scores(
        totals.counts, plan.card.classes, cell_area_m2=grid.cell_area_m2, cell_volume_ml=grid.cell_volume_ml
    )
    began = perf_counter()
    details, told = _measured(plan, folder, totals.counts)
    spent = {**totals.seconds, "measure": perf_counter() - began}
    made = scene_report(
        plan.scene,
        grid,
        result,
        details=details,
        run=RunFacts(
            forwards=totals.forwards,
            forwards_minimum=totals.forwards_minimum,
            seconds={stage: round(n, 3) for stage, n in (spent | {"total": seconds + spent["measure"]}).items()},
            peak_rss_bytes=max(totals.peak_rss_bytes, peak_rss_bytes()),
            backend=plan.forward.backend,
            device=plan.facts.get("device", plan.forward.device),
            fingerprint=plan.fingerprint,
            why=plan.why,
            tiling=_tiling(plan),
            calibration=plan.facts.get("calibration"),
            versions={"segflow": version("segflow"), **available()},
            recipe=plan.recipe,
        ),
        model=ModelFacts(
            name=plan.card.name,
            weights_sha256=plan.weights_sha256,
            architecture=plan.card.architecture,
            description=plan.card.description or None,
            licence=plan.card.licence or None,
        ),
        inputs=tuple(map(shown, plan.inputs)),
        references=() if plan.reference is None else (shown(plan.reference.path),),
        outputs=[file_facts(path, folder) for path in files.values()],
        exports=exports,
        geometry=geometry_of(plan, files["labels"]),
        notices=(*plan.notices, *told),
        seen=to_facts(seen_of(plan)),
    )
    _write(plan, folder, made)
    return made


def _measured(plan: ScenePlan, folder: Path, counts: Counts) -> tuple[Details | None, tuple[str, ...]]:
    """Return what is measured against the reference, and a notice where that failed: the label map is safe."""
    files = layer_files(plan.scene, plan.grid.kind, folder, plan.task.confidence)
    try:
        return details_of(plan, files, counts), ()
    except SegflowError as error:
        _LOG.error("%s: distances, objects and the like were not measured: %s", plan.scene, error)
        return None, (f"distances, objects and the like were not measured: {error.found}; the next run tries again",)


def _write(plan: ScenePlan, folder: Path, made: SceneReport) -> None:
    files = layer_files(plan.scene, plan.grid.kind, folder, plan.task.confidence)
    drawn = pictures(seen_of(plan), made.classes, files["labels"], files.get("confidence"))
    write_scene_report(folder, plan.scene, made, drawn)


def _tiling(plan: ScenePlan) -> TilingFacts:
    lattice, auto = plan.task.layout.lattice, plan.auto
    return TilingFacts(
        patch=lattice.patch,
        step=tuple(axis.starts[1] if len(axis.starts) > 1 else axis.patch for axis in lattice.axes),
        blend=lattice.axes[0].profile,
        overhead=round(plan.task.layout.overhead, 4),
        auto=None if auto is None else AutoFacts(**asdict(auto)),
    )


def report_again(plan: ScenePlan, folder: Path, found: SceneReport, exports: tuple[ExportFacts, ...]) -> SceneReport:
    """Write the report of a finished scene anew, of which other exports have been made; return it."""
    details, told = _measured(plan, folder, found.counts) if unmeasured(plan, found.details) else (found.details, ())
    made = found.model_copy(update={"exports": exports, "details": details, "notices": (*plan.notices, *told)})
    _write(plan, folder, made)
    return made


def finished(plan: ScenePlan, folder: Path, found: SceneReport) -> bool:
    """Tell whether a report is that of this plan, with all its files as they were written."""
    if found.run is None or found.run.fingerprint != plan.fingerprint:
        return False
    try:
        whole = all(file_facts(folder / item.name, folder) == item for item in found.outputs)
    except OSError:
        whole = False
    if not whole:
        _LOG.warning("%s: the outputs are not as they were written; the scene is done again", plan.scene)
    return whole
