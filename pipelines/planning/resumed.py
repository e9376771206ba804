"""How an interrupted scene is gone on with: cut as it was, whatever memory is free now."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from pipelines.planning.plan import ScenePlan
from segflow.memory import shown
from tiling import Demand, Layout


def gone_on_with(
    plan: ScenePlan,
    begun: Sequence[ScenePlan],
    demand_of: Callable[[Layout], Demand],
    sharing: int,
    allowed_bytes: int,
) -> ScenePlan:
    """Return the plan cut as an earlier one was, where both differ in nothing but cuts across the sweep.

    How often `auto` cuts across depends on the memory that is free at that moment, and chunks of another cut are of no
    use: without this, a resume with a little less or more memory would begin anew.

    Args:
        plan: as it would be made now.
        begun: plans of the scene that were cut off with something done.
        demand_of: projects the memory of a layout.
        sharing: workers that share this machine's memory.
        allowed_bytes: that the run may use.
    """
    for earlier in begun:
        if earlier.staging_key == plan.staging_key:
            return plan
    for earlier in begun:
        if earlier.fingerprint != plan.fingerprint or not _alike(earlier.task.layout, plan.task.layout):
            continue
        need = demand_of(earlier.task.layout)
        if need.run_bytes(sharing) <= allowed_bytes:
            return replace(plan, task=replace(plan.task, layout=earlier.task.layout), demand=need)
        told = (
            f"what an interrupted run has done is of no use now: it had blocks of {list(earlier.task.layout.block)}, "
            f"which need {shown(need.run_bytes(sharing))}, and {shown(allowed_bytes)} are allowed; to go on with it, "
            "give the run as much (compute.memory)"
        )
        return replace(plan, notices=(*plan.notices, told))
    return plan


def _alike(one: Layout, other: Layout) -> bool:
    """Tell whether two layouts of one scene differ in nothing but where they are cut across the sweep."""
    return replace(one, block=other.block) == other and one.block[one.sweep] == other.block[other.sweep]
