"""The same stages as a Prefect flow run: functions do, tasks wrap. One task a stage and scene, never one a tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prefect import flow, get_run_logger, runtime
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed
from pydantic import ValidationError

from flows.incremental.increment import Increment
from flows.incremental.run import run_increment
from flows.ledger.private import Private
from flows.masked_log import mask_logs, masked_errors
from flows.prefect.artifacts import Progress, tell, tell_trained
from flows.prefect.run_log import progress_logged
from flows.prefect.slots import slots
from flows.workers import with_workers
from pipelines.events import Event, Listener
from pipelines.planning.scenes import Selection
from segflow.errors import RecipeError
from segflow.recipe import Recipe, open_recipe, parse_recipe

if TYPE_CHECKING:
    from pipelines.runner import Outcome, Stages
    from segflow.report.training import Point, Scored
    from segflow.training.train import Trained

mask_logs()


def _stages() -> Stages:
    """Return the stages as tasks; a run that finds nothing new needs none, nor what they import."""
    from flows.prefect.tasks import STAGES

    return STAGES


def _silent(_event: Event) -> None:
    """Hear nothing."""


@dataclass(slots=True)
class _Call:
    """What the caller in this process gives to a flow run and gets from it.

    Parameters are plain data only, and go to the server: the recipe there is without passwords, and this one counts.
    """

    listener: Listener = _silent
    recipe: Recipe | None = None
    outcome: list[Outcome] = field(default_factory=list)
    increment: list[Increment] = field(default_factory=list)
    report: Callable[[str, Point | Scored], None] | None = None
    trained: list[Trained] = field(default_factory=list)


_call: ContextVar[_Call | None] = ContextVar("segflow_call", default=None)


@contextmanager
def _calling(call: _Call) -> Iterator[None]:
    """Let the flow runs that are started meanwhile know of their caller."""
    token = _call.set(call)
    try:
        yield
    finally:
        _call.reset(token)


def _name() -> str:
    """Name a flow run by its recipe and day."""
    recipe = cast(Any, runtime.flow_run.parameters["recipe"])
    name = recipe.name if isinstance(recipe, Recipe) else recipe.get("name", "segflow")
    return f"segment-{name}-{date.today().isoformat()}"


@flow(name="segflow", flow_run_name=_name, persist_result=False, validate_parameters=False)
def segment(
    recipe: dict[str, Any], base: str = ".", selection: dict[str, Any] | None = None, force: bool = False
) -> State[None]:
    """Segment all scenes of a recipe; the run is Failed when a scene failed, and its message names the scenes.

    Args:
        recipe: the recipe's keys, as in its YAML file.
        base: the folder that relative paths in it start from.
        selection: `window`, `bbox` or `limit`, for a look at a part.
        force: do finished scenes again.
    """
    call = _call.get() or _Call()
    logger = get_run_logger()
    parsed = call.recipe or parse_recipe(recipe, Path(base), origin="the flow run's recipe")
    Private(parsed).hide_places()
    with masked_errors(), progress_logged():
        outcome = with_workers(
            parsed, _selection(selection or {}), force=force, listener=call.listener, stages=_stages()
        )
    call.outcome.append(outcome)
    scenes = outcome.report.scenes
    broken = [item.scene for item in scenes if item.state in ("failed", "refused")]
    for item in scenes:
        (logger.error if item.error else logger.info)("%s: %s", item.scene, item.error or item.state)
    if broken:
        return Failed(message=f"{len(broken)} of {len(scenes)} scenes failed: {', '.join(broken)}")
    if outcome.unpublished:
        return Failed(message=f"the scenes are whole, but not published: {'; '.join(outcome.unpublished)}")
    return Completed(message=f"{len(scenes)} scenes in {outcome.folder}")


@flow(name="segflow-new", flow_run_name=_name, persist_result=False)
def segment_new(*, backfill: bool = False, recipe: Recipe) -> State[None]:
    """Segment what is new in a recipe's inputs, each scene once; the ledger knows what is done.

    The run is Completed when all went well, Completed and called Degraded when some scenes failed, and Failed when more
    than `service.max_failed` of them did.

    Args:
        backfill: also do again what was done by another recipe or other weights.
        recipe: what runs on what; the keys of a recipe's YAML file.
    """
    call = _call.get() or _Call()
    logger = get_run_logger()
    parsed = call.recipe or _filled(recipe)
    name = str(runtime.flow_run.name)
    with masked_errors(), progress_logged(), slots(parsed), Progress(parsed.name, call.listener) as listener:
        increment = run_increment(parsed, backfill=backfill, listener=listener, stages=_stages, name=name)
    call.increment.append(increment)
    for item in increment.scenes:
        (logger.error if item.error else logger.info)("%s: %s", item.scene, item.error or item.state)
    tell(parsed, increment)
    if increment.state == "failed":
        return Failed(message=increment.summary)
    return Completed(message=increment.summary, name="Degraded" if increment.state == "degraded" else "Completed")


def _filled(recipe: Recipe) -> Recipe:
    """Return a recipe as it is run here: with ${VAR} filled in from this process' environment."""
    return parse_recipe(
        recipe.model_dump(mode="json", exclude_unset=True), Path(recipe.base), origin="the flow run's recipe"
    )


