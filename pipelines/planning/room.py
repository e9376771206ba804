"""Whether a scene fits on the disks that it will be written to, asked before anything runs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from pipelines.planning.finishing import OFF
from segflow.errors import PlanError
from segflow.io.store import is_url
from segflow.memory import shown
from segflow.recipe import Recipe
from tiling import Disk

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Room:
    """What a folder's disk is asked for and has.

    Attributes:
        folder: the folder, or the nearest one above it that exists.
        likely_bytes: what is likely written there.
        most_bytes: what can be written there at most.
        free_bytes: what is free.
    """

    folder: Path
    likely_bytes: int
    most_bytes: int
    free_bytes: int


def rooms(recipe: Recipe, disk: Disk, hidden: Path | None = None) -> list[Room]:
    """Return the disks that a scene is written to, each once.

    Args:
        recipe: what runs on what.
        disk: the projection.
        hidden: folder of what an interrupted run has done already.
    """
    found: dict[int, Room] = {}
    done = _bytes_in(hidden)
    for (folder, most), (_, usual) in zip(_asked(recipe, disk), _asked(recipe, disk.usual), strict=True):
        place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        room = found.setdefault(place.stat().st_dev, Room(place, -done, -done, shutil.disk_usage(place).free))
        done = 0
        found[place.stat().st_dev] = replace(
            room, likely_bytes=room.likely_bytes + usual, most_bytes=room.most_bytes + most
        )
    return list(found.values())


def _asked(recipe: Recipe, disk: Disk) -> list[tuple[Path, int]]:
    """Return folders and what goes there; the first is that of the outputs."""
    asked = [(recipe.folder, disk.total_bytes - disk.staged_bytes)]
    staging = recipe.compute.staging
    if staging is None:
        asked.append((recipe.folder, disk.staged_bytes))
    elif not is_url(staging):
        asked.append((recipe.resolve(staging), disk.staged_bytes))
    return asked


def require_room(recipe: Recipe, disk: Disk, hidden: Path | None = None) -> tuple[str, ...]:
    """Refuse a scene whose files will not fit; return a notice where they may not.

    Raises:
        PlanError: a disk has less free than is likely needed; the remedy would fit.
    """
    notices = []
    for room in rooms(recipe, disk, hidden):
        if room.likely_bytes > room.free_bytes:
            raise PlanError(
                f"the disk of {room.folder} has {shown(room.free_bytes)} free",
                f"about {shown(room.likely_bytes)}, of which {shown(disk.usual.temporary_bytes)} for a while",
                _remedy(recipe, disk, hidden, room),
            )
        if room.most_bytes > room.free_bytes:
            notices.append(
                f"the disk of {room.folder} has {shown(room.free_bytes)} free; a restless label map may take up to "
                f"{shown(room.most_bytes)}, a usual one {shown(room.likely_bytes)}"
            )
    return tuple(notices)


def _remedy(recipe: Recipe, disk: Disk, hidden: Path | None, room: Room) -> str:
    remedies = []
    layers = {"confidence": recipe.outputs.confidence, "probabilities": recipe.outputs.probabilities}
    for layer in (name for name, asked in layers.items() if asked):
        without: dict[str, Any] = {f"{layer}_bytes": 0}
        if _fits(recipe, replace(disk, **without), hidden):
            remedies.append(f"set outputs.{layer}: false")
    for extra in disk.extras:
        key = OFF.get(extra.name)
        if key is not None and _fits(recipe, replace(disk, extras=tuple(set(disk.extras) - {extra})), hidden):
            remedies.append(f"set {key}")
    wanted = ceil(room.likely_bytes * 1.05 / _GIB)
    remedies.append(f"set outputs.folder (or compute.staging) to a disk with {wanted} GiB free, or free as much here")
    return "; or ".join(remedies)


def _fits(recipe: Recipe, disk: Disk, hidden: Path | None) -> bool:
    return all(room.likely_bytes <= room.free_bytes for room in rooms(recipe, disk, hidden))


def _bytes_in(folder: Path | None) -> int:
    if folder is None or not folder.is_dir():
        return 0
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
