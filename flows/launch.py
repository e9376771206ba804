"""Where a run is started: directly, as a Prefect flow run, with workers of its own or without."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from pipelines.events import Listener
from pipelines.journal import ChunkRecord
from pipelines.plan import ScenePlan
from pipelines.predict import BlockJob, Executor, Workshop
from pipelines.prepare import Selection
from pipelines.runner import Outcome, Stages, run
from segflow.recipe import Recipe


def launch(recipe: Recipe, selection: Selection, *, force: bool, listener: Listener, prefect: bool = False) -> Outcome:
    """Run a recipe: as a Prefect flow run when an API is configured or `prefect` is set, else directly."""
    if prefect or prefect_configured():
        from flows.prefect_flow import run_as_flow

        return run_as_flow(recipe, selection, force=force, listener=listener)
    return with_workers(recipe, selection, force=force, listener=listener)


def with_workers(
    recipe: Recipe, selection: Selection, *, force: bool, listener: Listener, stages: Stages | None = None
) -> Outcome:
    """Run a recipe in this process, or on a Dask cluster of `compute.workers` on this machine."""
    stages = stages or Stages()
    if recipe.compute.workers == 1:
        return run(recipe, selection, force=force, listener=listener, stages=stages)
    with ExitStack() as stack:

        @cache
        def workers() -> Executor:
            from flows.dask_executor import cluster

            return stack.enter_context(cluster(recipe.compute.workers))

        def later(workshop: Workshop, plan: ScenePlan, jobs: Sequence[BlockJob]) -> Iterator[ChunkRecord]:
            """Start the workers when the first scene needs them."""
            return workers()(workshop, plan, jobs) if jobs else iter(())

        return run(recipe, selection, force=force, listener=listener, executor=lambda _: later, stages=stages)


def prefect_configured() -> bool:
    """Tell whether a Prefect API is configured, by the environment or the active profile; Prefect is not imported."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", home / "profiles.toml"))
    try:
        data = tomllib.loads(profiles.read_text())
    except (OSError, tomllib.TOMLDecodeError):
        return False
    active = os.environ.get("PREFECT_PROFILE") or data.get("active", "")
    return bool(data.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))
