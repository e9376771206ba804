"""A run: all scenes of a recipe, each through all stages; a broken one fails alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from pipelines.events import ChunkDone, Listener, SceneEnded, SceneStarted
from pipelines.journal import ChunkRecord, Totals
from pipelines.network.engine import Engine, model_of
from pipelines.network.recorded import recorded_in
from pipelines.network.remembered import keep, recall, same
from pipelines.network.settle import settle
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.room import require_room
from pipelines.planning.scenes import NamedScene, Selection, find_scenes, with_key
from pipelines.postprocess import postprocess
from pipelines.predict import Executor, InProcess, predict
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
from pipelines.publishing.outputs import published, remove_outdated, require_nothing_overwritten
from pipelines.publishing.publish import publish
from pipelines.publishing.report import finished, report, report_again
from pipelines.publishing.together import write_together
from pipelines.telling import Told
from pipelines.workshop import HIDDEN, SCENES, Bench, Workshop, remove_shared, shared_of
from segflow.errors import ClusterError, InputError, ModelError, OutputError, PlanError, RecipeError, SegflowError
from segflow.io.atomic import remove_parts
from segflow.io.exports import Exporter
from segflow.io.lock import locked
from segflow.io.staging import DamagedStagingError
from segflow.io.store import require_known
from segflow.masking import open_text
from segflow.models.model import Model
from segflow.recipe import Recipe, read_recipe
from segflow.report import ExportFacts, Results, RunReport, SceneReport, SceneState, run_report, write_run_report

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
class Outcome:
    """What a run came to.

    Attributes:
        folder: where the results are.
        report: the run's report.
        unpublished: what could not be made of all scenes, or sent elsewhere, in words; the next run tries it again.
    """

    folder: Path
    report: RunReport
    unpublished: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0: all is done. 1: some scenes failed or lack an export, the others are whole. 2: nothing was published."""
        scenes = self.report.scenes
        if all(item.state in ("failed", "refused") for item in scenes):
            return 2
        return int(bool(self.unpublished) or any(item.error is not None for item in scenes))


def run(
    recipe: Recipe | str | Path,
    selection: Selection = Selection(),  # noqa: B008
    *,
    force: bool = False,
    listener: Listener = lambda _: None,
    executor: Callable[[Engine], Executor] = lambda engine: InProcess(engine.forward),
    stages: Stages = Stages(),
    scenes: Sequence[NamedScene] | None = None,
    admit: Callable[[NamedScene], bool] = lambda _: True,
    before: Results | None = None,
) -> Outcome:
    """Segment all scenes of a recipe.

    Idempotent: what was cut off is resumed, a finished scene of unchanged fingerprint is left as it is.

    Args:
        recipe: what runs on what; a path is read.
        selection: a part of it, for a look.
        force: do finished scenes again.
        listener: told of progress.
        executor: who works off the blocks.
        stages: the stages; a scheduler wraps them.
        scenes: these, in place of all that the recipe means.
        admit: asked before each scene; one that is not admitted is left alone, and is not in the report.
        before: results of an earlier run, which the report compares with.

    Raises:
        SegflowError: the run as a whole cannot be: the recipe, the model, the output folder, the cluster.
    """
    began, listener = perf_counter(), Told(listener)
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(Path(recipe))
    partial, given = scenes is not None or selection.limit is not None, scenes
    model, scenes = opened(recipe, selection, given)
    folder = recipe.folder
    with _workplace(recipe) as shared:
        if given is None:
            scenes = with_key(recipe, scenes, lambda: opened(recipe, selection)[1])
        recorded = recorded_in(folder, model.sha256)
        recalled = None if force else recall(recipe, model, recorded)
        known: dict[str, SceneState] = {}
        if recalled is not None:
            look = _Run(recipe, selection, shared, recalled, InProcess(recalled.forward), stages, listener, force, 0.0)
            known = {item.name: state for item in scenes if (state := look.unchanged(item)) is not None}
            if len(known) == len(scenes):
                states = [known[item.name] for item in scenes if admit(item)]
                for state in states:
                    listener(SceneEnded(state))
                return _ended(recipe, selection, states, stages, partial, before)
        with closing(settle(recipe, recorded, calibrated_in(folder))) as engine:
            keep(engine, recipe, recorded)
            if recalled is not None and not same(engine, recalled):
                known = {}
            spent = perf_counter() - began
            one = _Run(recipe, selection, shared, engine, executor(engine), stages, listener, force, spent)
            states = [one.scene(item, no, len(scenes), known) for no, item in enumerate(scenes, 1) if admit(item)]
            return _ended(recipe, selection, states, stages, partial, before)