def _train_name() -> str:
    """Name a training's flow run by its recipe and day."""
    return f"train-{cast(Recipe, runtime.flow_run.parameters['recipe']).name}-{date.today().isoformat()}"


@flow(name="segflow-train", flow_run_name=_train_name, persist_result=False)
def train_model(recipe: Recipe) -> State[None]:
    """Train a model; what was cut off goes on from its last checkpoint.

    Args:
        recipe: its part `train` says how; the keys of a recipe's YAML file.
    """
    from segflow.training.train import train

    call = _call.get() or _Call()
    parsed = call.recipe or _filled(recipe)
    with masked_errors(), slots(parsed):
        trained = train(parsed, report=call.report)
    call.trained.append(trained)
    tell_trained(parsed, trained)
    return Completed(message=", ".join(str(model.weights) for model in trained.models))


def _shown(recipe: Recipe) -> Recipe:
    """Return a recipe as it was written, for the server.

    Raises:
        RecipeError: what was written is no recipe before ${VAR} is filled in.
    """
    try:
        return Recipe.model_validate({**open_recipe(recipe), "base": recipe.base})
    except ValidationError as error:
        raise RecipeError(
            f"the recipe takes what is no free text from the environment: {error.errors()[0]['loc']}",
            "${VAR} in texts only, in a recipe that Prefect is told of",
            "write the value itself",
        ) from error


def train_as_flow(recipe: Recipe, report: Callable[[str, Point | Scored], None] | None) -> Trained:
    """Train as a flow run of the configured Prefect API, and return what it came to.

    Args:
        recipe: the part `train` says how.
        report: told of each step: the model's name, and the step's loss.

    Raises:
        SegflowError: as in `train`; or the recipe cannot be shown as it was written.
    """
    call = _Call(recipe=recipe, report=report)
    with _calling(call):
        state = train_model(_shown(recipe), return_state=True)
    if not call.trained:
        state.result()
    return call.trained[0]


def run_new_as_flow(recipe: Recipe, *, backfill: bool, listener: Listener) -> Increment:
    """Run what is new as a flow run of the configured Prefect API, and return what it came to.

    Raises:
        SegflowError: the run as a whole cannot be (`run_increment`), or the recipe cannot be shown as it was written.
    """
    call = _Call(listener, recipe)
    with _calling(call):
        state = segment_new(recipe=_shown(recipe), backfill=backfill, return_state=True)
    if not call.increment:
        state.result()
    return call.increment[0]


def _selection(data: dict[str, Any]) -> Selection:
    """Make a selection of JSON, which knows lists only."""
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    return Selection(**plain)


def run_as_flow(recipe: Recipe, selection: Selection, *, force: bool, listener: Listener) -> Outcome:
    """Run a recipe as a flow run of the configured Prefect API, and return what it came to.

    Raises:
        SegflowError: the run as a whole cannot be, as in `pipelines.run`.
    """
    call = _Call(listener, recipe)
    chosen = {key: value for key in Selection.__slots__ if (value := getattr(selection, key)) is not None}
    with _calling(call):
        state = segment(open_recipe(recipe), base=recipe.base, selection=chosen or None, force=force, return_state=True)
    if not call.outcome:
        state.result()
    return call.outcome[0]
