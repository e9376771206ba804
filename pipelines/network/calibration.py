"""The patches that int8 is calibrated with: of the recipe's first scene, as the network will see them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from pipelines.network.engine import Engine
from pipelines.planning.plan import ScenePlan
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import Selection, find_scenes
from segflow.backends import ForwardSettings, Samples
from segflow.errors import InputError, SegflowError
from segflow.io.opening import open_source
from segflow.memory import rss_bytes
from segflow.models.model import Model
from segflow.recipe import Recipe
from segflow.sweep.sample import NoForward, sample_patches


def samples_of(recipe: Recipe, model: Model, settings: ForwardSettings) -> Samples:
    """Return the patches of the recipe's first scene that can be planned: of all of it, whatever part is asked for.

    Args:
        recipe: what runs on what.
        model: its model.
        settings: how it is to be run.

    Raises:
        InputError, RecipeError, PlanError: there is no scene, or none can be run as asked for: the first is told.
    """
    alone = recipe.model_copy(update={"references": None})
    engine = Engine(model, model.sha256, settings, NoForward(), {}, "", rss_bytes(), 0.0)
    refused: SegflowError | None = None
    for item in find_scenes(alone, model.card):
        try:
            plan = plan_scene(alone, item, engine, Selection())
        except SegflowError as error:  # it is told when its turn comes
            refused = refused or error
            continue
        return Samples(item.name, plan.fingerprint, partial(_patches, plan))
    raise refused or InputError("no scene", "one to calibrate int8 with", "correct inputs.path")


def _patches(plan: ScenePlan, count: int) -> Sequence[NDArray[np.float32]]:
    source = open_source(plan.spec)
    try:
        return sample_patches(plan.task, source, count)
    finally:
        source.close()
