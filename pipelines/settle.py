"""From a recipe to the network as it is run: patches, backend and calibration settled, and measured by one probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

import numpy as np

from pipelines.auto import with_tiling_settled
from pipelines.calibration import samples_of
from pipelines.engine import Engine, model_of
from segflow.backends import ForwardSettings, Recorded, candidates, choose, probe
from segflow.errors import PlanError
from segflow.memory import allowance, growth, rss_bytes, shown
from segflow.models.model import Model
from segflow.patches import patch_of
from segflow.recipe import Recipe

_ESTIMATE: dict[str, float] = {"torch": 1.0, "openvino": 0.4, "onnxruntime": 0.6}
"""Share of the estimate of `activation_bytes` that was measured."""


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
        PlanError: it holds those of none; the first is told.
    """
    if ways[0].device != "cpu":
        return {way.backend for way in ways}
    from segflow.backends.network import activation_bytes

    card = model.card
    held = rss_bytes()
    each = activation_bytes(model.network(), ways[0].patch, len(card.channels), card.stride)
    allowed = allowance(recipe.compute.memory, held)
    need = {way.backend: held + int(_ESTIMATE[way.backend] * each * way.batch) for way in ways}
    found = {str(backend) for backend, size in need.items() if size <= allowed}
    if not found:
        raise PlanError(
            f"{ways[0].batch} patches of {list(ways[0].patch)} in flight need about {shown(min(need.values()))}",
            f"at most {shown(allowed)}",
            "lower tiling.patch or tiling.batch, or raise compute.memory",
        )
    return found
