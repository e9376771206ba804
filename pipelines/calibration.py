"""The patches that int8 is calibrated with: of the recipe's first scene, as the network will see them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipelines.engine import Engine
from pipelines.plan import ScenePlan
from pipelines.prepare import Selection, find_scenes, plan_scene
from segflow.backends import ForwardSettings, Samples
from segflow.io.opening import open_source
from segflow.memory import rss_bytes
from segflow.models.model import Model
from segflow.recipe import Recipe
from segflow.sweep.sample import NoForward, sample_patches


def samples_of(recipe: Recipe, model: Model, settings: ForwardSettings) -> Samples:
    """Return the patches of the recipe's first scene: of the whole scene, whatever part of it is asked for.

    Args:
        recipe: what runs on what.
        model: its model.
        settings: how it is to be run.

    Raises:
        InputError, RecipeError, PlanError: there is no scene, or the first cannot be run as asked for.
    """
    alone = recipe.model_copy(update={"references": None})
    (first,) = find_scenes(alone, model.card, 1)
    engine = Engine(model, model.sha256, settings, NoForward(), {}, "", rss_bytes(), 0.0)
    plan = plan_scene(alone, first, engine, Selection())
    return Samples(first.name, plan.fingerprint, lambda count: _patches(plan, count))


def _patches(plan: ScenePlan, count: int) -> Sequence[NDArray[np.float32]]:
    source = open_source(plan.spec)
    try:
        return sample_patches(plan.task, source, count)
    finally:
        source.close()
