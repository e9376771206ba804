"""`segflow.predict`: an array in, its labels out, by the same sweep as a run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segflow.auto import settle_tiling
from segflow.backends import Samples, choose
from segflow.cache import key_of
from segflow.errors import InputError
from segflow.grid import Grid
from segflow.io.array import ArraySource
from segflow.io.prepared import frame_of, prepared
from segflow.models.load import load_model
from segflow.models.model import Model
from segflow.normalise import AS_IT_IS, standardiser_of
from segflow.patches import lattice_of, model_shape, patch_of
from segflow.recipe import Compute, ModelChoice, Tiling
from segflow.sweep import Task, head_of, sweep
from segflow.sweep.sample import sample_patches
from tiling import Box, Layout


def predict(
    array: NDArray[Any],
    grid: Grid | None,
    model: Model | str | Path,
    *,
    valid: NDArray[np.bool_] | None = None,
    tiling: Tiling | None = None,
    compute: Compute | None = None,
    nodata: int | None = None,
) -> NDArray[np.uint16]:
    """Label an array that is in memory; the labels are those of a run on the same pixels.

    Args:
        array: (channel, y, x) or (channel, x, y, z), raw values of any real dtype; the channel axis may be left out
            where the model takes one channel. Volumes lie in the orientation of the model's card.
        grid: where it lies; None for an array of unknown cell size, which the model sees as it is.
        model: a model, "builtin:NAME", or the path of a .safetensors file.
        valid: (*axes) bool, True = valid input; where not given, what is finite.
        tiling: as in a recipe; the card's patch and overlap where not given.
        compute: as in a recipe.
        nodata: label of cells that are not valid: 255 for rasters and 0 for volumes where not given.

    Returns:
        (*axes) uint16, class ids.

    Raises:
        InputError: the array has other axes or channels than the model takes.
        ModelError: the model cannot be used.
    """
    chosen = model if isinstance(model, Model) else load_model(ModelChoice(weights=str(model)), Path.cwd())
    card, tiling, compute = chosen.card, tiling or Tiling(), compute or Compute()
    axes = len(card.patch)
    values = array[None] if array.ndim == axes else array
    if values.ndim != axes + 1 or values.shape[0] != len(card.channels):
        raise InputError(
            f"an array of shape {array.shape}",
            f"{len(card.channels)} channel(s) ({', '.join(card.channels)}), then {axes} axes",
            "move the channels to the front; volumes are x, y, z",
        )
    where = grid or Grid(card.kind, tuple(values.shape[1:]))
    source = ArraySource(values, where, valid)
    if not tiling.settled:
        tiling = settle_tiling(tiling, compute, chosen, model_shape(where, card), values.itemsize).applied(tiling)
    seen = prepared(source, card, patch_of(card, tiling))
    lattice = lattice_of(model_shape(where, card) if seen is None else seen.settled.padded, card, tiling)
    whole = Box.whole(where.shape)
    axis = max(range(axes), key=lambda k: where.shape[k])
    layout = Layout(lattice, where.shape, whole, axis, where.shape, where.shape[axis], frame_of(seen))
    empty = (255 if card.kind == "raster" else 0) if nodata is None else nodata
    standardise = standardiser_of(card.normalisation, source.channels, source) if seen is None else AS_IT_IS
    task = Task(layout, head_of(card), standardise, card.padding, tiling.accumulator, nodata=empty)
    looked_at = seen or source
    forward = choose(
        chosen,
        compute,
        tiling.batch,
        patch_of(card, tiling),
        samples=lambda: Samples("the array", _identity(values, task), lambda n: sample_patches(task, looked_at, n)),
    ).forward
    try:
        (sealed,) = sweep(task, looked_at, forward, (0,) * axes)
        return sealed.labels
    finally:
        if seen is not None:
            seen.close()
        forward.close()


def _identity(values: NDArray[Any], task: Task) -> str:
    """Return what stands for the patches that int8 is calibrated with."""
    whole = hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
    return key_of({"array": whole, "lattice": repr(task.layout.lattice), "standardise": repr(task.standardise)})