def opened(
    recipe: Recipe, selection: Selection, scenes: Sequence[NamedScene] | None = None
) -> tuple[Model, Sequence[NamedScene]]:
    """Return a recipe's model and scenes, once it is known that it can be meant: by `run`, and by who only plans.

    Args:
        recipe: what runs on what.
        selection: a part of it.
        scenes: these, in place of all that the recipe means.

    Raises:
        SegflowError: there is no such model or scene, what would be written is read, or staging can't be used.
    """
    model = model_of(recipe)
    scenes = find_scenes(recipe, model.card, selection.limit) if scenes is None else scenes
    require_nothing_overwritten(recipe, scenes, model, exporters_of(recipe))
    if recipe.compute.staging is not None:
        require_known(recipe.compute.staging)
    return model, scenes


def calibrated_in(folder: Path) -> Path:
    """Return the part of an output folder in which a network lies that was calibrated for an unfinished run."""
    return folder / HIDDEN / "int8"


def _ended(
    recipe: Recipe,
    selection: Selection,
    states: list[SceneState],
    stages: Stages,
    partial: bool,
    before: Results | None,
) -> Outcome:
    """Tell of all scenes, and send what is new where the recipe says; a look at a part of scenes is not sent."""
    folder = recipe.folder
    if all(state.state in ("failed", "refused") for state in states):
        return Outcome(folder, run_report(recipe.name, states))
    failed = write_together(recipe, folder, states, partial)
    drift = recipe.service.drift
    told = write_run_report(folder, recipe.name, states, recipe.report.bootstrap, before, drift)
    look = selection.window is not None or selection.bbox is not None
    unsent = stages.publish(recipe, told, folder) if recipe.publish is not None and not look else ()
    return Outcome(folder, told, (*failed, *unsent))


@contextmanager
def _workplace(recipe: Recipe) -> Iterator[str]:
    """Hold an output folder, and give what a run shares with its workers.

    What was made of both in vain goes again, unless a scene in it can be resumed.
    """
    folder = recipe.folder
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    hidden = folder / HIDDEN
    try:
        with locked(hidden / "lock"):
            try:
                remove_parts(folder)
                for left in (hidden / SCENES).glob("*/scratch/*.part"):
                    left.unlink(missing_ok=True)
                yield shared_of(recipe, hidden)
            finally:
                if not any((hidden / SCENES).glob("*")):
                    remove_shared(hidden)
                    shutil.rmtree(hidden, ignore_errors=True)
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()


