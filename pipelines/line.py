"""One scene through all stages: planned, left alone where it is finished, else made and published."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from pipelines.events import ChunkDone, Listener, SceneStarted
from pipelines.journal import ChunkRecord, Totals
from pipelines.network.engine import Engine
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.room import require_room
from pipelines.planning.scenes import NamedScene, Selection
from pipelines.postprocess import postprocess
from pipelines.predict import Executor, predict
from pipelines.publishing.details import unmeasured
from pipelines.publishing.export import export
from pipelines.publishing.exporting import (
    exporters_of,
    failures,
    missing,
    names_of,
    published_of,
    refusals,
    write_exports,
)
from pipelines.publishing.outputs import published, remove_outdated
from pipelines.publishing.publish import publish
from pipelines.publishing.report import finished, report, report_again
from pipelines.workshop import HIDDEN, SCENES, Bench, Workshop
from segflow.errors import ClusterError, InputError, ModelError, OutputError, PlanError, RecipeError, SegflowError
from segflow.io.exports import Exporter
from segflow.io.staging import DamagedStagingError
from segflow.masking import open_text
from segflow.recipe import Recipe
from segflow.report import ExportFacts, SceneReport, SceneState

_LOG = logging.getLogger(__name__)
_TRIES = 3
"""How often a scene is made whose staged chunks are damaged while they are published."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The stages as functions; a scheduler puts its wrapped ones here."""

    plan: Callable[..., ScenePlan] = plan_scene
    predict: Callable[..., Totals] = predict
    postprocess: Callable[..., Totals] = postprocess
    export: Callable[..., Mapping[str, Path]] = export
    exports: Callable[..., tuple[ExportFacts, ...]] = write_exports
    report: Callable[..., SceneReport] = report
    publish: Callable[..., tuple[str, ...]] = publish


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for of each scene.

    Attributes:
        recipe: what runs on what.
        selection: a part of it, for a look.
        force: do finished scenes again.
        stages: the stages.
        listener: told of progress.
        shared: what the run shares with its workers.
    """

    recipe: Recipe
    selection: Selection
    force: bool
    stages: Stages
    listener: Listener
    shared: str

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.recipe.folder

    @property
    def exporters(self) -> tuple[Exporter, ...]:
        """What makes other formats of the label map."""
        return exporters_of(self.recipe)

    def bench(self, item: NamedScene) -> Bench:
        """Return the hidden folder of a scene."""
        return Bench(self.folder / HIDDEN / SCENES / item.name, self.shared)


@dataclass(frozen=True, slots=True)
class Line:
    """What takes a scene through its stages.

    Attributes:
        order: what is asked for.
        engine: the network.
        executor: who works off the blocks.
        setup_seconds: what it took until there was a network.
    """

    order: Order
    engine: Engine
    executor: Executor
    setup_seconds: float = 0.0

    def unchanged(self, item: NamedScene) -> SceneState | None:
        """Return the state of a scene that is finished as it would be made now; None where it is not, or may not be."""
        if published(item.name, self.order.folder) is None:
            return None
        try:
            plan, found = self._finished(item)
            return None if found is None or self._lacking(plan, found) else self._as_it_is(plan, item, found)
        except Exception:  # told when it is met again, with the network
            return None

    def scene(self, item: NamedScene, number: int, scenes: int) -> SceneState:
        """Take a scene, one of so many, through the stages, and say what became of it.

        Raises:
            ClusterError: there is nobody to do it.
        """
        bench = self.order.bench(item)
        try:
            state = self._scene(item, bench, (number, scenes))
        except ClusterError:
            bench.clear_unless_resumable()
            raise
        except (RecipeError, PlanError, InputError, ModelError) as error:
            state = SceneState(scene=item.name, state="refused", error=str(error))
        except SegflowError as error:
            state = SceneState(scene=item.name, state="failed", error=str(error))
        except Exception as error:
            _LOG.exception("%s failed", item.name)
            state = SceneState(scene=item.name, state="failed", error=open_text(f"{type(error).__name__}: {error}"))
        if state.state in ("failed", "refused"):
            bench.clear_unless_resumable()
        return state

    def _scene(self, item: NamedScene, bench: Bench, place: tuple[int, int]) -> SceneState:
        began = perf_counter()
        plan, found = self._finished(item)
        if found is not None:
            return (
                self._completed(plan, item, found) if self._lacking(plan, found) else self._as_it_is(plan, item, found)
            )
        self._tell(plan)
        workshop, before = bench.workshop(plan), published(plan.scene, self.order.folder)
        if self.order.force:
            workshop.remove()
        else:
            self._require_no_whole(plan, before)
        for notice in require_room(self.order.recipe, plan.disk, bench.folder):
            _LOG.warning("%s: %s", plan.scene, notice)
        totals, files = self._labelled(plan, workshop, place)
        made = self._published(plan, workshop, totals, files, before, began)
        bench.clear(workshop, plan.preview)
        return SceneState(scene=item.name, state="done", error=failures(made.exports), report=made)

    def _finished(self, item: NamedScene) -> tuple[ScenePlan, SceneReport | None]:
        """Plan a scene; also return its report where its label map is finished as planned."""
        before = None if self.order.force else published(item.name, self.order.folder)
        if before is None or before.run is None:
            return self._plan(item), None
        plan = self._plan(item, before.run.fingerprint)
        if plan.fingerprint != before.run.fingerprint:
            return plan, None
        if finished(plan, self.order.folder, before):
            return plan, before
        return self._plan(item), None

    def _plan(self, item: NamedScene, done: str | None = None) -> ScenePlan:
        order, bench = self.order, self.order.bench(item)
        return order.stages.plan(order.recipe, item, self.engine, order.selection, bench.scratch, bench.begun(), done)

    def _lacking(self, plan: ScenePlan, found: SceneReport) -> bool:
        """Tell whether a finished scene lacks exports or measures that are asked for, or has others."""
        exporters = self.order.exporters
        others = {item.name for item in found.exports} - {exporter.name for exporter in exporters}
        if others or unmeasured(plan, found.details):
            return True
        return bool(missing(exporters, published_of(plan, self.order.folder), found))

    def _as_it_is(self, plan: ScenePlan, item: NamedScene, found: SceneReport) -> SceneState:
        """Leave a finished scene as it is."""
        self._tell(plan)
        bench = self.order.bench(item)
        bench.clear(bench.workshop(plan), plan.preview)
        return SceneState(scene=item.name, state="unchanged", report=found)

    def _completed(self, plan: ScenePlan, item: NamedScene, found: SceneReport) -> SceneState:
        """Make the exports and measures that a finished scene lacks, and nothing else."""
        folder, exporters = self.order.folder, self.order.exporters
        exports = self.order.stages.exports(exporters, published_of(plan, folder), found)
        remove_outdated(found, (*(item.name for item in found.outputs), *names_of(exports)), folder)
        made = report_again(plan, folder, found, exports)
        return self._as_it_is(plan, item, made).model_copy(update={"state": "done", "error": failures(exports)})

    def _tell(self, plan: ScenePlan) -> None:
        """Say what a user must know of a scene, before anything runs."""
        for notice in (*plan.notices, *refusals(self.order.exporters, published_of(plan, self.order.folder))):
            _LOG.warning("%s: %s", plan.scene, notice)

    def _require_no_whole(self, plan: ScenePlan, before: SceneReport | None) -> None:
        """Refuse a look where the results of the whole scene are."""
        if plan.preview and before is not None and before.grid.shape == plan.whole.shape:
            raise OutputError(
                f"{self.order.folder} holds the whole of {plan.scene}",
                "a preview beside it, not in its place",
                "choose another folder with -o, or --force to give up the whole",
            )

    def _labelled(
        self, plan: ScenePlan, workshop: Workshop, place: tuple[int, int]
    ) -> tuple[Totals, Mapping[str, Path]]:
        """Make what is missing of a scene's label map and write it; again where a staged chunk turns out to be damaged.

        Returns:
            The sums over all chunks, and the files by layer.
        """
        stages = self.order.stages

        def begun(found: int) -> None:
            left = max(0, plan.task.layout.forwards - found)
            self.order.listener(SceneStarted(plan.scene, *place, left, found > 0))

        def heard(record: ChunkRecord) -> None:
            self.order.listener(ChunkDone(plan.scene, record.forwards, record.block))

        for left in reversed(range(_TRIES)):
            try:
                totals = stages.predict(plan, workshop, self.executor, heard, begun)
                if plan.postprocess is not None:
                    totals = stages.postprocess(plan, workshop, totals)
                exporting = perf_counter()
                files = stages.export(plan, workshop, self.order.folder)
                return totals.with_seconds(export=perf_counter() - exporting), files
            except DamagedStagingError as error:
                if not left:
                    raise
                _LOG.warning("%s: %s; it is made again", plan.scene, error.found)
        raise AssertionError("the last try returns or raises")

    def _published(
        self,
        plan: ScenePlan,
        workshop: Workshop,
        totals: Totals,
        files: Mapping[str, Path],
        before: SceneReport | None,
        began: float,
    ) -> SceneReport:
        """Make other formats of a label map, remove what is out of date, and tell what came out."""
        stages, folder, exporters = self.order.stages, self.order.folder, self.order.exporters
        exports: tuple[ExportFacts, ...] = ()
        if exporters:
            exporting = perf_counter()
            exports = stages.exports(exporters, published_of(plan, folder))
            totals = totals.with_seconds(exports=perf_counter() - exporting)
        outputs = (str(path.relative_to(folder)) for path in files.values())
        remove_outdated(before, (*outputs, *names_of(exports)), folder)
        spent = self.setup_seconds + perf_counter() - began
        return stages.report(plan, workshop, folder, totals, files, exports, spent)
