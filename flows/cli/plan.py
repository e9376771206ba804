"""`segflow plan`."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import Any

from flows.cli.recipe import recipe_of
from pipelines.engine import settle
from pipelines.plan import ScenePlan
from pipelines.prepare import Selection, find_scenes, plan_scene
from segflow.memory import shown
from tiling import disk_bytes


def main(options: argparse.Namespace) -> int:
    """Show what a run would do."""
    recipe = recipe_of(options)
    engine = settle(recipe)
    try:
        selection = Selection(options.window, options.bbox, options.limit)
        scenes = find_scenes(recipe, engine.model.card, selection.limit)
        rows = [_row(plan_scene(recipe, item, engine, selection), engine.seconds_a_patch) for item in scenes]
    finally:
        engine.close()
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
    else:
        sys.stdout.write("\n\n".join(_text(row) for row in rows) + "\n")
    return 0


def _row(plan: ScenePlan, seconds_a_patch: float) -> dict[str, Any]:
    layout = plan.task.layout
    axes = plan.grid.axes
    steps = [axis.starts[1] if len(axis.starts) > 1 else axis.patch for axis in layout.lattice.axes]
    layers = 2 if plan.task.confidence else 1
    return {
        "scene": plan.scene,
        "inputs": list(plan.inputs),
        "shape": dict(zip(axes, layout.region.shape, strict=True)),
        "model_shape": dict(zip(axes, layout.lattice.shape, strict=True)),
        "patch": dict(zip(axes, layout.lattice.patch, strict=True)),
        "step": dict(zip(axes, steps, strict=True)),
        "sweep": axes[layout.sweep],
        "blocks": len(layout),
        "block": dict(zip(axes, layout.block, strict=True)),
        "forwards": layout.forwards,
        "forwards_minimum": layout.forwards_minimum,
        "workers": plan.workers,
        "backend": plan.forward.backend,
        "device": plan.facts.get("device", plan.forward.device),
        "precision": plan.forward.precision,
        "batch": plan.forward.batch,
        "memory_bytes": plan.demand.total_bytes * plan.workers,
        "memory": {"total_bytes": plan.demand.total_bytes, **asdict(plan.demand)},
        "disk_bytes": disk_bytes(layout, layers),
        "seconds": round(layout.forwards * seconds_a_patch, 1),
        "fingerprint": plan.fingerprint,
        "notices": list(plan.notices),
    }


def _text(row: dict[str, Any]) -> str:
    def named(key: str) -> str:
        return ", ".join(f"{axis} {n}" for axis, n in row[key].items())

    model = "" if row["model_shape"] == row["shape"] else f" (the model sees {named('model_shape')})"
    lines = [
        f"{row['scene']}",
        f"  scene      {named('shape')}{model}",
        f"  patches    {named('patch')}; step {named('step')}",
        f"  forwards   {row['forwards']:,} at most, {row['forwards_minimum']:,} if none were repeated",
        f"  blocks     {row['blocks']:,} of {named('block')}, swept along {row['sweep']}, {row['workers']} worker(s)",
        f"  network    {row['backend']} on {row['device']}, {row['precision']}, {row['batch']} in flight",
        f"  memory     {shown(row['memory_bytes'])}",
        f"  disk       {shown(row['disk_bytes'])} for a while",
        f"  time       about {row['seconds']:g} s of forward passes, by a probe here",
    ]
    return "\n".join(lines + [f"  notice     {text}" for text in row["notices"]])
