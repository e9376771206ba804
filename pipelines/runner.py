"""A run: all scenes of a recipe, each through all stages; a broken one fails alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from pipelines.events import Listener, SceneEnded
from pipelines.line import Line, Order
from pipelines.line import Stages as Stages
from pipelines.network.engine import Engine, model_of
from pipelines.network.recorded import recorded_in
from pipelines.network.remembered import keep, recall, same
from pipelines.network.settle import settle
from pipelines.planning.naming import forget_unused_key
from pipelines.planning.scenes import NamedScene, Selection, find_scenes, with_key
from pipelines.predict import Executor, InProcess
from pipelines.publishing.exporting import exporters_of
from pipelines.publishing.outputs import require_nothing_overwritten
from pipelines.publishing.together import write_together
from pipelines.telling import Told
from pipelines.workshop import HIDDEN, SCENES, remove_shared, shared_of
from segflow.io.atomic import remove_parts
from segflow.io.lock import locked
from segflow.io.store import require_known
from segflow.models.model import Model
from segflow.recipe import Recipe, read_recipe
from segflow.report import Results, RunReport, SceneState, run_report, write_run_report

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lot:
    """Scenes that somebody else has chosen, and what the report tells beside them.

    Attributes:
        scenes: these, in place of all that the recipe means.
        admit: asked before each scene; one that is not admitted is left alone, and is not in the report.
        before: results of earlier runs, which the report compares with.
        earlier: what became of scenes before these in the same run: the report tells of them as well.
    """

    scenes: Sequence[NamedScene] | None = None
    admit: Callable[[NamedScene], bool] = lambda _: True
    before: Results | None = None
    earlier: Sequence[SceneState] = ()


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
    stages: Stages = Stages(),  # noqa: B008
    lot: Lot = Lot(),
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
        lot: scenes that were chosen, in place of all.

    Raises:
        SegflowError: the run as a whole cannot be: the recipe, the model, the output folder, the cluster.
    """
    began, listener = perf_counter(), Told(listener)
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(Path(recipe))
    model, scenes = opened(recipe, selection, lot.scenes)
    with _workplace(recipe) as shared:
        if lot.scenes is None:
            scenes = with_key(recipe, scenes, lambda: opened(recipe, selection)[1])
        order = Order(recipe, selection, force, stages, listener, shared)
        recorded = recorded_in(recipe.folder, model.sha256)
        recalled = None if force else recall(recipe, model, recorded)
        known = {} if recalled is None else _unchanged(Line(order, recalled, InProcess(recalled.forward)), scenes)
        if len(known) == len(scenes):
            return _ended(order, lot, _states(order, lot, scenes, lambda item, _: known[item.name]))
        with closing(settle(recipe, recorded, calibrated_in(recipe.folder))) as engine:
            keep(engine, recipe, recorded)
            still = known if recalled is not None and same(engine, recalled) else {}
            line = Line(order, engine, executor(engine), perf_counter() - began)

            def made(item: NamedScene, number: int) -> SceneState:
                return still.get(item.name) or line.scene(item, number, len(scenes))

            return _ended(order, lot, _states(order, lot, scenes, made))


def _unchanged(line: Line, scenes: Sequence[NamedScene]) -> dict[str, SceneState]:
    """Return the states of scenes, by name, that are finished as they would be made now."""
    return {item.name: state for item in scenes if (state := line.unchanged(item)) is not None}


def _states(
    order: Order, lot: Lot, scenes: Sequence[NamedScene], made: Callable[[NamedScene, int], SceneState]
) -> list[SceneState]:
    """Make the scenes that are admitted, one after another, numbered from 1."""
    states = []
    for number, item in enumerate(scenes, 1):
        if lot.admit(item):
            states.append(made(item, number))
            order.listener(SceneEnded(states[-1]))
    return states


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


def _ended(order: Order, lot: Lot, states: list[SceneState]) -> Outcome:
    """Tell of all scenes, and send what is new where the recipe says; a look at a part of scenes is not sent."""
    recipe, folder, selection = order.recipe, order.folder, order.selection
    every = [*lot.earlier, *states]
    if all(state.state in ("failed", "refused") for state in every):
        return Outcome(folder, run_report(recipe.name, every))
    partial = lot.scenes is not None or selection.limit is not None
    failed = write_together(recipe, folder, states, partial)
    drift = recipe.service.drift
    told = write_run_report(folder, recipe.name, every, recipe.report.bootstrap, lot.before, drift)
    look = selection.window is not None or selection.bbox is not None
    unsent = order.stages.publish(recipe, told, folder) if recipe.publish is not None and not look else ()
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
        if made:
            forget_unused_key(recipe)
        with suppress(OSError):
            for path in made:
                path.rmdir()