@dataclass(frozen=True, slots=True)
class _Run:
    recipe: Recipe
    selection: Selection
    shared: str
    engine: Engine
    executor: Executor
    stages: Stages
    listener: Listener
    force: bool
    setup_seconds: float

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self.recipe.folder

    @property
    def exporters(self) -> tuple[Exporter, ...]:
        """What makes other formats of the label map."""
        return exporters_of(self.recipe)

    def _tell(self, plan: ScenePlan) -> None:
        """Say what a user must know of a scene, before anything runs."""
        for notice in (*plan.notices, *refusals(self.exporters, published_of(plan, self.folder))):
            _LOG.warning("%s: %s", plan.scene, notice)

    def unchanged(self, item: NamedScene) -> SceneState | None:
        """Return the state of a scene that is finished as it would be made now; None where it is not, or may not be."""
        if published(item.name, self.folder) is None:
            return None
        try:
            plan, found = self._finished(item, self._bench(item))
            return None if found is None or self._lacking(plan, found) else self._as_it_is(plan, item, found)
        except Exception:  # told when it is met again, with the network
            return None

    def scene(self, item: NamedScene, number: int, scenes: int, known: Mapping[str, SceneState]) -> SceneState:
        """Run one scene, unless it is known to be unchanged, and say what became of it."""
        bench = self._bench(item)
        try:
            state = known.get(item.name) or self._stages(item, bench, number, scenes)
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
        self.listener(SceneEnded(state))
        return state

    def _bench(self, item: NamedScene) -> Bench:
        return Bench(self.folder / HIDDEN / SCENES / item.name, self.shared)

    def _finished(self, item: NamedScene, bench: Bench) -> tuple[ScenePlan, SceneReport | None]:
        """Plan a scene; also return its report where its label map is finished as planned."""
        plan = self.stages.plan(self.recipe, item, self.engine, self.selection, bench.scratch, bench.begun())
        before = published(plan.scene, self.folder)
        if self.force or before is None or not finished(plan, self.folder, before):
            return plan, None
        return plan, before

    def _lacking(self, plan: ScenePlan, found: SceneReport) -> bool:
        """Tell whether a finished scene lacks exports or measures that are asked for, or has others."""
        exporters = self.exporters
        others = {item.name for item in found.exports} - {exporter.name for exporter in exporters}
        if others or unmeasured(plan, found.details):
            return True
        return bool(missing(exporters, published_of(plan, self.folder), found))

    def _as_it_is(self, plan: ScenePlan, item: NamedScene, found: SceneReport) -> SceneState:
        """Leave a finished scene as it is."""
        self._tell(plan)
        bench = self._bench(item)
        bench.clear(bench.workshop(plan), plan.preview)
        return SceneState(scene=item.name, state="unchanged", report=found)

    def _completed(self, plan: ScenePlan, item: NamedScene, found: SceneReport) -> SceneState:
        """Make the exports and measures that a finished scene lacks, and nothing else."""
        exports = self.stages.exports(self.exporters, published_of(plan, self.folder), found)
        remove_outdated(found, (*(item.name for item in found.outputs), *names_of(exports)), self.folder)
        made = report_again(plan, self.folder, found, exports)
        return self._as_it_is(plan, item, made).model_copy(update={"state": "done", "error": failures(exports)})

    def _stages(self, item: NamedScene, bench: Bench, number: int, scenes: int) -> SceneState:
        began = perf_counter()
        plan, found = self._finished(item, bench)
        if found is not None:
            lacking = self._lacking(plan, found)
            return self._completed(plan, item, found) if lacking else self._as_it_is(plan, item, found)
        self._tell(plan)
        workshop, before = bench.workshop(plan), published(plan.scene, self.folder)
        if self.force:
            workshop.remove()
        for notice in require_room(self.recipe, plan.disk, bench.folder):
            _LOG.warning("%s: %s", plan.scene, notice)
        if not self.force and plan.preview and before is not None and before.grid.shape == plan.whole.shape:
            raise OutputError(
                f"{self.folder} holds the whole of {plan.scene}",
                "a preview beside it, not in its place",
                "choose another folder with -o, or --force to give up the whole",
            )
        for left in reversed(range(_TRIES)):
            try:
                made = self._made(plan, workshop, number, scenes, before, began)
                break
            except DamagedStagingError as error:
                if not left:
                    raise
                _LOG.warning("%s: %s; it is made again", plan.scene, error.found)
        bench.clear(workshop, plan.preview)
        return SceneState(scene=item.name, state="done", error=failures(made.exports), report=made)

    def _made(
        self, plan: ScenePlan, workshop: Workshop, number: int, scenes: int, before: SceneReport | None, began: float
    ) -> SceneReport:
        """Make what is missing of a scene, and publish it."""
        begun, heard = self._begun(plan, number, scenes), self._heard(plan.scene)
        totals = self.stages.predict(plan, workshop, self.executor, heard, begun)
        if plan.postprocess is not None:
            totals = self.stages.postprocess(plan, workshop, totals)
        exporting = perf_counter()
        files = self.stages.export(plan, workshop, self.folder)
        seconds: dict[str, Any] = {**totals.seconds, "export": perf_counter() - exporting}
        exports: tuple[ExportFacts, ...] = ()
        if self.exporters:
            exporting = perf_counter()
            exports = self.stages.exports(self.exporters, published_of(plan, self.folder))
            seconds["exports"] = perf_counter() - exporting
        outputs = (str(path.relative_to(self.folder)) for path in files.values())
        remove_outdated(before, (*outputs, *names_of(exports)), self.folder)
        totals = Totals(totals.counts, totals.forwards, totals.forwards_minimum, seconds, totals.peak_rss_bytes)
        spent = self.setup_seconds + perf_counter() - began
        return self.stages.report(plan, workshop, self.folder, totals, files, exports, spent)

    def _begun(self, plan: ScenePlan, number: int, scenes: int) -> Callable[[int], None]:
        def begun(found: int) -> None:
            left = max(0, plan.task.layout.forwards - found)
            self.listener(SceneStarted(plan.scene, number, scenes, left, found > 0))

        return begun

    def _heard(self, scene: str) -> Callable[[ChunkRecord], None]:
        def heard(record: ChunkRecord) -> None:
            self.listener(ChunkDone(scene, record.forwards, record.block))

        return heard
