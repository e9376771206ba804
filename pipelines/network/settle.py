"""From a recipe to the network as it is run: patches, backend and calibration settled, and measured by one probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from pipelines.network.auto import with_tiling_settled
from pipelines.network.calibration import samples_of
from pipelines.network.engine import Engine, model_of
from pipelines.planning.prepare import plan_scene
from pipelines.planning.scenes import Selection, find_scenes
from segflow.backends import ForwardSettings, Recorded, candidates, choose, probe
from segflow.backends.room import free_bytes, require_room
from segflow.errors import PlanError, SegflowError
from segflow.io.opening import load_libraries
from segflow.memory import allowance, growth, rss_bytes, shown
from segflow.models.model import Model
from segflow.patches import patch_of
from segflow.recipe import Recipe
from segflow.sweep.sample import NoForward


def settle(recipe: Recipe, recorded: Recorded | None = None, home: Path | None = None) -> Engine:
    """Load the model and fix how it is run, by one probe with as many patches as there will be in flight.

    Args:
        recipe: what runs on what.
        recorded: how results that are in the output folder were made; it is followed where it can be.
        home: folder that all workers see, for what is made of the network (int8); None: the user's cache.

    Raises:
        RecipeError, ModelError: what is asked for does not exist here.
        PlanError: so many patches of that size do not fit in memory.
    """
    load_libraries(recipe.kind)
    model = model_of(recipe)
    recipe, auto = with_tiling_settled(recipe, model)
    patch = patch_of(model.card, recipe.tiling)
    ways = candidates(recipe.compute, recipe.tiling.batch, patch)
    choice = choose(
        model,
        recipe.compute,
        recipe.tiling.batch,
        patch,
        recorded=recorded,
        fitting=_fitting(recipe, model, ways),
        samples=lambda: samples_of(recipe, model, ways[0]),
        home=home,
    )
    settings, forward = choice.settings, choice.forward
    held = rss_bytes()
    with growth() as grown:
        found = probe(forward, model.card, patch)
        blank = np.zeros((len(model.card.channels), *patch), np.float32)
        began = perf_counter()
        for _ in forward.stream([blank] * forward.in_flight):
            pass
        seconds = (perf_counter() - began) / forward.in_flight
    return Engine(
        model,
        model.sha256,
        settings,
        forward,
        dict(forward.facts),
        found,
        held,
        seconds,
        choice.why,
        () if choice.calibration is None else (choice.calibration.words,),
        grown.bytes // forward.in_flight,
        auto,
    )


def _fitting(recipe: Recipe, model: Model, ways: Sequence[ForwardSettings]) -> set[str]:
    """Return the backends whose patches memory holds, before one of them is run.

    Raises:
        PlanError: it holds those of none.
    """
    from segflow.backends.network import APPETITES, estimate_bytes

    each, weights = estimate_bytes(model, ways[0].patch)
    if ways[0].device != "cpu":
        require_room(ways[0].device, int(APPETITES["torch"].least * each), ways[0].batch, free_bytes(ways[0].device))
        return {way.backend for way in ways}
    held = rss_bytes()
    allowed = allowance(recipe.compute.memory, held)
    need = {way.backend: held + int(APPETITES[way.backend].least * each * way.batch) for way in ways}
    found = {str(backend) for backend, size in need.items() if size <= allowed}
    if not found:
        way = min(ways, key=lambda way: need[way.backend])
        appetite = APPETITES[way.backend]
        _refuse_as_planned(recipe, model, way, int(appetite.most * each), held + appetite.loading_bytes + 2 * weights)
        raise PlanError(
            f"{way.batch} patches of {list(way.patch)} in flight need about {shown(need[way.backend])}",
            f"at most {shown(allowed)}",
            "lower tiling.patch or tiling.batch, or raise compute.memory",
        )
    return found


def _refuse_as_planned(recipe: Recipe, model: Model, way: ForwardSettings, each: int, held: int) -> None:
    """Refuse the first scene by the projection of all that it takes, so that the remedies need not be followed twice.

    Does nothing where there is no scene, or the first is refused for another reason: it is told in its turn.

    Raises:
        PlanError: it does not fit; the remedies would make it fit.
    """
    engine = Engine(model, model.sha256, way, NoForward(way.batch), {}, "", held, 0.0, activation_bytes=each)
    try:
        alone = recipe.model_copy(update={"references": None})
        (first,) = find_scenes(alone, model.card, 1)
        plan_scene(alone, first, engine, Selection())
    except PlanError:
        raise
    except SegflowError:
        return
