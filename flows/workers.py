"""Who works off the blocks of a run: this process, or workers of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import cache

from pipelines.events import Listener
from pipelines.journal import ChunkRecord
from pipelines.plan import ScenePlan
from pipelines.predict import BlockJob, Executor, Workshop
from pipelines.prepare import Selection
from pipelines.runner import Outcome, Stages, run
from segflow.recipe import Recipe


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
