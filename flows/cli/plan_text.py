"""What `segflow plan` says of scenes, in words."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from flows.progress import remaining
from pipelines.publishing.outputs import published
from segflow.memory import shown
from segflow.recipe import Recipe

_MANY = 10
"""Of more scenes than these a line each is told."""


def plan_text(rows: list[dict[str, Any]], recipe: Recipe) -> str:
    """Return the plans of all scenes: in full, or a line each where there are many, and their sum.

    Args:
        rows: what `segflow plan --json` prints.
        recipe: that they are of.
    """
    if not rows:
        return ""
    if len(rows) <= _MANY:
        return "\n\n".join(map(_text, rows)) + "\n" + _sum(rows, recipe)
    width = max(len(row["scene"]) for row in rows)
    lines = [
        f"{row['scene']:<{width}}  {row['forwards']:>9,} forwards  {shown(row['memory_bytes']):>10}  "
        f"{shown(row['disk']['output_bytes']):>10} of output  {_time(row['seconds'])}"
        for row in rows
    ]
    said = Counter(text.replace(row["scene"], "...") for row in rows for text in row["notices"])
    notices = [f"notice (scenes: {count:,}): {text}" for text, count in said.most_common()]
    return "\n".join([*lines, *notices]) + "\n" + _sum(rows, recipe)


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


def _sum(rows: list[dict[str, Any]], recipe: Recipe) -> str:
    """Sum up several scenes, which are run one after the other."""
    if len(rows) < 2:
        return ""
    forwards, seconds = (sum(row[key] for row in rows) for key in ("forwards", "seconds"))
    output = sum(row["disk"]["output_bytes"] for row in rows)
    largest = max(row["memory_bytes"] for row in rows)
    time = f"{_time(seconds)} by a probe here"
    lines = [
        f"{len(rows):,} scenes: {forwards:,} forwards, {shown(output)} of output, {time}; "
        f"{shown(largest)} of memory for the largest"
    ]
    return "\n" + "\n".join([*lines, *_crowded(rows, recipe.folder)]) + "\n"


def _crowded(rows: list[dict[str, Any]], folder: Path) -> list[str]:
    """Return a notice where each scene fits on the disk and all together do not."""
    new = [row["disk"] for row in rows if published(row["scene"], folder) is None]
    wanted = sum(disk["output_bytes"] for disk in new) + max((disk["temporary_bytes"] for disk in new), default=0)
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free
    if wanted <= free:
        return []
    return [
        f"notice: the disk of {place} has {shown(free)} free, and all scenes together need about {shown(wanted)}: "
        "set outputs.folder to a larger one, or run a part (--limit)"
    ]
