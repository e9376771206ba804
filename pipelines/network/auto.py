"""What `tiling: auto` comes to in a run: what results in the output folder were made with, or what is measured now."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from math import prod
from pathlib import Path

from pydantic import TypeAdapter

from pipelines.network.recorded import records
from segflow.auto import AutoTiling, asked_of, settle_tiling
from segflow.errors import SegflowError
from segflow.io.opening import open_source
from segflow.io.scene_files import scenes_in, spec_of
from segflow.models.model import Model
from segflow.patches import model_shape
from segflow.recipe import Recipe

_LOG = logging.getLogger(__name__)
_SCENES = 100
"""Scenes that are looked at, at most."""
_ADAPTER: TypeAdapter[AutoTiling] = TypeAdapter(AutoTiling)


def with_tiling_settled(recipe: Recipe, model: Model) -> tuple[Recipe, AutoTiling | None]:
    """Return the recipe with nothing left open in its tiling, and what was settled; None where nothing was open.

    Results that are in the output folder, finished or not, are followed where they were made for the same wish: a
    resume, and a scene that is added, get what the others have, whatever memory is free now.

    Raises:
        PlanError, ModelError: see `segflow.auto.settle_tiling`.
    """
    if recipe.tiling.settled:
        return recipe, None
    found = recorded_tiling(recipe, model)
    if found is None:
        shape, itemsize = _largest(recipe, model)
        found = settle_tiling(recipe.tiling, recipe.compute, model, shape, itemsize)
    _LOG.info("patches of %s, %d cells of overlap, blended by %s", list(found.patch), found.overlap, found.blend)
    return recipe.model_copy(update={"tiling": found.applied(recipe.tiling)}), found


def recorded_tiling(recipe: Recipe, model: Model) -> AutoTiling | None:
    """Return what results in the output folder came to for the same wish; None where there are none."""
    if recipe.tiling.settled:
        return None
    asked = asked_of(recipe.tiling, model)
    return next((made for made in _recorded(recipe.folder) if made.asked == asked), None)


def _recorded(folder: Path) -> Iterator[AutoTiling]:
    """Yield what the plans that were begun and the reports of finished scenes say."""
    for record in records(folder):
        with suppress(ValueError):  # of another version
            if record.auto is not None:
                yield _ADAPTER.validate_python(record.auto)


def _largest(recipe: Recipe, model: Model) -> tuple[tuple[int, ...] | None, int]:
    """Return cells on the model's grid, and bytes of a value, of the largest scene that can be opened."""
    scale = 1.0 if recipe.model is None else recipe.model.scale
    found: list[tuple[int, tuple[int, ...], int]] = []
    for scene in islice(scenes_in(recipe, model.card), _SCENES):
        try:
            with closing(open_source(spec_of(recipe, scene, model.card))) as source:
                shape = model_shape(source.grid, model.card, scale)
                found.append((prod(shape), shape, source.dtype.itemsize))
        except SegflowError:
            continue  # it is told when its turn comes
    return max(found)[1:] if found else (None, 4)
