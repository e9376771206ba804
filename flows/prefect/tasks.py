"""The stages of a scene as Prefect tasks: one task a stage and scene, never one a tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.masked_log import masked_errors
from pipelines.planning.prepare import plan_scene
from pipelines.postprocess import postprocess
from pipelines.predict import predict
from pipelines.publishing.export import export
from pipelines.publishing.exporting import write_exports
from pipelines.publishing.publish import publish
from pipelines.publishing.report import report
from pipelines.runner import Stages


def _task(stage: Callable[..., Any], scene: str) -> Any:
    """Wrap a stage. Nothing is cached: a cached success whose output was deleted would be a lie.

    Args:
        stage: the function; the task has its name.
        scene: where in its arguments the scene's name is.
    """
    name = stage.__name__.removesuffix("_scene").removeprefix("write_")
    return task(name=name, task_run_name=f"{name} {{{scene}}}", cache_policy=NO_CACHE)(masked_errors()(stage))


STAGES = Stages(
    plan=_task(plan_scene, "item.name"),
    predict=_task(predict, "plan.scene"),
    postprocess=_task(postprocess, "plan.scene"),
    export=_task(export, "plan.scene"),
    exports=_task(write_exports, "published.scene"),
    report=_task(report, "plan.scene"),
    publish=_task(publish, "recipe.name"),
)
