"""Who works off the blocks of a run: this process, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, Any

from segflow.recipe import Compute, Recipe

if TYPE_CHECKING:
    from pipelines.events import Listener
    from pipelines.journal import ChunkRecord
    from pipelines.network.engine import Engine
    from pipelines.planning.plan import ScenePlan
    from pipelines.planning.scenes import Selection
    from pipelines.predict import BlockJob, Executor, Workshop
    from pipelines.runner import Outcome, Stages


def with_workers(
    recipe: Recipe, selection: Selection, *, listener: Listener, stages: Stages | None = None, **more: Any
) -> Outcome:
    """Run a recipe in this process, or on the cluster that it names; `more` goes to `pipelines.run` as it is.

    Raises:
        SegflowError: as in `pipelines.run`; ClusterError where there is no such cluster.
    """
    from pipelines.runner import Stages, run

    stages = stages or Stages()
    compute = recipe.compute
    if compute.workers == 1 and not compute.remote:
        return run(recipe, selection, listener=listener, stages=stages, **more)
    require_cluster(compute)
    with ExitStack() as stack:
        return run(
            recipe,
            selection,
            listener=listener,
            executor=lambda engine: _Later(recipe, engine, stack),
            stages=stages,
            **more,
        )


def require_cluster(compute: Compute) -> None:
    """Refuse a cluster's class that does not exist, before anything is planned.

    Raises:
        ClusterError: it does not, or is no cluster.
    """
    if isinstance(compute.cluster, dict):
        from flows.dask.cluster import cluster_class

        cluster_class(compute.cluster)


class _Later:
    """An executor that is made when the first scene needs it."""

    def __init__(self, recipe: Recipe, engine: Engine, stack: ExitStack) -> None:
        self._recipe = recipe
        self._gpu = engine.settings.device != "cpu"
        self._stack = stack
        self._made: Executor | None = None

    def __call__(self, workshop: Workshop, plan: ScenePlan, jobs: Iterable[BlockJob]) -> Iterator[ChunkRecord]:
        """Run the jobs, if there are any."""
        waiting = iter(jobs)
        first = next(waiting, None)
        if first is None:
            return
        if self._made is None:
            from flows.dask.cluster import fleet
            from flows.dask.executor import connected

            found = self._stack.enter_context(fleet(self._recipe.compute, self._gpu))
            self._made = self._stack.enter_context(connected(found))
        yield from self._made(workshop, plan, chain([first], waiting))
