"""The same stages as a Prefect flow run: functions do, tasks wrap. One task a stage, never one a tile."""

from __future__ import annotations

import os

os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")

from datetime import date
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.launch import with_workers
from pipelines.events import Listener
from pipelines.export import export
from pipelines.predict import predict
from pipelines.prepare import Selection, plan_scene
from pipelines.report import report
from pipelines.run import Outcome, Stages
from segflow.recipe import Recipe


def _stage(function: Any, name: str) -> Any:
    """Wrap a stage. Nothing is cached: a cached success whose output was deleted would be a lie."""
    return task(
        function,
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=0,
        log_prints=False,
        viz_return_value={},
    )


plan_task = _stage(plan_scene, "plan")
predict_task = _stage(predict, "predict")
export_task = _stage(export, "export")
report_task = _stage(report, "report")

STAGES = Stages(plan=plan_task, predict=predict_task, export=export_task, report=report_task)


def run_as_flow(recipe: Recipe, selection: Selection, *, force: bool, listener: Listener) -> Outcome:
    """Run a recipe as a flow run of the configured Prefect API, and return what it came to.

    The flow run is Failed when a scene failed; its message names the scenes.
    """
    made: list[Outcome] = []

    @flow(
        name="segflow",
        flow_run_name=f"segment-{recipe.name}-{date.today().isoformat()}",
        persist_result=False,
        validate_parameters=False,
    )
    def segment(recipe: dict[str, Any]) -> State[None]:
        logger = get_run_logger()
        outcome = with_workers(settled, selection, force=force, listener=listener, stages=STAGES)
        made.append(outcome)
        states = outcome.report.scenes
        broken = [item.scene for item in states if item.state in ("failed", "refused")]
        for item in states:
            (logger.error if item.scene in broken else logger.info)("%s: %s", item.scene, item.error or item.state)
        if broken:
            return Failed(message=f"{len(broken)} of {len(states)} scenes failed: {', '.join(broken)}")
        return Completed(message=f"{len(states)} scenes in {outcome.folder}")

    settled = recipe
    state = segment(recipe.model_dump(mode="json"), return_state=True)
    if not made:
        state.result()
    return made[0]
