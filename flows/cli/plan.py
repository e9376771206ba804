"""`segflow plan`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from flows.cli.recipe import recipe_of
from flows.progress import remaining
from pipelines.exporting import exporters_of, published_of, refusals
from pipelines.plan import ScenePlan
from pipelines.prepare import Selection, find_scenes, plan_scene
from pipelines.room import require_room
from pipelines.runner import HIDDEN
from pipelines.settle import settle
from pipelines.workshop import SCENES
from segflow.backends.room import used_bytes
from segflow.memory import allowance, shown
from segflow.recipe import Recipe


def main(options: argparse.Namespace) -> int:
    """Show what a run would do; what would not fit is refused with the settings that would."""
    recipe = recipe_of(options)
    engine = settle(recipe)
    try:
        selection = Selection(options.window, options.bbox, options.limit)
        scenes = find_scenes(recipe, engine.model.card, selection.limit)
        allowed = allowance(recipe.compute.memory, engine.base_bytes)
        on_device = used_bytes(engine.settings.device)
        rows = []
        for item in scenes:
            plan = plan_scene(recipe, item, engine, selection)
            notices = require_room(recipe, plan.disk, recipe.folder / HIDDEN / SCENES / item.name)
            refused = refusals(exporters_of(recipe), published_of(plan, recipe.folder))
            row = _row(plan, recipe, engine.seconds_a_patch, (*notices, *refused))
            rows.append({**row, "memory_allowed_bytes": allowed, "device_memory_bytes": on_device})
    finally:
        engine.close()
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        sys.stdout.write("\n\n".join(map(_text, rows)) + "\n" + _sum(rows))
    return 0


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
        "seconds": round(layout.forwards * seconds_a_patch, 1),
        "fingerprint": plan.fingerprint,
        "notices": [*plan.notices, *notices],
    }


def _worker_bytes(plan: ScenePlan, recipe: Recipe) -> int:
    return plan.demand.total_bytes if recipe.compute.workers_here == 1 else plan.demand.sweep_bytes


def _text(row: dict[str, Any]) -> str:
    def named(key: str) -> str:
        return ", ".join(f"{axis} {n}" for axis, n in row[key].items())

    model = "" if row["model_shape"] == row["shape"] else f" (the model sees {named('model_shape')})"
    disk = row["disk"]
    each = f", {shown(row['memory']['worker_bytes'])} a worker" if row["workers"] > 1 else ""
    workers = "worker" if row["workers"] == 1 else "workers"
    device = f"; {shown(row['device_memory_bytes'])} of the device" if row["device_memory_bytes"] else ""
    lines = [
        f"{row['scene']}",
        f"  scene      {named('shape')}{model}",
        f"  patches    {named('patch')}; step {named('step')}",
        f"  forwards   {row['forwards']:,} at most, {row['forwards_minimum']:,} if none were repeated; "
        f"{row['overhead']:g} x the scene's cells",
        f"  blocks     {row['blocks']:,} of {named('block')}, swept along {row['sweep']}, {row['workers']:,} {workers}",
        f"  network    {row['backend']} on {row['device']}, {row['precision']}, {row['batch']} in flight{device}",
        f"  memory     {shown(row['memory_bytes'])}{each}; {shown(row['memory_allowed_bytes'])} allowed",
        f"  disk       {shown(disk['temporary_bytes'])} for a while, at most {shown(disk['temporary_most_bytes'])}",
        f"  output     {shown(disk['output_bytes'])}, at most {shown(disk['output_most_bytes'])}",
        f"  time       {_time(row['seconds'])} of forward passes, by a probe here",
    ]
    return "\n".join(lines + [f"  notice     {text}" for text in row["notices"]])


def _time(seconds: float) -> str:
    """Return an estimate, as rough as it is."""
    if seconds < 0.1:
        return "less than 0.1 s"
    return f"about {seconds:.1f} s" if seconds < 10 else f"about {remaining(seconds)}"


def _sum(rows: list[dict[str, Any]]) -> str:
    """Sum up several scenes, which are run one after the other."""
    if len(rows) < 2:
        return ""
    forwards, seconds = (sum(row[key] for row in rows) for key in ("forwards", "seconds"))
    output = sum(row["disk"]["output_bytes"] for row in rows)
    time = f"{_time(seconds)} by a probe here"
    return f"\n{len(rows)} scenes: {forwards:,} forwards, {shown(output)} of output, {time}\n"
