"""Whether the overlap that `auto` took keeps its promise on a scene: measured at places of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pipelines.network.engine import Engine
from segflow.auto import AutoTiling
from segflow.cache import key_of, remember, remembered
from segflow.io.source import Source
from segflow.models.card import Card
from segflow.models.model import Model
from segflow.patches import lattice_of
from segflow.recipe import Tiling
from segflow.sweep import Task
from segflow.sweep.resample import read_model
from tiling import Box, Lattice, blended_change

_PLACES = 4
_DRAWS = 10
_HALF_VALID = 0.5
_DEAR = 1.15
"""Cells that are run, by the scene's, from which on the reason is told."""
_LARGE = 64
"""Patches from which on a scene is large: on a small one padding is most of what is run besides."""


def tolerated(source: Source, task: Task, engine: Engine, identity: str) -> tuple[AutoTiling | None, tuple[str, ...]]:
    """Measure on the scene what the overlap was chosen for; return that, and a notice where it falls short."""
    auto = engine.auto
    if auto is None or auto.tolerance is None:
        return auto, ()
    change = change_on(source, task, engine.model, auto, identity)
    if change is None or change <= auto.tolerance:
        return replace(auto, change=change), ()
    return replace(auto, change=change), (
        f"a cut changes a probability of {source.name} by {change:.2g}, more than tiling.tolerance {auto.tolerance:g}: "
        "halve the tolerance, or set it to 0",
    )


def change_on(source: Source, task: Task, model: Model, auto: AutoTiling, identity: str) -> float | None:
    """Return the largest change of a probability by a cut, at places of a scene; None where nothing is cut there.

    At each place, on one axis after the other, a slab as deep as the overlap demands is run by itself and with as many
    further cells on either side; what differs, by distance from the cut, is blended as the run's patches are.

    Args:
        source: the scene.
        task: how it is swept.
        model: card and weights.
        auto: what was settled.
        identity: of the scene's content; what was measured once is remembered.
    """
    lattice = task.layout.lattice
    axes = [axis for axis, count in enumerate(lattice.counts) if count > 1]
    if not axes:
        return None
    key = key_of(
        {
            "asked": auto.asked,
            "patch": auto.patch,
            "overlap": auto.overlap,
            "scene": identity,
            "seen as": lattice.shape,
        }
    )
    kept = remembered("changes", key)
    if kept is not None:
        return None if kept["change"] is None else float(kept["change"])
    from segflow.models.receptive.field import changes_on

    random = np.random.RandomState(sum(lattice.shape))
    pieces = [_piece(source, task, model, auto, axes[k % len(axes)], random) for k in range(_PLACES)]
    whole = [piece for piece in pieces if piece is not None]
    found = None
    if whole:
        changes = changes_on(model, whole)
        size = max(auto.patch)
        changes = np.pad(changes, (0, max(0, size - len(changes))))
        steps = [(lattice.patch[axis], lattice.axes[axis].starts[1]) for axis in axes]
        found = max(blended_change(patch, step, changes, auto.blend) for patch, step in steps)
    remember("changes", key, {"change": found})
    return found


def dear(lattice: Lattice, card: Card, auto: AutoTiling, asked: Tiling) -> tuple[str, ...]:
    """Return a notice where the patches that `auto` found repeat much of a scene: why, and what the default would do.

    Args:
        lattice: the scene's patches.
        card: of the model.
        auto: what was settled.
        asked: the recipe's tiling.
    """
    if lattice.overhead <= _DEAR or lattice.size < _LARGE or auto.tolerance is None:
        return ()
    sees = "an end that was not found" if auto.reach is None else f"{auto.reach} cells"
    usual = lattice_of(lattice.shape, card, Tiling()).overhead
    ways = ["a larger tiling.tolerance", "more memory" if asked.patch == "auto" else "a larger tiling.patch (or auto)"]
    if usual <= 1.05 * lattice.overhead:
        ways.append("no tiling at all, if a cut may change more")
    return (
        f"patches of {list(lattice.patch)} with {auto.overlap} cells of overlap run {lattice.overhead:.2f} times the "
        f"scene's cells: the network sees {sees} beyond a cell, and the overlap keeps what a cut changes under "
        f"{auto.tolerance:g}; the card's own patch and overlap run {usual:.2f} times, without that promise. "
        f"Less would do with {' or '.join(ways)}",
    )


def _piece(
    source: Source, task: Task, model: Model, auto: AutoTiling, axis: int, random: np.random.RandomState
) -> tuple[NDArray[np.float32], tuple[int, ...]] | None:
    """Return a slab's input with what is around it, and what is cut off; None where the scene has no room for it."""
    from segflow.models.receptive.field import ACROSS

    shape, stride = task.layout.lattice.shape, model.card.stride
    deep = -(-auto.overlap // (2 * stride)) * stride
    context = max(stride, deep)
    cut = min(auto.patch[axis], 2 * (deep + stride))
    wanted = [-(-ACROSS[len(shape)] // stride) * stride] * len(shape)
    size = [min(n, s // stride * stride) for n, s in zip(wanted, shape, strict=True)]
    size[axis] = cut + 2 * context
    if size[axis] > shape[axis] or min(size) < 1:
        return None
    for _ in range(_DRAWS):
        rooms = [(s - n) // stride + 1 for n, s in zip(size, shape, strict=True)]
        start = tuple(int(random.randint(room)) * stride for room in rooms)
        box = Box(start, tuple(a + n for a, n in zip(start, size, strict=True)))
        values, valid = read_model(source, box, task.input_maps)
        if valid.mean() > _HALF_VALID:
            return task.standardise(values, valid), tuple(context if k == axis else 0 for k in range(len(shape)))
    return None
