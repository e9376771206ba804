"""`segflow plan`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from flows.cli.codes import DONE, REFUSED, SOME_FAILED
from flows.cli.plan_text import plan_text
from flows.cli.recipe import recipe_of
from flows.workers import require_cluster
from pipelines.network.engine import Engine
from pipelines.network.recorded import recorded_in
from pipelines.network.settle import settle
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.room import require_room
from pipelines.planning.scenes import NamedScene, Selection
from pipelines.publishing.exporting import exporters_of, published_of, refusals, remarks
from pipelines.runner import calibrated_in, opened
from pipelines.workshop import HIDDEN, SCENES, Bench
from segflow.backends.room import used_bytes
from segflow.errors import SegflowError
from segflow.memory import allowance
from segflow.recipe import Recipe


def main(options: argparse.Namespace) -> int:
    """Show what a run would do; what would not fit is refused with the settings that would."""
    recipe = recipe_of(options)
    selection = Selection(options.window, options.bbox, options.limit)
    require_cluster(recipe.compute)
    model, scenes = opened(recipe, selection)
    kept = calibrated_in(recipe.folder)
    engine = settle(recipe, recorded_in(recipe.folder, model.sha256), kept if kept.is_dir() else None)
    rows: list[dict[str, Any]] = []
    refused: list[tuple[str, SegflowError]] = []
    try:
        for item in scenes:
            try:
                rows.append(_planned(recipe, item, engine, selection))
            except SegflowError as error:
                refused.append((item.name, error))
    finally:
        engine.close()
    if len(scenes) == len(refused) == 1:
        raise refused[0][1]
    if options.json:
        said = [*rows, *({"scene": name, "refused": str(reason)} for name, reason in refused)]
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
    else:
        sys.stdout.write(plan_text(rows, recipe))
    for name, reason in refused:
        sys.stderr.write(f"segflow: {name}: {reason}\n")
    return (SOME_FAILED if rows else REFUSED) if refused else DONE


def _planned(recipe: Recipe, item: NamedScene, engine: Engine, selection: Selection) -> dict[str, Any]:
    """Plan a scene as a run would, going on with what was cut off.

    Raises:
        SegflowError: a run would refuse it.
    """
    bench = Bench(recipe.folder / HIDDEN / SCENES / item.name)
    plan = plan_scene(recipe, item, engine, selection, None, bench.begun())
    notices = require_room(recipe, plan.disk, bench.folder)
    asked = exporters_of(recipe), published_of(plan, recipe.folder)
    told = (*notices, *refusals(*asked), *remarks(*asked))
    row = _row(plan, recipe, engine.seconds_a_patch, told)
    allowed = allowance(recipe.compute.memory, engine.base_bytes)
    return {**row, "memory_allowed_bytes": allowed, "device_memory_bytes": used_bytes(engine.settings.device)}


def _row(plan: ScenePlan, recipe: Recipe, seconds_a_patch: float, notices: tuple[str, ...]) -> dict[str, Any]:
    layout = plan.task.layout
    axes = plan.grid.axes
    lattice = layout.lattice
    steps = [axis.starts[1] if len(axis.starts) > 1 else axis.patch for axis in lattice.axes]
    usual = plan.disk.usual
    return {
        "scene": plan.scene,
        "inputs": list(plan.inputs),
        "shape": dict(zip(axes, layout.region.shape, strict=True)),
        "model_shape": dict(zip(axes, lattice.shape, strict=True)),
        "patch": dict(zip(axes, lattice.patch, strict=True)),
        "step": dict(zip(axes, steps, strict=True)),
        "patches": lattice.size,
        "sweep": axes[layout.sweep],
        "blocks": len(layout),
        "block": dict(zip(axes, layout.block, strict=True)),
        "forwards": layout.forwards,
        "forwards_minimum": layout.forwards_minimum,
        "overhead": round(layout.overhead, 4),
        "workers": plan.workers,
        "backend": plan.forward.backend,
        "device": plan.facts.get("device", plan.forward.device),
        "precision": plan.forward.precision,
        "batch": plan.forward.batch,
        "memory_bytes": plan.demand.run_bytes(recipe.compute.workers_here),
        "memory": {**asdict(plan.demand), "worker_bytes": _worker_bytes(plan, recipe)},
        "disk_bytes": plan.disk.total_bytes,
        "disk": {
            "temporary_bytes": usual.temporary_bytes,
            "temporary_most_bytes": plan.disk.temporary_bytes,
            "output_bytes": usual.output_bytes,
            "output_most_bytes": plan.disk.output_bytes,
        },
        "seconds": round(layout.forwards * seconds_a_patch / min(plan.workers, len(layout)), 1),
        "fingerprint": plan.fingerprint,
        "notices": [*plan.notices, *notices],
    }


def _worker_bytes(plan: ScenePlan, recipe: Recipe) -> int:
    return plan.demand.total_bytes if recipe.compute.workers_here == 1 else plan.demand.sweep_bytes
